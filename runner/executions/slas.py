"""The promises (`sla`) of a flow: when one is broken, and what that does to the execution. Pure.

Only the first broken promise acts. A time limit counts from the start of the execution, and the execution keeps a
timer for it; an assertion is looked at whenever the execution moves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from runner.durations import parse_duration
from runner.errors import MainstemError
from runner.executions.ending import exit_execution
from runner.executions.flowables import Actions
from runner.executions.tree import Tree
from runner.expressions import is_truthy
from runner.flows.models import Sla
from runner.states import State

_BROKEN = "brokenSla"
_ENDS = {"FAIL": State.FAILED, "CANCEL": State.CANCELLED}


def keep_promises(tree: Tree, actions: Actions) -> bool:
    """Act on the first promise that is broken now, or set the timer for the next one; tell whether it ended here."""
    execution = tree.execution
    if not tree.flow.sla or execution.state.is_terminal or execution.started_at is None:
        return False
    if _BROKEN in execution.memory:
        return False
    for promise in tree.flow.sla:
        if _is_broken(promise, tree, actions):
            return _act(promise, tree, actions.now)
    _set_timer(tree)
    return False


def _is_broken(promise: Sla, tree: Tree, actions: Actions) -> bool:
    if promise.type == "MAX_DURATION":
        deadline = _deadline(promise, tree)
        return deadline is not None and actions.now >= deadline
    try:
        return not is_truthy(actions.render_root(promise.assertion or "true"))
    except MainstemError as error:
        tree.log("WARN", f"the assertion of the SLA '{promise.id}' does not render: {error.message}", actions.now)
        return False


def _deadline(promise: Sla, tree: Tree) -> datetime | None:
    started, duration = tree.execution.started_at, promise.duration
    length = parse_duration(duration) if isinstance(duration, str) else duration
    return started + length if started is not None and isinstance(length, timedelta) else None


def _act(promise: Sla, tree: Tree, now: datetime) -> bool:
    execution = tree.execution
    labels = {**execution.labels, **_labels(promise.labels)}
    memory = {**execution.memory, _BROKEN: promise.id}
    message = f"the execution broke its SLA '{promise.id}'"
    tree.log("ERROR" if promise.behavior == "FAIL" else "WARN", message, now)
    end = _ENDS.get(promise.behavior)
    error = message if end is State.FAILED else execution.error
    tree.set_execution(replace(execution, labels=labels, memory=memory, due_at=None, error=error))
    if end is None:
        return False
    exit_execution(tree, end, now)
    tree.mark(tree.root)
    return True


def _labels(labels: Any) -> dict[str, str]:
    if isinstance(labels, Mapping):
        return {str(key): str(value) for key, value in labels.items()}
    return {str(pair["key"]): str(pair["value"]) for pair in labels or ()}


def _set_timer(tree: Tree) -> None:
    deadlines = [
        each for promise in tree.flow.sla if promise.type == "MAX_DURATION" and (each := _deadline(promise, tree))
    ]
    due_at = min(deadlines, default=None)
    if tree.execution.due_at != due_at:
        tree.set_execution(replace(tree.execution, due_at=due_at))
