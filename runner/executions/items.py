"""Starting an execution for each batch of a ForEachItem task, and counting those that have ended. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from runner.errors import MainstemError
from runner.executions.ending import end_attempt
from runner.executions.flowables import Actions
from runner.executions.models import OUTBOX_ADVANCE, OutboxRow
from runner.executions.tree import Node, Tree
from runner.states import State
from runner.tasks.for_each_item import Items

AT_ONCE: Final = 100  # executions that one commit starts
_WORST: Final = (State.FAILED, State.KILLED, State.WARNING)


@dataclass(frozen=True, slots=True)
class Batch:
    """A piece of the file that a flow is started for; `iteration` counts from 1."""

    uri: str
    iteration: int


def is_starting(node: Node) -> bool:
    """Return whether there are batches left for which no execution has been started."""
    run = node.row
    is_open = isinstance(node.task, Items) and run.state is State.RUNNING and run.result is None
    return is_open and run.memory.get("started", 0) < run.memory.get("batches", 0)


def start_items(tree: Tree, node: Node, actions: Actions) -> None:
    """Begin a run of the items: find out how many batches there are, and start the first executions."""
    run = replace(node.row.enter(State.RUNNING, actions.now), attempts=node.row.attempts + 1, result=None)
    tree.update(node, replace(run, memory={}))
    try:
        batches = len(actions.batches(node))
    except MainstemError as error:
        _fail(tree, node, actions, error)
        return
    if not batches:
        end_attempt(tree, node, actions, State.SUCCESS, None)
        return
    tree.update(node, replace(node.row, memory={"batches": batches, "started": 0, "ended": {}}))
    continue_items(tree, node, actions)


def continue_items(tree: Tree, node: Node, actions: Actions) -> None:
    """Start the executions of the next batches; the execution rings itself while some are left."""
    task, memory = node.task, node.row.memory
    assert isinstance(task, Items)
    begun = memory["started"]
    try:
        wanted = actions.batches(node)[begun : begun + AT_ONCE]
        children = [
            actions.start_subflow(node, Batch(uri, number)) for number, uri in enumerate(wanted, start=begun + 1)
        ]
    except MainstemError as error:
        _fail(tree, node, actions, error)
        return
    tree.started_children.extend(children)
    memory = {**memory, "started": begun + len(children)}
    tree.update(node, replace(node.row, memory=memory))
    if memory["started"] < memory["batches"]:
        tree.outbox.append(OutboxRow(OUTBOX_ADVANCE, tree.execution.id))
        tree.put_off(node)
    elif not task.wait:
        done = {State.SUCCESS.value: memory["batches"]}
        tree.outputs[node.row.id] = {"numberOfBatches": memory["batches"], "iterations": {"RUNNING": 0, **done}}
        end_attempt(tree, node, actions, State.SUCCESS, None)
        return
    tree.outputs[node.row.id] = items_outputs(memory)


def _fail(tree: Tree, node: Node, actions: Actions, error: MainstemError) -> None:
    tree.log("ERROR", error.message, actions.now, node)
    end_attempt(tree, node, actions, State.FAILED, error.message)


def counted(memory: Mapping[str, Any], ended: State) -> dict[str, Any]:
    """Return what the run remembers when one more of its executions has ended."""
    counts = Counter(memory.get("ended") or {})
    counts[ended.value] += 1
    return {**memory, "ended": dict(counts)}


def is_complete(memory: Mapping[str, Any]) -> bool:
    """Return whether the executions of all batches have ended."""
    return bool(sum(memory["ended"].values()) >= memory["batches"])


def items_outputs(memory: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs of the run: how many batches there are, and how many executions are in which state."""
    ended = memory["ended"]
    running = memory["started"] - sum(ended.values())
    created = memory["batches"] - memory["started"]
    return {"numberOfBatches": memory["batches"], "iterations": {"CREATED": created, "RUNNING": running, **ended}}


def items_state(memory: Mapping[str, Any], *, transmits: bool) -> State:
    """Return the state of a run whose executions have all ended: the worst of theirs, if it is told at all."""
    if not transmits:
        return State.SUCCESS
    ended = {State(name) for name in memory["ended"]}
    ended |= {State.FAILED} if State.CANCELLED in ended else set()
    return next((state for state in _WORST if state in ended), State.SUCCESS)
