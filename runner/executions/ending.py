"""How task runs end: retries, `allowFailure`, what an outcome changes in the execution. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from runner.errors import MainstemError
from runner.executions.flowables import Actions
from runner.executions.models import ORIGINAL, Attempt, Histories, TaskRun
from runner.executions.retries import next_try
from runner.executions.tree import Node, Tree
from runner.flows.models import Retry, TaskKind
from runner.plugin import Outcome
from runner.states import State
from runner.tasks.flow import WorkingDirectory


def needs_worker(node: Node) -> bool:
    """Return whether a worker carries this run out; so does the whole of a WorkingDirectory."""
    return node.task is None or node.task.kind is TaskKind.RUNNABLE or isinstance(node.task, WorkingDirectory)


def fail_to_start(tree: Tree, node: Node, actions: Actions, error: MainstemError) -> None:
    """Fail a run whose own properties do not render, before it began."""
    tree.log("ERROR", error.message, actions.now, node)
    finish(tree, node, actions, State.FAILED, error.message)


def apply_to_execution(tree: Tree, outcome: Outcome) -> None:
    """Merge the labels and variables of an outcome into the execution; `__unset__` names removed flow variables."""
    execution = tree.execution
    if outcome.labels:
        tree.set_execution(replace(execution, labels={**execution.labels, **outcome.labels}))
    if outcome.variables or outcome.unset:
        variables: dict[str, Any] = {**tree.execution.variables, **outcome.variables}
        removed = [*variables.get("__unset__", []), *outcome.unset]
        for name in outcome.unset:
            variables.pop(name, None)
        if removed:
            variables["__unset__"] = [name for name in removed if name not in outcome.variables]
        tree.set_execution(replace(tree.execution, variables=variables))


def exit_execution(tree: Tree, state: State, now: datetime) -> None:
    """End the execution and everything open in it now, in `state`."""
    tree.load_open()
    for node in list(tree.nodes.values()):
        if not node.row.state.is_terminal:
            if node.row.state is State.RUNNING and needs_worker(node):
                tree.stop_runs.append(node.row.id)
                tree.given_up.append(node.row.id)
            tree.update(node, replace(node.row.enter(state, now), due_at=None))
    tree.clear_marks()
    tree.set_execution(tree.execution.enter(state, now))


def end_attempt(tree: Tree, node: Node, actions: Actions, state: State, error: str | None) -> None:
    """Take the end of an attempt: plan a retry, or end the run."""
    run, task = node.row, node.task
    retry = tree.index.retry_of(task) if task else None
    is_retried = state is State.FAILED and tree.execution.state is not State.KILLING
    if is_retried and retry is not None and _plan_retry(tree, node, actions, retry, error):
        return
    if isinstance(task, WorkingDirectory):
        _end_job(tree, node, actions, state, error)
        return
    if run.attempts > 1:
        _record_instant_attempt(tree, node, state, error, actions.now)
    if state is State.SUCCESS and retry and retry.warning_on_retry and run.attempts - run.losses > 1:
        state = State.WARNING
    finish(tree, node, actions, state, error)


def _plan_retry(tree: Tree, node: Node, actions: Actions, retry: Retry, error: str | None) -> bool:
    """Let a failed run wait for its next attempt, or begin a new execution; False when neither is left."""
    run, now = node.row, actions.now
    if retry.behavior == "CREATE_NEW_EXECUTION":
        return not tree.execution.state.is_terminal and _retry_as_new_execution(tree, node, actions)
    if isinstance(node.task, WorkingDirectory):
        return False  # its job has tried its tasks again, one by one
    at = next_try(
        retry,
        max(run.attempts - run.losses, 1),
        first_started=run.started_at or now,
        ended=now,
        fraction=actions.fraction(),
    )
    if at is None:
        return False
    _record_instant_attempt(tree, node, State.FAILED, error, now)
    tree.update(node, replace(run.enter(State.RETRYING, now), due_at=at, result=None, error=error))
    return True


def _end_job(tree: Tree, node: Node, actions: Actions, state: State, error: str | None) -> None:
    """Take the result of a job; what it says decides whether errors follow, before finally and its own end."""
    memory = {**node.row.memory, "jobDone": state.value}
    _close_job(tree, node, state, actions.now)
    tree.update(node, replace(node.row, result=None, error=error, memory=memory))
    node.failed = node.failed or state is State.FAILED
    tree.mark(node)


def _close_job(tree: Tree, node: Node, state: State, now: datetime) -> None:
    """End what a job left open, because it lost its claim or its store in the middle of a task."""
    for child in node.children.get("tasks", ()):
        if not child.row.state.is_terminal:
            tree.update(child, child.row.enter(state if state.is_failed else State.FAILED, now))


def _record_instant_attempt(tree: Tree, node: Node, state: State, error: str | None, now: datetime) -> None:
    """Write the attempt row of a task that no worker ran; a single attempt is told from the run itself."""
    if not needs_worker(node):
        tree.attempts.append(attempt_of(replace(node.row.enter(state, now), error=error)))


def attempt_of(run: TaskRun) -> Attempt:
    """Return the last attempt of a run that no worker carried out, as its states tell it."""
    ended = run.histories[-1][1] if run.histories else run.created_at
    started = next((at for state, at in reversed(run.histories) if state is State.RUNNING), ended)
    histories: Histories = ((State.CREATED, started), (State.RUNNING, started))
    if run.state is not State.RUNNING:
        histories = (*histories, (run.state, ended))
    return Attempt(
        task_run_id=run.id,
        execution_id=run.execution_id,
        number=max(run.attempts, 1),
        epoch=run.epoch,
        state=run.state,
        started_at=started,
        ended_at=ended if run.state.is_terminal else None,
        message=run.error,
        histories=histories,
    )


def _retry_as_new_execution(tree: Tree, node: Node, actions: Actions) -> bool:
    retry = tree.index.retry_of(node.task) if node.task else None
    execution = tree.execution
    if retry is None:
        return False
    first = execution.original_created_at
    at = next_try(retry, execution.attempt_number, first_started=first, ended=actions.now, fraction=actions.fraction())
    if at is None:
        return False
    for open_node in [node, *node.ancestors()]:
        tree.update(open_node, replace(open_node.row.enter(State.RETRIED, actions.now), due_at=None, result=None))
    exit_execution(tree, State.RETRIED, actions.now)
    tree.started_children.append(
        replace(
            execution,
            id=actions.new_id(),
            state=State.CREATED,
            version=0,
            created_at=actions.now,
            histories=((State.CREATED, actions.now),),
            started_at=None,
            ended_at=None,
            outputs={},
            variables={},
            error=None,
            attempt_number=execution.attempt_number + 1,
            original_id=execution.original_id or execution.id,
            due_at=at,
            memory={ORIGINAL: first.isoformat()},
        )
    )
    return True


def finish(tree: Tree, node: Node, actions: Actions, state: State, error: str | None = None) -> None:
    """End a run in `state` after `allowFailure` and `allowWarning` had their say."""
    task = node.task
    if task is not None:
        if state is State.FAILED and task.allow_failure:
            state = State.WARNING
        if state is State.WARNING and task.allow_warning:
            state = State.SUCCESS
    run: TaskRun = replace(node.row, due_at=None, result=None, error=error if error is not None else node.row.error)
    tree.update(node, run.enter(state, actions.now))
