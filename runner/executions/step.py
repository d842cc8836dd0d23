"""The heart: from the stored state of one execution to what happens next.

`step` is level-triggered: it looks at the rows, never at what rang, so running it again changes nothing. The rules
stand in the order in which they are applied: results that workers recorded, a kill in progress or else the timers, the
start, then each container that something happened in until nothing changes, and the end. No I/O and no clock: what a
task says comes through `Actions`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from runner.errors import MainstemError
from runner.executions.ending import end_attempt, fail_to_start, finish, needs_worker
from runner.executions.flowables import Actions
from runner.executions.items import continue_items, is_starting
from runner.executions.models import OUTBOX_ADVANCE, OutboxRow
from runner.executions.pauses import resumed_outputs
from runner.executions.settling import is_waiting_leaf, settle_all
from runner.executions.slas import keep_promises
from runner.executions.starting import dispatch
from runner.executions.tree import WAITING, Node, Tree
from runner.states import State
from runner.tasks.flow import LoopUntil, Pause, Sleep, Subflow


def step(tree: Tree, actions: Actions) -> None:
    """Decide everything that follows from the state of `tree`, until it waits for something or the budget is used."""
    _apply_results(tree, actions)
    if tree.execution.state is State.KILLING:
        _kill_open(tree, actions)
    elif _fire_timers(tree, actions):
        _refresh_state(tree, actions.now)
    _start(tree, actions)
    _mark_open(tree)
    settle_all(tree, actions)
    if keep_promises(tree, actions):
        settle_all(tree, actions)
    if tree.later:
        tree.outbox.append(OutboxRow(OUTBOX_ADVANCE, tree.execution.id))
    _refresh_state(tree, actions.now)


def _apply_results(tree: Tree, actions: Actions) -> None:
    for node in list(tree.nodes.values()):
        run = node.row
        if run.result is not None and not run.state.is_terminal:
            end_attempt(tree, node, actions, run.result, run.error)


def _fire_timers(tree: Tree, actions: Actions) -> bool:
    fired = False
    for node in list(tree.nodes.values()):
        run = node.row
        if run.due_at is None or run.due_at > actions.now or run.state.is_terminal:
            continue
        if not tree.sees(node):  # became due since the load, which left out what is inside: it is rung for by itself
            continue
        fired = True
        if run.state is State.RETRYING:
            tree.update(node, replace(run.enter(State.CREATED, actions.now), due_at=None, result=None, error=None))
            if not tree.is_held:
                if tree.execution.state is State.RETRYING:
                    tree.set_execution(tree.execution.enter(State.RUNNING, actions.now))
                dispatch(tree, node, actions)
        elif isinstance(node.task, Pause | Sleep):
            _end_wait(tree, node, actions)
        elif isinstance(node.task, LoopUntil):
            tree.update(node, replace(run.enter(State.RUNNING, actions.now), due_at=None))
    return fired


def _end_wait(tree: Tree, node: Node, actions: Actions) -> None:
    run, at_end = node.row, node.row.memory.get("atEnd", "RESUME")
    if at_end == "TIMEOUT":
        message = f"Timeout: the task ran longer than {node.row.memory['timeout']:g} s"
        tree.log("ERROR", message, actions.now, node)
        finish(tree, node, actions, State.FAILED, message)
    elif at_end == "FAIL":
        finish(tree, node, actions, State.FAILED, "the pause reached its time limit")
    elif at_end == "CANCEL":
        finish(tree, node, actions, State.CANCELLED, "the pause reached its time limit")
    else:
        if isinstance(node.task, Pause) and not _leaves_outputs(tree, node, actions):
            return
        memory = {**run.memory, "resumed": True, "warn": at_end == "WARN"}
        tree.update(node, replace(run.enter(State.RUNNING, actions.now), due_at=None, memory=memory))
        tree.mark(node)


def _leaves_outputs(tree: Tree, node: Node, actions: Actions) -> bool:
    """Give a Pause that nobody resumed its outputs; False when its inputs have wrong defaults, and it fails by that."""
    try:
        tree.outputs[node.row.id] = resumed_outputs(actions.resume_defaults(node), actions.now)
    except MainstemError as error:
        fail_to_start(tree, node, actions, error)
        return False
    return True


def _kill_open(tree: Tree, actions: Actions) -> None:
    for node in list(tree.nodes.values()):
        run, task = node.row, node.task
        if run.state.is_terminal or run.result is not None or not (is_waiting_leaf(node) or tree.sees(node)):
            continue
        if node.is_written_by_job:
            if not is_waiting_leaf(node.container):
                tree.update(node, replace(run.enter(State.KILLED, actions.now), due_at=None))
        elif isinstance(task, Subflow) and run.state is State.RUNNING and task.wait:
            tree.kill_children.append(run.id)
        elif run.state is State.RUNNING and needs_worker(node):
            tree.stop_runs.append(run.id)
        elif run.state in {State.RUNNING, State.KILLING} and node.open:
            tree.update(node, replace(run.enter(State.KILLING, actions.now), due_at=None))
        else:
            tree.update(node, replace(run.enter(State.KILLED, actions.now), due_at=None))
    tree.mark(tree.root)


def _start(tree: Tree, actions: Actions) -> None:
    if tree.execution.state in {State.CREATED, State.RESTARTED, State.QUEUED}:
        tree.set_execution(replace(tree.execution.enter(State.RUNNING, actions.now), due_at=None))
    if tree.is_held:
        return
    for node in list(tree.nodes.values()):
        if node.row.state in {State.CREATED, State.RESTARTED}:
            dispatch(tree, node, actions)
        elif is_starting(node):
            continue_items(tree, node, actions)


def _mark_open(tree: Tree) -> None:
    tree.mark(tree.root)
    for node in tree.nodes.values():
        if node.row.state in {State.RUNNING, State.KILLING} and not is_waiting_leaf(node) and tree.sees(node):
            tree.mark(node)


def _refresh_state(tree: Tree, now: datetime) -> None:
    """Let the execution's state tell what its runs wait for."""
    state = tree.execution.state
    if state not in {State.RUNNING, *WAITING} or tree.is_held:
        return
    wanted = next((each for each in WAITING if each in tree.waiting), State.RUNNING)
    if wanted is not state:
        tree.set_execution(tree.execution.enter(wanted, now))
