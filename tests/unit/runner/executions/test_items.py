"""ForEachItem: one execution for each batch, started a hundred at a time and counted as they end."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from runner.executions.items import counted, is_complete, items_outputs, items_state
from runner.states import State

if TYPE_CHECKING:
    from tests.unit.runner.executions.conftest import Play

Start = Callable[..., "Play"]

CHILD = (
    "id: child\ninputs: [{id: part, type: STRING}, {id: number, type: INT}]\ntasks: [{id: x, type: core.debug.Return}]"
)
URI = "kestra:///company/team/flow/executions/e/tasks/each-split/r/splits.txt"


def flow(more: str = "") -> str:
    inputs = '{part: "{{ taskrun.items }}", number: "{{ taskrun.iteration }}"}'
    return (
        "tasks: [{id: each, type: core.flow.ForEachItem, items: 'kestra:///x', namespace: company.team, flowId: child, "
        f"inputs: {inputs}{more}}}, {{id: end, type: core.debug.Return}}]"
    )


def split(it: Play, count: int) -> Play:
    """Let the split end with `count` pieces."""
    text = "".join(f"kestra:///piece/{number}.txt\n" for number in range(1, count + 1))
    it.host.storage.put(URI, io.BytesIO(text.encode()))
    return it.end("each_split", outputs={"splits": URI})


def test_each_batch_starts_an_execution_that_knows_its_piece_and_number(play: Start) -> None:
    it = split(play(flow(), others=[CHILD]), 3)

    assert [child.inputs for child in it.children] == [
        {"part": f"kestra:///piece/{number}.txt", "number": number} for number in (1, 2, 3)
    ]
    assert it.output("each_items") == {
        "numberOfBatches": 3,
        "iterations": {"CREATED": 0, "RUNNING": 3},
    }
    assert it.open == ["each", "each_items"]


def test_many_batches_are_started_a_hundred_at_a_time(play: Start) -> None:
    it = play(flow(), others=[CHILD])

    split(it, 250)

    assert [len(commit.children) for commit in it.commits if commit.children] == [100, 100, 50]


def test_no_batches_need_no_flow_to_call(play: Start) -> None:
    it = split(play(flow()), 0)

    assert it.output("each_items") is None
    assert it.end("each_merge").states == [
        "each SUCCESS",
        "each_split SUCCESS",
        "each_items SUCCESS",
        "each_merge SUCCESS",
        "end SUCCESS",
    ]


def test_a_flow_that_is_not_there_fails_the_items_and_nothing_is_merged(play: Start) -> None:
    it = split(play(flow(", allowFailure: true")), 2)

    assert it.states == ["each WARNING", "each_split SUCCESS", "each_items FAILED", "end SUCCESS"]
    assert it.state is State.WARNING


def test_without_waiting_the_items_succeed_at_once(play: Start) -> None:
    it = split(play(flow(", wait: false"), others=[CHILD]), 2)

    assert it.run("each_items").state is State.SUCCESS
    assert it.output("each_items")["iterations"] == {"RUNNING": 0, "SUCCESS": 2}
    assert {child.parent_task_run_id for child in it.children} == {None}


@pytest.mark.parametrize(
    ("ends", "transmits", "state"),
    [
        ([State.SUCCESS, State.SUCCESS], True, State.SUCCESS),
        ([State.WARNING, State.SUCCESS], True, State.WARNING),
        ([State.KILLED, State.WARNING], True, State.KILLED),
        ([State.FAILED, State.KILLED], True, State.FAILED),
        ([State.CANCELLED, State.SUCCESS], True, State.FAILED),
        ([State.FAILED, State.FAILED], False, State.SUCCESS),
    ],
)
def test_the_worst_end_is_the_end_of_all(ends: list[State], transmits: bool, state: State) -> None:  # noqa: FBT001 - a parameter of the test
    memory = {"batches": 2, "started": 2, "ended": {}}

    half = counted(memory, ends[0])
    whole = counted(half, ends[1])

    assert (is_complete(half), is_complete(whole)) == (False, True)
    assert items_outputs(half)["iterations"]["RUNNING"] == 1
    assert items_state(whole, transmits=transmits) is state
