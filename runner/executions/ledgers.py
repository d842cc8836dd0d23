"""What a loop, or a Parallel, notes of its runs that the next decision will not load: its `LEDGER`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.executions.flow_index import FlowIndex
from runner.flows.models import Task
from runner.states import State
from runner.tasks.flow import EachParallel, EachSequential, ForEach, Parallel

if TYPE_CHECKING:
    from runner.executions.tree import Node


def is_loop(task: Task | None) -> bool:
    """Return whether a task is a loop over values."""
    return isinstance(task, ForEach | EachSequential | EachParallel)


def keeps_ledger(task: Task | None) -> bool:
    """Return whether the ended runs of a container need not be loaded, since it keeps a ledger of them."""
    return is_loop(task) or isinstance(task, Parallel)


def limit_of(task: Task | None) -> int:
    """Return how many values of a loop, or tasks of a Parallel, may be open at the same time, 0 for all of them."""
    if isinstance(task, ForEach):
        return task.concurrency_limit
    return task.concurrent if isinstance(task, EachParallel | Parallel) else 1


def ledger_of(loop: Node, index: FlowIndex) -> dict[str, Any]:
    """Return the ledger of a container as it stands now.

    That of a Parallel names its few runs that are `beside` its tasks, those of errors and finally: no loop value tells
    them from the many others.
    """
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
    if isinstance(loop.task, Parallel):
        beside = [each.row.id for name, runs in loop.children.items() if name != "tasks" for each in runs]
        return {**ledger, "begun": loop.begun, "beside": beside}
    if isinstance(loop.task, EachParallel):
        return {**ledger, "behind": [], "begun": loop.begun}
    return {**ledger, "again": loop.cursor} if _is_turned_back(loop) else ledger


def _is_turned_back(loop: Node) -> bool:
    return loop.again is not None and loop.cursor < len(loop.row.memory.get("values", ()))
