"""What waits for somebody or for a time: the outputs of a Pause, and breakpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from runner.errors import ConflictError
from runner.executions.reruns import Reruns
from runner.states import State
from tests.unit.runner.executions.conftest import NOW

if TYPE_CHECKING:
    from tests.unit.runner.executions.conftest import Hand, Play

Start = Callable[..., "Play"]

OK = "{id: %s, type: core.debug.Return, format: '{{ taskrun.value ?? task.id }}'}"


@pytest.mark.parametrize("behavior", ["RESUME", "WARN"])
def test_a_pause_whose_time_is_over_leaves_the_defaults_of_its_inputs(play: Start, behavior: str) -> None:
    inputs = (
        "[{id: who, type: STRING, defaults: '{{ flow.id }}'}, {id: n, type: INT, defaults: 2}, {id: x, type: STRING}]"
    )
    waiting = play(
        f"tasks: [{{id: p, type: core.flow.Pause, delay: PT10S, behavior: {behavior}, onResume: {inputs}}},"
        " {id: r, type: core.debug.Return, format: '{{ outputs.p.onResume.who }}{{ outputs.p.onResume.n + 1 }}'}]"
    )

    ended = waiting.wait(10)

    assert ended.output("r") == {"value": "flow3"}
    assert ended.output("p") == {
        "onResume": {"who": "flow", "n": 2},
        "resumed": {"on": waiting.now.isoformat(), "by": "", "to": "RUNNING"},
    }


def test_a_pause_whose_defaults_are_wrong_fails_when_its_time_is_over(play: Start) -> None:
    inputs = "[{id: n, type: INT, defaults: '{{ missing }}'}]"
    waiting = play(f"tasks: [{{id: p, type: core.flow.Pause, delay: PT10S, onResume: {inputs}}}]")

    ended = waiting.wait(10)

    assert ended.states == ["p FAILED"]
    assert "Unable to find `missing`" in str(ended.run("p").error)


def test_nothing_begins_at_a_breakpoint_until_somebody_lets_it(hand: Hand) -> None:
    hand.deploy(f"tasks: [{OK % 'a'}, {OK % 'b'}, {OK % 'c'}]")
    execution = hand.create(breakpoints=("b",))
    hand.turn()
    stopped = hand.get(execution)

    Reruns(hand.engine).resume_from_breakpoint(execution.id)
    hand.turn()

    states = {run.task_id: [state.value for state, _ in run.histories] for run in hand.runs(execution)}
    assert stopped.state is State.BREAKPOINT
    assert hand.states(execution) == "SUCCESS"
    assert states["b"] == ["CREATED", "BREAKPOINT", "CREATED", "RUNNING", "SUCCESS"]
    assert [state.value for state, _ in hand.get(execution).histories] == [
        "CREATED",
        "RUNNING",
        "BREAKPOINT",
        "RUNNING",
        "SUCCESS",
    ]


@pytest.mark.parametrize(
    ("breakpoints", "stops"),
    [(("a",), ["a[x]", "a[y]"]), (("a.y",), ["a[y]"]), (("l",), ["l"]), (("other",), [])],
)
def test_a_breakpoint_names_a_task_and_perhaps_a_value(
    play: Start, breakpoints: tuple[str, ...], stops: list[str]
) -> None:
    loop = f"{{id: l, type: core.flow.ForEach, values: [x, y], concurrencyLimit: 0, tasks: [{OK % 'a'}]}}"

    it = play(f"tasks: [{loop}]", breakpoints=breakpoints)

    assert [each.split()[0] for each in it.states if each.endswith("BREAKPOINT")] == stops


def test_what_runs_beside_a_breakpoint_goes_on(play: Start) -> None:
    inner = f"{OK % 'a'}, {{id: s, type: core.flow.Sequential, tasks: [{OK % 'b'}, {OK % 'c'}]}}"

    it = play(f"tasks: [{{id: p, type: core.flow.Parallel, tasks: [{inner}]}}]", breakpoints=("a",))

    assert it.states == ["p RUNNING", "a BREAKPOINT", "s SUCCESS", "b SUCCESS", "c SUCCESS"]
    assert it.state is State.BREAKPOINT


def test_an_execution_at_a_breakpoint_can_be_killed(play: Start) -> None:
    it = play(f"tasks: [{OK % 'a'}]", breakpoints=("a",))

    assert it.kill().states == ["a KILLED"]
    assert it.state is State.KILLED


def test_new_breakpoints_replace_the_old_ones(hand: Hand) -> None:
    hand.deploy(f"tasks: [{OK % 'a'}, {OK % 'b'}, {OK % 'c'}]")
    execution = hand.create(breakpoints=("a", "b"))
    hand.turn()

    Reruns(hand.engine).resume_from_breakpoint(execution.id, ["c"])
    hand.turn()

    assert [run.task_id for run in hand.runs(execution) if run.state is State.BREAKPOINT] == ["c"]
    Reruns(hand.engine).force_run(execution.id)
    hand.turn()
    assert hand.states(execution) == "SUCCESS"


def test_an_execution_that_stands_at_no_breakpoint_cannot_go_on_from_one(hand: Hand) -> None:
    hand.deploy("tasks: [{id: p, type: core.flow.Pause}]")
    execution = hand.create()
    hand.turn()

    with pytest.raises(ConflictError, match="is PAUSED, it is not at a breakpoint"):
        Reruns(hand.engine).resume_from_breakpoint(execution.id)

    assert hand.now > NOW
