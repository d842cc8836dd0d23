"""Running an ended execution again from where it failed or from a chosen run: which runs stay, which begin anew. Pure.

A `Tree` is changed in place; what ran before the point of the new start keeps its outputs, what came after is taken
out. Containers on the way to that point go on RUNNING and keep what they decided once: the value of a condition, the
values of a loop.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from runner.errors import InvalidError
from runner.executions.ending import attempt_of
from runner.executions.flow_index import AFTER, ERRORS, FINALLY, LISTENERS, ON_PAUSE
from runner.executions.models import ORIGINAL, Attempt, Execution, TaskRun
from runner.executions.starting import RESTARTS_CHILD
from runner.executions.tree import Node, Tree
from runner.flows.models import Task, TaskKind
from runner.states import State
from runner.tasks.flow import (
    Dag,
    EachParallel,
    EachSequential,
    ForEach,
    LoopUntil,
    Parallel,
    Pause,
    Sleep,
    Subflow,
    WorkingDirectory,
)
from runner.tasks.for_each_item import Items

RESTARTED_LABEL = "system.restarted"
REPLAY_LABEL = "system.replay"
_BROKEN = frozenset({State.FAILED, State.KILLED, State.CANCELLED, State.PAUSED})
_FORGOTTEN = frozenset({"jobDone", "waited"})  # what a container remembers of its last time


def restart(tree: Tree, now: datetime, failed_children: Collection[str] = ()) -> None:
    """Have every run that failed or waits begin anew, and the execution RESTARTED.

    A Subflow task whose execution is among `failed_children` has that one restarted, unless it wants a new one.

    Raises:
        InvalidError: `execution.restart.nothing` when no run failed.
    """
    broken = {run_id: node for run_id, node in tree.nodes.items() if _is_broken(node)}
    around = {ancestor.row.id for node in broken.values() for ancestor in node.ancestors()}
    begins = [node for run_id, node in broken.items() if run_id not in around]
    if not begins:
        raise InvalidError("execution.restart.nothing", "No task found to restart execution from!")
    for node in begins:
        _begin_anew(tree, node, now)
        if _restarts_child(node, failed_children):
            tree.update(node, replace(node.row, memory={**node.row.memory, RESTARTS_CHILD: True}))
    for node in begins:
        _reopen_around(tree, node, now)
    _restarted(tree, now, RESTARTED_LABEL)


def replay(tree: Tree, run_id: str, now: datetime) -> None:
    """Have the execution begin again with one run; what follows from that run is taken out.

    Raises:
        InvalidError: `execution.replay.missing` when there is no such run.
    """
    target = _replayable(tree, run_id)
    for node in [target, *target.ancestors()]:
        for later in _later(tree, node, node.container):
            tree.remove(later)
        if _takes_turns(node.container.task) and node.row.iteration is not None:
            tree.turn_back(node.container, node.row.iteration + 1)
    for children in list(target.children.values()):
        for child in list(children):
            tree.remove(child)
    _begin_anew(tree, target, now)
    _reopen_around(tree, target, now)
    _restarted(tree, now, REPLAY_LABEL)


def mark(tree: Tree, run_id: str, state: State, attempts: Iterable[Attempt], now: datetime) -> None:
    """Give an ended or waiting run another state, and let the flow go on from there.

    Raises:
        InvalidError: `execution.replay.missing` when there is no such run.
    """
    node = tree.nodes.get(run_id)
    if node is None:
        raise _missing(run_id)
    run = node.row
    last = max((each for each in attempts if each.task_run_id == run_id), key=lambda each: each.number, default=None)
    if last is not None and last.state is not state:
        tree.attempts.append(replace(last, state=state, histories=(*last.histories, (state, now))))
    if run.state is State.PAUSED and state is State.RUNNING:
        _begin_anew(tree, node, now)
    else:
        memory = {key: value for key, value in run.memory.items() if key not in _FORGOTTEN}
        tree.update(node, replace(run.enter(state, now), due_at=None, result=None, memory=memory))
    _reopen_around(tree, node, now)
    _restarted(tree, now, None)


@dataclass(frozen=True, slots=True)
class Copy:
    """The runs of an execution under new ids, with their attempts and outputs."""

    runs: tuple[TaskRun, ...]
    attempts: tuple[Attempt, ...]
    outputs: dict[str, dict[str, Any]]


def copied(
    tree: Tree,
    execution_id: str,
    ids: Iterable[str],
    attempts: Iterable[Attempt],
    outputs: Mapping[str, dict[str, Any]],
) -> Copy:
    """Return the runs of `tree` as runs of another execution; `ids` gives a fresh id for each."""
    rows = sorted((node.row for node in tree.nodes.values()), key=lambda run: run.seq)
    names = dict(zip((run.id for run in rows), ids, strict=False))
    return Copy(
        tuple(
            replace(
                run,
                id=names[run.id],
                execution_id=execution_id,
                parent_id=names.get(run.parent_id) if run.parent_id else None,
                stamp=0,
            )
            for run in rows
        ),
        tuple(
            replace(attempt, task_run_id=names[attempt.task_run_id], execution_id=execution_id)
            for attempt in [*attempts, *tree.attempts]
            if attempt.task_run_id in names
        ),
        {names[run_id]: dict(values) for run_id, values in outputs.items() if run_id in names},
    )


# -------------------------------------------------------------------- which runs


def _is_broken(node: Node) -> bool:
    return node.row.state in _BROKEN and not any(
        _rank(each.row.branch) or (each is not node and isinstance(each.task, WorkingDirectory))
        for each in (node, *node.ancestors())
    )


def _replayable(tree: Tree, run_id: str) -> Node:
    """Return the run to begin with: the named one, or the working directory around it, which runs as a whole."""
    node = tree.nodes.get(run_id)
    if node is None:
        raise _missing(run_id)
    return next((each for each in node.ancestors() if isinstance(each.task, WorkingDirectory)), node)


def _missing(run_id: str) -> InvalidError:
    return InvalidError("execution.replay.missing", f"No task found to restart execution from: no task run {run_id!r}")


def _rank(branch: str) -> int:
    """Return when a branch runs: 0 the main ones, then errors, finally, and what follows the end."""
    if branch.startswith(LISTENERS):
        return 3
    return {ERRORS: 1, ON_PAUSE: 1, FINALLY: 2, AFTER: 3}.get(branch, 0)


def _later(tree: Tree, node: Node, container: Node) -> list[Node]:
    """Return the siblings that run because this run has ended.

    In a loop that takes one value at a time those are what follows in the loop's tasks, for this value and for all
    after it: what stands before, a later value has done already and does not do again.
    """
    run, task = node.row, container.task
    siblings = [each for children in container.children.values() for each in children if each is not node]
    late = [each for each in siblings if _rank(each.row.branch) > _rank(run.branch)]
    beside = [each for each in siblings if each.row.branch == run.branch and each.row.seq > run.seq]
    if _rank(run.branch):
        return late + beside
    if isinstance(task, Parallel | EachParallel):
        return late
    if isinstance(task, Dag):
        needing = _dependents(task, run.task_id)
        return late + [each for each in siblings if each.row.task_id in needing]
    if isinstance(task, ForEach) and task.concurrency_limit != 1:
        return late + [each for each in beside if each.row.iteration == run.iteration]
    if _takes_turns(task) and run.iteration is not None:
        before = _tasks_before(tree, container, run.task_id)
        return late + [each for each in siblings if _follows(each.row, run, before)]
    return late + beside


def _takes_turns(task: Task | None) -> bool:
    """Return whether a task is a loop that takes one value at a time."""
    return isinstance(task, EachSequential) or (isinstance(task, ForEach) and task.concurrency_limit == 1)


def _follows(each: TaskRun, run: TaskRun, before: Collection[str]) -> bool:
    """Return whether `each` comes after `run` in a loop that takes one value at a time."""
    if each.branch != run.branch or each.iteration is None or run.iteration is None:
        return False
    if each.iteration == run.iteration:
        return each.seq > run.seq
    return each.iteration > run.iteration and (each.task_id not in before or each.state in _BROKEN)


def _tasks_before(tree: Tree, container: Node, task_id: str) -> set[str]:
    """Return the tasks of a container that stand before one of its tasks."""
    names = [task.id for task in tree.index.enabled(container.owner, "tasks")]
    return set(names[: names.index(task_id)]) if task_id in names else set()


def _dependents(dag: Dag, task_id: str) -> set[str]:
    found, open_ids = set[str](), [task_id]
    while open_ids:
        name = open_ids.pop()
        more = {member.task.id for member in dag.tasks if name in member.depends_on} - found
        found |= more
        open_ids.extend(more)
    return found


# -------------------------------------------------------------------- what becomes of them


def _begin_anew(tree: Tree, node: Node, now: datetime) -> None:
    run, task = node.row, node.task
    if run.attempts and run.state is not State.PAUSED and not isinstance(task, Sleep):
        _keep_attempt(tree, node)
    memory = {key: value for key, value in run.memory.items() if key not in _FORGOTTEN}
    fresh = replace(run, due_at=None, result=None, error=None, memory=memory)
    if isinstance(task, WorkingDirectory):
        for children in list(node.children.values()):
            for child in list(children):
                tree.remove(child)
    if isinstance(task, Pause) and run.state is State.PAUSED:
        tree.update(node, replace(fresh.enter(State.RUNNING, now), memory={**memory, "resumed": True}))
    elif _goes_on(node):
        if isinstance(task, LoopUntil):
            fresh = replace(fresh, memory={**memory, "iterations": 1, "since": now.isoformat()})
        tree.update(node, fresh.enter(State.RUNNING, now))
    else:
        tree.update(node, fresh.enter(State.RESTARTED, now))


def _goes_on(node: Node) -> bool:
    """Return whether a run is a container that opened: it goes on instead of beginning anew."""
    task, run = node.task, node.row
    is_container = task is not None and task.kind is TaskKind.FLOWABLE
    if isinstance(task, LoopUntil) and run.state is State.PAUSED:
        return True
    return (
        is_container
        and not isinstance(task, WorkingDirectory | Pause | Sleep)
        and run.state in {State.SUCCESS, State.WARNING}
    )


def _restarts_child(node: Node, failed_children: Collection[str]) -> bool:
    task = node.task
    if not isinstance(task, Subflow) or isinstance(task, Items) or task.restart_behavior != "RETRY_FAILED":
        return False
    return task.wait and node.row.memory.get("executionId") in failed_children


def _keep_attempt(tree: Tree, node: Node) -> None:
    """Write the attempt that so far was told from the run itself."""
    run = node.row
    if run.attempts == 1 and node.task is not None and node.task.kind in {TaskKind.INSTANT, TaskKind.SUBFLOW}:
        tree.attempts.append(attempt_of(run))


def _reopen_around(tree: Tree, node: Node, now: datetime) -> None:
    """Let the containers around a run go on, without what followed their tasks."""
    inner = node
    for container in [*node.ancestors(), tree.root]:
        branch = inner.row.branch
        for name in [name for name in container.children if _rank(name) > _rank(branch)]:
            for child in list(container.children[name]):
                tree.remove(child)
            del container.children[name]
        if container.run is not None:
            run = container.row
            memory = {key: value for key, value in run.memory.items() if key not in _FORGOTTEN}
            tree.update(container, replace(run.enter(State.RUNNING, now), due_at=None, error=None, memory=memory))
            inner = container


def _restarted(tree: Tree, now: datetime, label: str | None) -> None:
    execution = tree.execution
    labels = {**execution.labels, label: "true"} if label else execution.labels
    fresh: Execution = replace(
        execution,
        labels=labels,
        outputs={},
        error=None,
        due_at=None,
        attempt_number=execution.attempt_number + 1,
        memory={key: value for key, value in execution.memory.items() if key == ORIGINAL},
    )
    tree.set_execution(fresh.enter(State.RESTARTED, now))
