"""What holds for every flow: a step is pure, repeating it changes nothing, and every flow comes to its end."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.executions.burst import BurstActions
from runner.executions.models import Commit
from runner.executions.step import step
from runner.executions.tree import Tree
from runner.states import FAILURES, State

if TYPE_CHECKING:
    from tests.unit.runner.executions.conftest import Play

Start = Callable[..., "Play"]

RULES = {
    "constant": {"type": "constant", "interval": "PT1S", "maxAttempts": 2},
    "exponential": {"type": "exponential", "interval": "PT1S", "maxInterval": "PT4S", "maxAttempts": 3},
    "warning": {"type": "constant", "interval": "PT1S", "maxAttempts": 2, "warningOnRetry": True},
}
LEAVES: list[dict[str, Any]] = [
    {"type": "core.debug.Return", "format": "x"},
    {"type": "core.execution.Fail"},
    {"type": "core.storage.Size", "uri": "x"},
    {"type": "core.storage.Size", "uri": "x"},
    {"type": "core.flow.Sleep", "duration": "PT1S"},
    {"type": "core.flow.Pause", "delay": "PT1S", "behavior": "WARN"},
    {"type": "core.flow.Pause"},
    {"type": "core.execution.Labels", "labels": {"a": "b"}},
    {"type": "core.execution.SetVariables", "variables": {"a": 1}},
    {"type": "core.execution.Exit", "state": "WARNING"},
]
OPTIONS: list[dict[str, Any]] = [
    {},
    {},
    {"allowFailure": True},
    {"runIf": "false"},
    {"disabled": True},
    *({"retry": rule} for rule in RULES.values()),
]
LOOP = "tasks: [{id: l, type: core.flow.ForEach, values: %s, tasks: [{id: a, type: core.debug.Return}]}]"
leaves = st.builds(lambda leaf, options: leaf | options, st.sampled_from(LEAVES), st.sampled_from(OPTIONS))


def containers(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    some = st.lists(inner, min_size=1, max_size=3)
    few = st.lists(leaves, max_size=1)

    def block(kind: str, **fields: Any) -> st.SearchStrategy[dict[str, Any]]:
        values = {name: st.just(value) for name, value in fields.items()}
        branches = {"tasks": some, "errors": few, "finally": few}
        return st.fixed_dictionaries({"type": st.just(f"core.flow.{kind}"), **branches, **values})

    return st.one_of(
        block("Sequential"),
        block("AllowFailure"),
        block("Parallel", concurrent=0),
        block("Parallel", concurrent=1),
        block("ForEach", values=["x", "y"], concurrencyLimit=1),
        block("ForEach", values=["x", "y", "z"], concurrencyLimit=2),
        block("EachParallel", value=["x", "y"]),
        block("LoopUntil", condition="false", checkFrequency={"interval": "PT1S", "maxIterations": 2}),
        st.fixed_dictionaries(
            {"type": st.just("core.flow.If"), "condition": st.sampled_from(["a", ""]), "then": some, "else": some}
        ),
        st.fixed_dictionaries(
            {
                "type": st.just("core.flow.Switch"),
                "value": st.sampled_from("ab"),
                "cases": st.fixed_dictionaries({"a": some}),
            }
        ),
    )


tasks = st.lists(st.recursive(leaves, containers, max_leaves=6), min_size=1, max_size=3)
flows = st.fixed_dictionaries(
    {"tasks": tasks, "errors": st.lists(leaves, max_size=1), "finally": st.lists(leaves, max_size=1)},
    optional={"afterExecution": st.lists(leaves, min_size=1, max_size=1)},
)


def numbered(value: Any, numbers: list[int]) -> Any:
    """Give each task an id of its own."""
    if isinstance(value, list):
        return [numbered(item, numbers) for item in value]
    if not isinstance(value, dict):
        return value
    named = {key: numbered(item, numbers) for key, item in value.items()}
    if str(named.get("type", "")).startswith("core."):
        numbers[0] += 1
        named["id"] = f"t{numbers[0]}"
    return named


def source_of(flow: dict[str, Any]) -> str:
    return "\n".join(f"{name}: {json.dumps(value)}" for name, value in numbered(flow, [0]).items())


def decided(playing: Play) -> Commit | None:
    """What a step decides now, without committing it."""
    tree = Tree(playing.index, playing.loaded)
    step(tree, BurstActions(tree, playing.host, playing.now, lambda _run_ids: playing.outputs, playing._start_subflow))
    return tree.commit() if tree.is_changed else None


def happen(playing: Play, choice: int) -> bool:
    """Let one thing happen that the execution waits for; whether there was any."""
    submitted = [run for run in playing.runs if run.state is State.SUBMITTED]
    if submitted:
        run = submitted[choice % len(submitted)]
        result = [State.SUCCESS, State.FAILED, State.WARNING][choice % 3]
        playing.end(run.id, result)
    elif any(run.due_at for run in playing.runs if not run.state.is_terminal):
        playing.wait(10)
    elif any(run.state is State.PAUSED for run in playing.runs) and not playing.state.is_terminal:
        playing.resume()
    else:
        return False
    return True


def check_order(playing: Play) -> None:
    """Histories go forward in time, and end once."""
    for histories in (playing.execution.histories, *(run.histories for run in playing.runs)):
        moments = [at for _, at in histories]
        assert moments == sorted(moments)
        assert [state for state, _ in histories[:-1] if state.is_terminal] == []


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
    database=None,
)
@given(flow=flows, choices=st.lists(st.integers(0, 11), min_size=5, max_size=40))
def test_every_flow_comes_to_its_end_and_a_step_repeated_changes_nothing(
    play: Start, flow: dict[str, Any], choices: list[int]
) -> None:
    playing = play(source_of(flow))

    for turn in range(200):
        assert decided(playing) is None
        if not happen(playing, choices[turn % len(choices)]):
            break

    assert playing.state.is_terminal
    still = [run for run in playing.runs if not run.state.is_terminal and run.state is not State.PAUSED]
    assert still == []
    check_order(playing)
    if any(run.state in FAILURES for run in playing.runs if run.parent_id is None and run.branch == "tasks"):
        assert playing.state is not State.SUCCESS or "Exit" in json.dumps(flow)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
    database=None,
)
@given(flow=flows, choices=st.lists(st.integers(0, 11), max_size=6), bodies=st.booleans())
def test_a_kill_ends_every_flow_at_every_moment(
    play: Start, flow: dict[str, Any], choices: list[int], *, bodies: bool
) -> None:
    playing = play(source_of(flow))
    for choice in choices:
        happen(playing, choice)
    for run in playing.runs if bodies else ():
        if run.state is State.SUBMITTED:
            playing.claim(run.id)
    if playing.state.is_terminal:
        return

    playing.kill()
    for run in [run for run in playing.runs if run.state is State.RUNNING and run.epoch]:
        playing.end(run.id, State.KILLED)

    assert playing.state is State.KILLED
    assert [run for run in playing.runs if not run.state.is_terminal and run.branch != "afterExecution"] == []
    check_order(playing)


def test_a_step_does_not_touch_what_it_was_given(play: Start) -> None:
    playing = play(
        LOOP % "[x, y]",
        advance=False,
    )
    before = repr(playing.loaded)

    first, second = decided(playing), decided(playing)

    assert repr(playing.loaded) == before
    assert first is not None
    assert second is not None
    assert [run.state for run in first.new_runs] == [run.state for run in second.new_runs]


def test_a_burst_that_takes_too_long_is_cut_and_rings_again(play: Start) -> None:
    playing = play(
        LOOP % "'{{ range(1, 50) }}'",
        advance=False,
    )
    moments = iter(range(10**6))
    object.__setattr__(playing.host, "monotonic", lambda: next(moments) / 100)

    commits = 0
    while playing.once() is not None:
        commits += 1

    assert commits > 5
    assert (playing.state, len(playing.runs)) == (State.SUCCESS, 51)
    assert [row.key for row in playing.rung if row.kind == "advance"] == [playing.execution.id] * (commits - 1)
