"""How task runs begin: `runIf`, containers that open, instant tasks, subflows, and what goes to a worker. Pure."""

from __future__ import annotations

from dataclasses import replace

from runner.errors import MainstemError
from runner.executions.ending import (
    apply_to_execution,
    end_attempt,
    exit_execution,
    fail_to_start,
    finish,
    needs_worker,
)
from runner.executions.flow_index import ON_PAUSE
from runner.executions.flowables import Actions, open_flowable
from runner.executions.groups import queue_of, waiting
from runner.executions.items import start_items
from runner.executions.models import OUTBOX_CHILD_RESTART, OUTBOX_RUN, OutboxRow
from runner.executions.pauses import is_at_breakpoint
from runner.executions.tree import Node, Tree
from runner.expressions import is_truthy
from runner.flows.models import Task, TaskKind
from runner.flows.worker_groups import wanted_by
from runner.states import State
from runner.tasks.flow import Sleep, Subflow
from runner.tasks.for_each_item import Items

RESTARTS_CHILD = "restartsChild"
"""The key of a Subflow run's memory that says: the execution it started before is to be restarted."""


def dispatch(tree: Tree, node: Node, actions: Actions) -> None:
    """Carry a run in CREATED or RESTARTED on: stop before it, skip it, open it, run it, or hand it to a worker."""
    task = node.task
    if task is None:
        finish(tree, node, actions, State.FAILED, f"the flow has no task {node.row.task_id!r}")
        return
    if is_at_breakpoint(node.row, tree.execution.breakpoints):
        tree.update(node, node.row.enter(State.BREAKPOINT, actions.now))
        tree.log("INFO", f"The execution stops at a breakpoint, before the task {task.id}", actions.now, node)
        return
    if task.run_if != "true" and not _passes_run_if(tree, node, actions):
        return
    if isinstance(task, Items):
        start_items(tree, node, actions)
    elif task.kind is TaskKind.SUBFLOW:
        _start_subflow(tree, node, actions)
    elif task.kind is TaskKind.INSTANT:
        _run_instant(tree, node, actions)
    elif needs_worker(node):
        _submit(tree, node, task, actions)
    else:
        _open(tree, node, actions)


def _submit(tree: Tree, node: Node, task: Task, actions: Actions) -> None:
    try:
        wanted = wanted_by(task, tree.flow)
        actions.demand_groups(wanted.tags)
    except MainstemError as error:
        fail_to_start(tree, node, actions, error)
        return
    queue = queue_of(wanted.tags, any_of=wanted.any_of)
    run = replace(node.row, state=State.SUBMITTED, result=None, queue=queue)
    tree.update(node, run)
    payload = {"epoch": run.epoch, "queue": queue, **waiting(wanted.fallback, actions.now)}
    tree.outbox.append(OutboxRow(OUTBOX_RUN, run.id, payload))


def _passes_run_if(tree: Tree, node: Node, actions: Actions) -> bool:
    assert node.task is not None
    try:
        if is_truthy(actions.render(node, node.task.run_if)):
            return True
    except MainstemError as error:
        fail_to_start(tree, node, actions, error)
        return False
    tree.update(node, node.row.enter(State.SKIPPED, actions.now))
    return False


def _open(tree: Tree, node: Node, actions: Actions) -> None:
    try:
        opened = open_flowable(node, actions)
    except MainstemError as error:
        tree.update(node, node.row.enter(State.RUNNING, actions.now))
        fail_to_start(tree, node, actions, error)
        return
    if opened.outputs:
        tree.outputs[node.row.id] = opened.outputs
    attempts = node.row.attempts + isinstance(node.task, Sleep)  # a container has none
    run = replace(
        node.row.enter(State.RUNNING, actions.now), memory=opened.memory, due_at=opened.due_at, attempts=attempts
    )
    tree.update(node, run)
    if opened.warning:
        tree.log("WARN", opened.warning, actions.now, node)
    if opened.state is State.FAILED:
        finish(tree, node, actions, State.FAILED, opened.warning)
    elif opened.state is not State.RUNNING:
        tree.update(node, node.row.enter(opened.state, actions.now))
        for task in tree.index.enabled(node.owner, ON_PAUSE):
            dispatch(tree, tree.create(node, task, actions.new_id(), actions.now, branch=ON_PAUSE), actions)
    elif opened.due_at is None:
        tree.mark(node)


def _run_instant(tree: Tree, node: Node, actions: Actions) -> None:
    run = node.row
    tree.update(node, replace(run.enter(State.RUNNING, actions.now), attempts=run.attempts + 1, result=None))
    outcome = actions.run_instant(node)
    if outcome.outputs:
        tree.outputs[run.id] = dict(outcome.outputs)
    apply_to_execution(tree, outcome)
    if outcome.exit_state is not None and not tree.execution.state.is_terminal:
        tree.update(node, node.row.enter(State.SUCCESS, actions.now))
        exit_execution(tree, outcome.exit_state, actions.now)
        return
    end_attempt(tree, node, actions, outcome.state, outcome.error)


def _start_subflow(tree: Tree, node: Node, actions: Actions) -> None:
    task = node.task
    assert isinstance(task, Subflow)
    memory = {key: value for key, value in node.row.memory.items() if key != RESTARTS_CHILD}
    is_restart = RESTARTS_CHILD in node.row.memory
    running = node.row.enter(State.RUNNING, actions.now)
    run = replace(running, attempts=node.row.attempts + 1, result=None, memory=memory)
    tree.update(node, run)
    if is_restart:
        tree.outbox.append(OutboxRow(OUTBOX_CHILD_RESTART, run.id, {"child": memory["executionId"]}))
        return
    try:
        child = actions.start_subflow(node)
    except MainstemError as error:
        tree.log("ERROR", error.message, actions.now, node)
        end_attempt(tree, node, actions, State.FAILED, error.message)
        return
    tree.started_children.append(child)
    if task.wait:
        tree.outputs[run.id] = {"executionId": child.id}
        tree.update(node, replace(run, memory={**run.memory, "executionId": child.id}))
    else:
        tree.outputs[run.id] = {"executionId": child.id, "state": State.CREATED.value}
        end_attempt(tree, node, actions, State.SUCCESS, None)
