"""A good flow with a bit of everything, and what it becomes when a part of it is changed."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import yaml

RICH = """\
id: rich
namespace: company.team
labels: {team: a}
variables: {x: 1}
inputs:
  - {id: count, type: INT, min: 1, max: 9, defaults: 5}
  - {id: kinds, type: MULTISELECT, values: [a, b], dependsOn: {inputs: [count], condition: "{{ inputs.count > 1 }}"}}
concurrency: {limit: 2, behavior: QUEUE}
retry: {type: exponential, interval: PT1S, maxInterval: PT9S, maxAttempts: 3}
sla: [{id: soon, type: MAX_DURATION, behavior: FAIL, duration: PT1H, labels: {late: true}}]
checks: [{when: "{{ true }}", message: no}]
pluginDefaults: [{type: core.log.Log, values: {level: INFO}}]
tasks:
  - id: dag
    type: core.flow.Dag
    tasks:
      - task: {id: one, type: core.log.Log, message: "{{ inputs.count }}"}
      - {dependsOn: [one], task: {id: two, type: core.debug.Return, format: x}}
  - id: choice
    type: core.flow.Switch
    value: "{{ outputs.two.value }}"
    cases: {x: [{id: three, type: core.flow.Subflow, namespace: company, flowId: other, inputs: {a: 1}}]}
    defaults: [{id: four, type: core.flow.Sleep, duration: PT1S}]
  - id: each
    type: core.flow.ForEach
    values: [1, 2]
    tasks:
      - {id: if, type: core.flow.If, condition: "{{ true }}", then: [{id: five, type: core.log.Log, message: z}]}
  - id: room
    type: core.flow.WorkingDirectory
    tasks:
      - id: script
        type: scripts.shell.Commands
        taskRunner: {type: core.runner.Process}
        commands: [echo]
  - id: ask
    type: core.flow.Pause
    onResume: [{id: reason, type: STRING}]
  - {id: old, type: scripts.python.Script, runner: DOCKER, docker: {image: python}, script: "print(1)"}
triggers:
  - {id: daily, type: core.trigger.Schedule, cron: "0 9 * * *", timezone: UTC, conditions: [{type: core.condition.Not,
     conditions: [{type: core.condition.Weekend, date: "{{ trigger.date }}"}]}]}
  - {id: after, type: core.trigger.Flow, conditions: [{type: core.condition.ExecutionFlow, namespace: a, flowId: b}]}
outputs: [{id: all, type: STRING, value: "{{ outputs.two.value }}"}]
errors: [{id: six, type: core.log.Log, message: x}]
finally: [{id: seven, type: core.log.Log, message: x}]
"""

# The one in C takes a quarter of the time, which counts in the thousands of flows made here; PyYAML may come without.
_DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of everything inside a tree."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from paths(value[key], (*path, key))


def changed(tree: Any, path: tuple[Any, ...], new: Any) -> str:
    """Return the tree as YAML with `new` at a path; "gone" removes what stands there."""
    whole = holder = copy.deepcopy(tree)
    for key in path[:-1]:
        holder = holder[key]
    if new == "gone":
        del holder[path[-1]]
    else:
        holder[path[-1]] = new
    text: str = yaml.dump(whole, Dumper=_DUMPER)
    return text
