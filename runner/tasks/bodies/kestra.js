// `const Kestra = require("./kestra")` in scripts of the old Node task: each call is one line of the protocol on standard output.

const say = (message) => console.log(`::${JSON.stringify(message)}::`);
const metric = (type, name, value, tags) => say({ metrics: [{ name, type, value, tags: tags || {} }] });

module.exports = {
  /** Hand over outputs, a map. */
  outputs: (values) => say({ outputs: values }),
  /** Add to a counter. */
  counter: (name, value, tags) => metric("counter", name, value, tags),
  /** Set a gauge. */
  gauge: (name, value, tags) => metric("gauge", name, value, tags),
  /** Report how long something took: seconds, or a function that gets a callback to call when it has ended. */
  timer: (name, duration, tags) => {
    if (typeof duration !== "function") {
      metric("timer", name, duration, tags);
      return;
    }
    const started = process.hrtime.bigint();
    duration(() => metric("timer", name, Number(process.hrtime.bigint() - started) / 1e9, tags));
  },
};
