"""What a loop notes of its values that the next decision will not load: its `LEDGER`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.executions.flow_index import FlowIndex
from runner.flows.models import Task
from runner.states import State
from runner.tasks.flow import EachParallel, EachSequential, ForEach

if TYPE_CHECKING:
    from runner.executions.tree import Node


def is_loop(task: Task | None) -> bool:
    """Return whether a task is a loop over values: its ended ones need not be loaded, since it keeps a ledger."""
    return isinstance(task, ForEach | EachSequential | EachParallel)


def limit_of(task: Task | None) -> int:
    """Return how many values of a loop may be open at the same time, 0 for all of them."""
    if isinstance(task, ForEach):
        return task.concurrency_limit
    return task.concurrent if isinstance(task, EachParallel) else 1


def ledger_of(loop: Node, index: FlowIndex) -> dict[str, Any]:
    """Return the ledger of a loop as it stands now."""
    tasks = len(index.enabled(loop.owner, "tasks"))
    behind = (
        iteration
        for iteration, runs in loop.active.items()
        if 0 < len(runs) < tasks
        and all(each.row.state.is_terminal for each in runs)
        and not runs[-1].row.state.is_failed
    )
    ended = {each.row.state for each in loop.children.get("tasks", ()) if each.row.state.is_terminal}
    states = (ended | loop.omitted) - {State.SUCCESS}
    ledger: dict[str, Any] = {
        "behind": sorted(behind),
        "limit": limit_of(loop.task),
        "states": sorted(state.value for state in states),
    }
    if isinstance(loop.task, EachParallel):
        return {**ledger, "behind": [], "begun": loop.begun}
    return {**ledger, "again": loop.cursor} if _is_turned_back(loop) else ledger


def _is_turned_back(loop: Node) -> bool:
    return loop.again is not None and loop.cursor < len(loop.row.memory.get("values", ()))
