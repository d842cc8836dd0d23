"""What a case expects of executions besides the one it looks at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.executions.models import Execution
from tests.conformance.matchers import differs
from tests.conformance.playing import Playing

_WANTED_KEYS = frozenset(
    {"flow", "count", "min_count", "state", "taskruns", "labels", "inputs", "outputs", "trigger"}
    | {"may_end_after_parent", "within_seconds"}
)


def others(expected: list[Mapping[str, Any]], playing: Playing) -> str | None:
    """Return what is wrong with the executions of other flows, None if nothing is."""
    for wanted in expected:
        problem = _group(wanted, playing)
        if problem is not None:
            return f"{wanted['flow']}: {problem}"
    return None


def _group(wanted: Mapping[str, Any], playing: Playing) -> str | None:
    unknown = set(wanted) - _WANTED_KEYS
    if unknown:
        return f"the runner does not know {sorted(unknown)}"
    found = playing.server.executions(wanted["flow"], playing.since)
    count = wanted.get("count")
    if count is not None and len(found) != count:
        return f"{len(found)} executions, expected {count}"
    if len(found) < wanted.get("min_count", 0 if count is not None else 1):
        return f"{len(found)} executions, expected more"
    for execution in found:
        problem = _one(wanted, execution, playing)
        if problem is not None:
            return f"{execution.id}: {problem}"
    return None


def _one(wanted: Mapping[str, Any], execution: Execution, playing: Playing) -> str | None:
    if "state" in wanted and execution.state.value != wanted["state"]:
        return f"{execution.state.value}, expected {wanted['state']} ({execution.error})"
    view = playing.server.view(execution.id)
    if "taskruns" in wanted and len(view.runs) != wanted["taskruns"]:
        return f"{len(view.runs)} task runs, expected {wanted['taskruns']}"
    seen = {"labels": view.labels, **{key: view.body.get(key) for key in ("inputs", "outputs", "trigger")}}
    for key, found in seen.items():
        problem = differs(wanted[key], found, playing.server, partly=True) if key in wanted else None
        if problem is not None:
            return f"{key}: {problem}"
    return None


def executions_count(expected: int, playing: Playing) -> str | None:
    """Return whether the case's flow has run another number of times than expected."""
    count = len(playing.server.executions(playing.flow_name(), playing.since))
    return None if count == expected else f"{count} executions, expected {expected}"


def terminal_states(expected: list[str], playing: Playing) -> str | None:
    """Return whether the executions of the case's flow ended in other states than expected, in any order."""
    states = [each.state.value for each in playing.server.executions(playing.flow_name(), playing.since)]
    return None if sorted(states) == sorted(expected) else f"{states}, expected {expected}"
