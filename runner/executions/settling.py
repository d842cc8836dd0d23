"""What follows when something inside a container has ended: the next task, errors, finally, its own end. Pure."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from runner.errors import MainstemError
from runner.executions.ending import fail_to_start, finish
from runner.executions.flow_index import AFTER, ERRORS, FINALLY, LISTENERS
from runner.executions.flowables import Actions, Next, close_loop, duration_of, next_main, next_of_branch
from runner.executions.models import OUTBOX_ADVANCE, OutboxRow
from runner.executions.starting import dispatch
from runner.executions.tree import Node, Tree
from runner.expressions import is_truthy
from runner.flows.models import TaskKind
from runner.states import State
from runner.tasks.flow import AllowFailure, Loop, LoopUntil, WorkingDirectory


def settle_all(tree: Tree, actions: Actions) -> None:
    """Settle marked containers until none is left, or the budget is used and the execution rings itself again."""
    while tree.dirty:
        if actions.is_over_budget():
            tree.outbox.append(OutboxRow(OUTBOX_ADVANCE, tree.execution.id))
            tree.clear_marks()
            return
        node = tree.dirty.popleft()
        node.queued = False
        if node.run is None:
            _settle_root(tree, actions)
        elif node.row.state in {State.RUNNING, State.KILLING}:
            _settle(tree, node, actions)


def is_waiting_leaf(node: Node) -> bool:
    """Return whether a run waits for a worker or another execution, with nothing in it to settle."""
    task = node.task
    if task is None or task.kind is not TaskKind.FLOWABLE:
        return True
    is_open = not node.row.state.is_terminal and node.row.result is None
    return isinstance(task, WorkingDirectory) and is_open and "jobDone" not in node.row.memory


def _settle(tree: Tree, node: Node, actions: Actions) -> None:
    if is_waiting_leaf(node):
        return
    if node.row.state is State.KILLING or tree.execution.state is State.KILLING:
        if node.open == 0:
            finish(tree, node, actions, State.KILLED)
        return
    if node.row.due_at is not None:
        return
    if _advance_branches(tree, node, actions):
        return
    if isinstance(node.task, LoopUntil) and not node.failed and _loops_again(tree, node, actions):
        return
    if isinstance(node.task, Loop) and not _closes(tree, node, actions):
        return
    finish(tree, node, actions, _final_state(node))


def _closes(tree: Tree, node: Node, actions: Actions) -> bool:
    """Give a loop its last outputs; False when they cannot be rendered, and it has failed by that."""
    try:
        tree.outputs[node.row.id] = close_loop(tree, node, actions)
    except MainstemError as error:
        fail_to_start(tree, node, actions, error)
        return False
    return True


def _advance_branches(tree: Tree, node: Node, actions: Actions) -> bool:
    """Start what comes next in the main branch, then errors, then finally; False when all of them are over."""
    is_job = isinstance(node.task, WorkingDirectory)
    late = ERRORS in node.children or FINALLY in node.children
    if not late and not node.failed and not is_job and _begin(tree, node, actions, next_main(tree, node)):
        return True
    if node.open:
        return True
    if FINALLY not in node.children and _has_error(node):
        errors = node.children.get(ERRORS, [])
        broken = bool(errors) and errors[-1].row.state.is_failed
        if not broken and _begin(tree, node, actions, next_of_branch(tree, node, ERRORS)):
            return True
    ended = node.children.get(FINALLY, [])
    if ended and ended[-1].row.state.is_failed:
        return False
    return _begin(tree, node, actions, next_of_branch(tree, node, FINALLY))


def _has_error(node: Node) -> bool:
    if node.run is not None and node.row.memory.get("jobDone") == State.FAILED.value:
        return True
    return node.fails and State.FAILED in node.main_states()


def _begin(tree: Tree, node: Node, actions: Actions, found: list[Next]) -> bool:
    if not found:
        return False
    if tree.is_held:
        return True
    for item in found:
        child = tree.create(
            node,
            item.task,
            actions.new_id(),
            actions.now,
            branch=item.branch,
            value=item.value,
            iteration=item.iteration,
        )
        dispatch(tree, child, actions)
        if tree.execution.state.is_terminal:
            return True
    return True


def _final_state(node: Node) -> State:
    """Return the state of a container whose branches are over: the worst of its main runs, and of finally."""
    states = node.main_states()
    if not node.fails:
        states.discard(State.FAILED)
    if node.run is not None and "jobDone" in node.row.memory:
        states.add(State(node.row.memory["jobDone"]))
    states |= {child.row.state for child in node.children.get(FINALLY, ())} & {State.FAILED, State.KILLED}
    if isinstance(node.task, AllowFailure) and State.FAILED in states:
        return State.WARNING
    if node.run is not None and node.row.memory.get("warn"):
        states.add(State.WARNING)
    for state in (State.KILLED, State.FAILED, State.CANCELLED, State.WARNING):
        if state in states:
            return state
    return State.SUCCESS


def _loops_again(tree: Tree, node: Node, actions: Actions) -> bool:
    task, run = node.task, node.row
    assert isinstance(task, LoopUntil)
    if run.memory.get("waited"):
        for child in [child for children in node.children.values() for child in list(children)]:
            tree.remove(child)
        count = run.memory["iterations"] + 1
        tree.outputs[run.id] = {"iterationCount": count}
        tree.update(node, replace(run, memory={**run.memory, "iterations": count, "waited": False}))
        tree.mark(node)
        return True
    try:
        if is_truthy(actions.render(node, task.condition)):
            return False
        interval = duration_of(node, actions, task.check_frequency.interval) or timedelta(0)
        longest = duration_of(node, actions, task.check_frequency.max_duration)
        most = task.check_frequency.max_iterations
        most = int(actions.render(node, most)) if isinstance(most, str) else most
    except MainstemError as error:
        fail_to_start(tree, node, actions, error)
        return True
    since = datetime.fromisoformat(run.memory["since"])
    exhausted = (most is not None and run.memory["iterations"] >= most) or (
        longest is not None and actions.now >= since + longest
    )
    if exhausted:
        if task.fail_on_max_reached:
            finish(tree, node, actions, State.FAILED, "the loop reached its limit before its condition held")
            return True
        return False
    waiting = replace(run.enter(State.PAUSED, actions.now), due_at=actions.now + interval)
    tree.update(node, replace(waiting, memory={**run.memory, "waited": True}))
    return True


def _settle_root(tree: Tree, actions: Actions) -> None:
    execution, root = tree.execution, tree.root
    if execution.state.is_terminal:
        _follow_end(tree, actions)
        return
    if execution.state is State.KILLING:
        if root.open == 0:
            tree.set_execution(execution.enter(State.KILLED, actions.now))
            tree.mark(root)
        return
    if _advance_branches(tree, root, actions) or tree.execution.state.is_terminal:
        return
    state = _final_state(root)
    outputs: dict[str, Any] = {}
    if tree.flow.outputs and state in {State.SUCCESS, State.WARNING}:
        try:
            outputs = actions.flow_outputs()
        except MainstemError as error:
            tree.log("ERROR", f"Failed to render the outputs of the flow: {error.message}", actions.now)
            state = State.FAILED
    tree.set_execution(replace(tree.execution, outputs=outputs).enter(state, actions.now))
    tree.mark(root)


def _follow_end(tree: Tree, actions: Actions) -> None:
    """Run what follows the end of an execution; the result no longer changes its state."""
    if tree.execution.state is State.RETRIED:
        return
    for branch, tasks in tree.index.root_branches():
        if branch != AFTER and not branch.startswith(LISTENERS):
            continue
        done = tree.root.children.get(branch, [])
        if not tasks or (done and done[-1].row.state.is_failed):
            continue
        if branch.startswith(LISTENERS) and not done and not _listens(tree, branch, actions):
            continue
        _begin(tree, tree.root, actions, next_of_branch(tree, tree.root, branch))


def _listens(tree: Tree, branch: str, actions: Actions) -> bool:
    try:
        return actions.listener_holds(int(branch.removeprefix(LISTENERS)))
    except MainstemError as error:
        tree.log("ERROR", f"Failed to evaluate the conditions of a listener: {error.message}", actions.now)
        return False
