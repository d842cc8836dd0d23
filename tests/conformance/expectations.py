"""What the end of a case, or a step, must look like: one function for each key of `expect`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from tests.conformance.cases import content_of, moment
from tests.conformance.matchers import differs
from tests.conformance.others import executions_count, others, terminal_states
from tests.conformance.playing import Playing, near
from tests.conformance.views import AddressError, View, states_of

Check = Callable[[Any, View, Playing], str | None]


def problem_of(expect: Mapping[str, Any], view: View | None, playing: Playing) -> str | None:
    """Return the first expectation that does not hold, None when all do. `view` None is no execution."""
    for key, raw in expect.items():
        if key in _WITHOUT:
            problem = _WITHOUT[key](playing.fill(raw), playing)
        elif view is None:
            problem = f"nothing to look at for {key}"
        elif key not in _CHECKS:
            problem = f"the runner does not know the expectation {key!r}"
        else:
            try:
                problem = _CHECKS[key](playing.fill(raw, view), view, playing)
            except AddressError as error:
                problem = str(error)
        if problem is not None:
            return f"{key}: {problem}{_why(view)}"
    return None


def _why(view: View | None) -> str:
    """Return what the execution says went wrong, for the line of a failing case."""
    if view is None or view.state != "FAILED":
        return ""
    reasons = [view.body.get("error"), *(run.get("error") for run in view.runs)]
    reason = next((str(reason) for reason in reasons if reason), None)
    return f" (the execution says: {reason[:200]})" if reason else ""


def _equal(expected: Any, actual: Any) -> str | None:
    return None if expected == actual else f"expected {expected!r}, got {actual!r}"


def _each_run(expected: Mapping[str, Any], value_of: Callable[[str], Any]) -> str | None:
    for address, wanted in expected.items():
        problem = _equal(wanted, value_of(address))
        if problem is not None:
            return f"{address}: {problem}"
    return None


def _state_of(run: Mapping[str, Any]) -> str:
    return str(run["state"]["current"])


def _task_states(expected: Mapping[str, Any], view: View, _playing: Playing) -> str | None:
    return _each_run(expected, lambda address: _state_of(view.run(address)))


def _all_task_states(expected: Any, view: View, _playing: Playing) -> str | None:
    odd = {run["taskId"]: _state_of(run) for run in view.runs if _state_of(run) != expected}
    return f"not {expected}: {odd}" if odd else None


def _task_counts(expected: Mapping[str, int], view: View, _playing: Playing) -> str | None:
    counts = Counter(run["taskId"] for run in view.runs)
    return _each_run(expected, lambda task: counts[task])


def _attempts(expected: Mapping[str, Any], view: View, _playing: Playing) -> str | None:
    return _each_run(expected, lambda address: len(view.run(address)["attempts"] or ()) or None)


def _attempt_states(expected: Mapping[str, Any], view: View, _playing: Playing) -> str | None:
    return _each_run(expected, lambda address: [_state_of(each) for each in view.run(address)["attempts"] or ()])


def _min_attempts(expected: Mapping[str, int], view: View, _playing: Playing) -> str | None:
    for address, least in expected.items():
        count = len(view.run(address)["attempts"] or ())
        if count < least:
            return f"{address}: {count} attempts, at least {least} expected"
    return None


def _order(expected: Mapping[str, str], view: View, _playing: Playing) -> str | None:
    tasks = [run["taskId"] for run in view.runs]
    return _each_run(expected, lambda place: tasks[int(place)] if int(place) < len(tasks) else None)


def _outputs(expected: Mapping[str, Any], view: View, playing: Playing) -> str | None:
    for address, raw in expected.items():
        wanted = _with_input(raw, playing)
        problem = differs(wanted, view.output(address), playing.server)
        if problem is not None:
            return f"{address}: {problem}"
    return None


def _with_input(wanted: Any, playing: Playing) -> Any:
    """Replace `concatenated_equals_input: true` by the text of the case's input file."""
    if not isinstance(wanted, Mapping) or wanted.get("concatenated_equals_input") is not True:
        return wanted
    files = [value["$file"] for value in (playing.case["inputs"] or {}).values() if "$file" in value]
    rest = {key: value for key, value in wanted.items() if key != "concatenated_equals_input"}
    return {**rest, "concatenated_equals": content_of(files[0])}


def _logs(view: View, playing: Playing, task_id: str | None = None) -> list[tuple[str, str]]:
    return [
        (line.level, line.message)
        for line in playing.server.logs(view.id)
        if task_id is None or line.task_id == task_id
    ]


def _logs_contain(expected: list[str], view: View, playing: Playing) -> str | None:
    lines = _logs(view, playing)
    missing = [text for text in expected if not any(text in message for _, message in lines)]
    return f"no line has {missing}; there are {lines}"[:600] if missing else None


def _logs_not_contain(expected: list[str], view: View, playing: Playing) -> str | None:
    found = [text for text in expected if any(text in message for _, message in _logs(view, playing))]
    return f"a line has {found}" if found else None


def _task_logs(expected: Mapping[str, list[list[str]]], view: View, playing: Playing) -> str | None:
    return _each_run(expected, lambda task: [list(line) for line in _logs(view, playing, task)])


def _task_logs_contain(expected: Mapping[str, list[str]], view: View, playing: Playing) -> str | None:
    for task, texts in expected.items():
        lines = _logs(view, playing, task)
        for text in texts:
            if not any(text in message for _, message in lines):
                return f"{task}: no line has {text!r}; there are {lines}"
    return None


def _labels_contain(expected: Mapping[str, Any], view: View, playing: Playing) -> str | None:
    return differs(expected, view.labels, playing.server, partly=True)


def _given_labels(view: View) -> dict[str, str]:
    """Return the labels but for the name of who started the execution: Java's runner starts as nobody."""
    return {key: value for key, value in view.labels.items() if key != "system.username"}


def _parent_id(expected: Any, view: View, _playing: Playing) -> str | None:
    return _equal(expected, view.body.get("parentId"))


def _history_starts(expected: list[str], view: View, _playing: Playing) -> str | None:
    return _equal(expected, view.history[: len(expected)])


def _history_contains(expected: list[str], view: View, _playing: Playing) -> str | None:
    missing = [state for state in expected if state not in view.history]
    return f"{missing} not in {view.history}" if missing else None


def _run_history_counts(expected: Mapping[str, Mapping[str, int]], view: View, _playing: Playing) -> str | None:
    for address, counts in expected.items():
        found = Counter(states_of(view.run(address)))
        problem = _each_run(counts, lambda state, found=found: found[state])  # type: ignore[misc]  # bound now
        if problem is not None:
            return f"{address}: {problem}"
    return None


def _run_history_length(expected: Mapping[str, int], view: View, _playing: Playing) -> str | None:
    return _each_run(expected, lambda address: len(states_of(view.run(address))))


def _min_runs_in_state(expected: Mapping[str, int], view: View, _playing: Playing) -> str | None:
    counts = Counter(_state_of(run) for run in view.runs)
    few = {state: counts[state] for state, least in expected.items() if counts[state] < least}
    return f"expected at least {dict(expected)}, got {few}" if few else None


def _before(view: View, playing: Playing) -> View:
    """Return the execution that a verb made `view` from, as it was before."""
    for named in playing.named.values():
        if named.id == view.id and named.before is not None:
            return named.before
    raise AddressError("no verb was carried out on this execution")


def _same_id(expected: Any, view: View, playing: Playing) -> str | None:
    before = _before(view, playing)
    return None if (before.id == view.id) is expected else f"it is {view.id}, made from {before.id}"


def _same_runs(tasks: list[str], view: View, playing: Playing) -> str | None:
    before = _before(view, playing)
    return next((task for task in tasks if before.run(task)["id"] != view.run(task)["id"]), None)


def _new_runs(tasks: list[str], view: View, playing: Playing) -> str | None:
    before = _before(view, playing)
    return next((task for task in tasks if before.run(task)["id"] == view.run(task)["id"]), None)


def _schedule_date(expected: str, view: View, playing: Playing) -> str | None:
    found = view.body.get("scheduleDate")
    wanted = playing.sent_dates.get(expected) or moment(expected)
    if found is not None and near(datetime.fromisoformat(found), wanted):
        return None
    return f"expected {wanted}, got {found}"


def _metrics(expected: Mapping[str, Mapping[str, Any]], view: View, playing: Playing) -> str | None:
    found = {metric.name: metric for metric in playing.server.metrics(view.id)}
    for name, wanted in expected.items():
        unknown = set(wanted) - {"tags", "value", "seconds", "min_seconds"}
        if unknown:
            return f"the runner does not know {sorted(unknown)}"
        metric = found.get(name)
        if metric is None:
            return f"no metric {name}; there are {sorted(found)}"
        if dict(wanted.get("tags", metric.tags)) != metric.tags:
            return f"{name} has the tags {metric.tags}"
        exact = wanted.get("value", wanted.get("seconds", metric.value))
        if metric.value != exact or metric.value < wanted.get("min_seconds", metric.value):
            return f"{name} is {metric.value}"
    return None


def _trigger_state(expected: Mapping[str, Mapping[str, Any]], view: View, playing: Playing) -> str | None:
    namespace, flow_id = view.body["namespace"], view.body["flowId"]
    for trigger_id, wanted in expected.items():
        if set(wanted) != {"disabled"}:
            return f"the runner knows only `disabled`, not {sorted(wanted)}"
        problem = _equal(wanted["disabled"], playing.server.trigger_is_disabled(namespace, flow_id, trigger_id))
        if problem is not None:
            return f"{trigger_id}: {problem}"
    return None


def _kv_after(expected: Mapping[str, Mapping[str, Any]], playing: Playing) -> str | None:
    for namespace, pairs in expected.items():
        for key, wanted in pairs.items():
            problem = differs(wanted, playing.server.key_value(namespace, key), playing.server)
            if problem is not None:
                return f"{namespace}/{key}: {problem}"
    return None


_CHECKS: dict[str, Check] = {
    "state": lambda wanted, view, _: _equal(wanted, view.state),
    "not_state": lambda wanted, view, _: f"it is {wanted}" if view.state == wanted else None,
    "taskruns": lambda wanted, view, _: (
        None
        if len(view.runs) == wanted
        else f"expected {wanted}, got {len(view.runs)}: {[(run['taskId'], _state_of(run)) for run in view.runs]}"
    ),
    "min_taskruns": lambda wanted, view, _: None if len(view.runs) >= wanted else f"only {len(view.runs)} of {wanted}",
    "task_states": _task_states,
    "all_task_states": _all_task_states,
    "task_counts": _task_counts,
    "attempts": _attempts,
    "min_attempts": _min_attempts,
    "attempt_states": _attempt_states,
    "last_taskrun_attempts": lambda wanted, view, _: _equal(wanted, len(view.runs[-1]["attempts"] or ())),
    "taskrun_order": _order,
    "outputs": _outputs,
    "flow_outputs": lambda wanted, view, playing: differs(
        wanted, view.body["outputs"] or None, playing.server, partly=True
    ),
    "flow_outputs_count": lambda wanted, view, _: _equal(wanted, len(view.body["outputs"])),
    "typed_inputs": lambda wanted, view, playing: differs(wanted, view.body["inputs"], playing.server, partly=True),
    "logs_contain": _logs_contain,
    "logs_not_contain": _logs_not_contain,
    "task_logs": _task_logs,
    "task_logs_contain": _task_logs_contain,
    "labels_contain": _labels_contain,
    "labels_exact": lambda wanted, view, playing: differs(wanted, _given_labels(view), playing.server),
    "labels_count": lambda wanted, view, _: _equal(wanted, len(_given_labels(view))),
    "parent_id": _parent_id,
    "state_history_length": lambda wanted, view, _: _equal(wanted, len(view.history)),
    "state_history_prefix": _history_starts,
    "state_history_contains": _history_contains,
    "taskrun_state_history_counts": _run_history_counts,
    "taskrun_state_history_length": _run_history_length,
    "min_taskruns_in_state": _min_runs_in_state,
    "same_execution_id": _same_id,
    "same_taskrun_ids": _same_runs,
    "new_taskrun_ids": _new_runs,
    "schedule_date": _schedule_date,
    "metrics": _metrics,
    "trigger_state": _trigger_state,
}
_WITHOUT: dict[str, Callable[[Any, Playing], str | None]] = {
    "kv_after": _kv_after,
    "other_executions": others,
    "executions_count": executions_count,
    "terminal_states_of_all_executions": terminal_states,
}
COUNTED = frozenset({"executions_count", "terminal_states_of_all_executions"})
"""Expectations about all executions of the case's flow: whoever checks them waits for those still on their way."""
