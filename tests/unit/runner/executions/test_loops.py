"""Loops: their values, how many run side by side, what their tasks see, and what ten thousand values cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from runner.executions import flowables, settling
from runner.executions.models import MOST_STATES, Histories, entered_since, extended
from runner.executions.restarting import restart
from runner.states import State
from tests.unit.runner.executions.conftest import NOW

if TYPE_CHECKING:
    from tests.unit.runner.executions.conftest import Hand, Play

Start = Callable[..., "Play"]

BODY = "[{id: a, type: core.storage.Size, uri: x}, {id: b, type: core.storage.Size, uri: x}]"


def loop(values: str, *, limit: int = 1, body: str = BODY) -> str:
    return f"tasks: [{{id: l, type: core.flow.ForEach, values: {values}, concurrencyLimit: {limit}, tasks: {body}}}]"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("[x, y]", ["x", "y"]),
        ("[1, 2.5, true]", ["1", "2.5", "true"]),
        ("[{k: 1}, [1, 2]]", ['{"k":1}', "[1,2]"]),
        ('\'["x", 1, {"k": "ü"}]\'', ["x", "1", '{"k":"ü"}']),
        ("'{{ [1, 2] }}'", ["1", "2"]),
        ("['{{ flow.id }}', y]", ["flow", "y"]),
        ("'{{ range(1, 3) }}'", ["1", "2", "3"]),
        ("[x, y, x]", ["x", "y"]),
        ("['', ' ']", ["", " "]),
    ],
)
def test_values_are_the_distinct_texts_of_what_is_given(play: Start, values: str, expected: list[str]) -> None:
    ended = play(loop(values, body="[{id: a, type: core.debug.Return, format: '{{ taskrun.value }}'}]"))

    assert [run.value for run in ended.runs[1:]] == expected
    assert [run.iteration for run in ended.runs[1:]] == list(range(len(expected)))
    assert [ended.outputs[run.id]["value"] for run in ended.runs[1:]] == expected
    assert ended.state is State.SUCCESS


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("'no json'", "must be a JSON array, got 'no json'"),
        ("'{\"a\": 1}'", "must be an array, got dict"),
        ("'7'", "must be an array, got int"),
        ("[x, null, null]", "Found '2' null values"),
        ("'{{ missing }}'", "missing"),
        ("{a: 1}", "must be an array, got dict"),
    ],
)
def test_values_that_are_no_list_fail_the_loop(play: Start, values: str, message: str) -> None:
    failed = play(loop(values))

    assert (failed.state, failed.states) == (State.FAILED, ["l FAILED"])
    assert message in str(failed.run("l").error)


def test_a_loop_over_nothing_succeeds(play: Start) -> None:
    ended = play(loop("[]"))

    assert (ended.state, ended.states) == (State.SUCCESS, ["l SUCCESS"])


def test_one_value_at_a_time_runs_every_task_in_order(play: Start) -> None:
    running = play(loop("[x, y]"))

    seen = []
    while running.open:
        seen.append(running.open[-1])
        running.end(running.open[-1])

    assert seen == ["a[x]", "b[x]", "a[y]", "b[y]"]
    assert running.state is State.SUCCESS


def test_values_side_by_side_do_not_wait_for_each_other(play: Start) -> None:
    running = play(loop("[x, y, z]", limit=2))

    assert running.open == ["l", "a[x]", "a[y]"]
    assert running.end("a[y]").open == ["l", "a[x]", "b[y]"]
    assert running.end("b[y]").open == ["l", "a[x]", "a[z]"]
    assert running.end("a[x]").open == ["l", "a[z]", "b[x]"]


def test_no_limit_starts_every_value_at_once(play: Start) -> None:
    assert play(loop("[x, y, z]", limit=0)).open == ["l", "a[x]", "a[y]", "a[z]"]


def test_a_failing_value_stops_new_values_and_lets_running_ones_end(play: Start) -> None:
    running = play(loop("[x, y, z]", limit=2))

    assert running.fail("a[x]").open == ["l", "a[y]"]
    assert running.end("a[y]").open == []
    assert (running.state, running.run("l").state) == (State.FAILED, State.FAILED)


def test_the_errors_branch_of_a_loop_waits_for_the_values_that_run(play: Start) -> None:
    source = loop("[x, y]", limit=2).replace(
        "tasks: [{id: a", "errors: [{id: e, type: core.debug.Return}], tasks: [{id: a"
    )
    running = play(source)

    assert "e" not in running.fail("a[x]").started
    assert running.end("a[y]").started[-1] == "e"
    assert running.state is State.FAILED


def test_inner_loops_name_their_values_and_find_the_outer_ones(play: Start) -> None:
    text = "{{ parents[0].taskrun.value }}-{{ taskrun.value }}-{{ item.parent.value }}-{{ taskrun.iteration }}"
    leaf = f"{{id: a, type: core.debug.Return, format: '{text}'}}"
    inner = f"[{{id: i, type: core.flow.ForEach, values: [1, 2], tasks: [{leaf}]}}]"
    source = f"{loop('[x, y]', body=inner)}\noutputs: [{{id: o, type: JSON, value: '{{{{ outputs.a | toJson }}}}'}}]"

    ended = play(source)

    values = [ended.outputs[run.id]["value"] for run in ended.runs if run.task_id == "a"]
    assert values == ["x-1-x-0", "x-2-x-1", "y-1-y-0", "y-2-y-1"]
    assert ended.execution.outputs["o"] == {
        "x": {"1": {"value": "x-1-x-0"}, "2": {"value": "x-2-x-1"}},
        "y": {"1": {"value": "y-1-y-0"}, "2": {"value": "y-2-y-1"}},
    }


def test_a_task_of_a_loop_sees_the_outputs_of_its_own_value(play: Start) -> None:
    body = """[{id: a, type: core.debug.Return, format: "<{{ taskrun.value }}>"},
      {id: b, type: core.debug.Return, format: "{{ outputs.a[taskrun.value].value }}"}]"""

    ended = play(loop("[x, y]", limit=0, body=body))

    assert [ended.output(f"b[{value}]") for value in "xy"] == [{"value": "<x>"}, {"value": "<y>"}]


def test_all_tasks_of_all_values_start_in_the_old_parallel_loop(play: Start) -> None:
    source = f'tasks: [{{id: l, type: core.flow.EachParallel, value: \'["x", "y"]\', concurrent: 3, tasks: {BODY}}}]'

    running = play(source)

    assert running.open == ["l", "a[x]", "b[x]", "a[y]"]
    assert running.end("b[x]").open == ["l", "a[x]", "a[y]", "b[y]"]


def test_the_old_sequential_loop_takes_one_value_at_a_time(play: Start) -> None:
    running = play(f"tasks: [{{id: l, type: core.flow.EachSequential, value: [x, y], tasks: {BODY}}}]")

    assert running.end("a[x]").end("b[x]").open == ["l", "a[y]"]


def test_a_loop_runs_until_its_condition_holds(play: Start) -> None:
    source = """
tasks:
  - id: u
    type: core.flow.LoopUntil
    condition: "{{ outputs.u.iterationCount >= 3 }}"
    checkFrequency: {interval: PT10S}
    tasks: [{id: a, type: core.debug.Return, format: "{{ outputs.u.iterationCount }}"}]
"""

    running = play(source)

    assert (running.output("a"), running.run("u").due_at is not None) == ({"value": "1"}, True)
    assert running.wait(9).output("a") == {"value": "1"}
    assert running.wait(1).output("a") == {"value": "2"}
    assert running.wait(10).state is State.SUCCESS
    assert (running.output("u"), running.states) == ({"iterationCount": 3}, ["u SUCCESS", "a SUCCESS"])


UNTIL = """
tasks:
  - id: u
    type: core.flow.LoopUntil
    condition: "{{ outputs.u.iterationCount >= 3 }}"
    checkFrequency: {interval: PT10S}
    tasks: [{id: a, type: core.debug.Return, format: "{{ outputs.u.iterationCount }}"}]
"""


def test_a_loop_is_paused_between_two_rounds(play: Start) -> None:
    waiting = play(UNTIL)

    assert waiting.states == ["u PAUSED", "a SUCCESS"]
    assert (waiting.state, waiting.open) == (State.PAUSED, ["u"])
    assert waiting.wait(10).wait(10).state is State.SUCCESS
    assert waiting.history("u") == ["CREATED", "RUNNING", *["PAUSED", "RUNNING"] * 2, "SUCCESS"]
    assert waiting.history() == ["CREATED", "RUNNING", *["PAUSED", "RUNNING"] * 2, "SUCCESS"]


def test_a_loop_that_waits_can_be_killed(play: Start) -> None:
    waiting = play(UNTIL)

    assert waiting.kill().states == ["u KILLED", "a SUCCESS"]
    assert waiting.state is State.KILLED


def test_who_resumes_a_loop_between_two_rounds_begins_the_next_one(hand: Hand) -> None:
    hand.deploy(UNTIL.strip())
    execution = hand.create()
    hand.turn()

    resumed = hand.engine.resume(execution.id)
    hand.turn()

    outputs = hand.store.read(lambda db: db.executions.outputs(execution.id))
    assert resumed.state is State.RUNNING
    assert {"iterationCount": 2} in outputs.values()
    assert {"value": "2"} in outputs.values()


def test_a_restart_between_two_rounds_asks_the_condition_again(play: Start) -> None:
    waiting = play(UNTIL)

    waiting.change(restart).advance()

    assert waiting.states == ["u PAUSED", "a SUCCESS"]
    assert waiting.wait(10).wait(10).state is State.SUCCESS


def test_the_history_of_a_loop_that_waits_for_long_is_bounded(play: Start) -> None:
    waiting = play(UNTIL.replace(">= 3", ">= 600").replace("PT10S", "PT10S, maxIterations: 1000, maxDuration: P1D"))

    while waiting.state is State.PAUSED:
        waiting.wait(10)

    states = waiting.history()
    assert len(states) < MOST_STATES
    assert states == ["CREATED", "RUNNING", *["PAUSED", "RUNNING"] * ((len(states) - 3) // 2), "SUCCESS"]
    assert sum(row.task_run_id is None for commit in waiting.commits for row in commit.history) > MOST_STATES


def test_what_a_history_got_is_found_though_its_middle_was_left_out() -> None:
    moments = [NOW + timedelta(seconds=number) for number in range(MOST_STATES + 2)]
    before: Histories = tuple((State.RUNNING, at) for at in moments[:MOST_STATES])
    after = extended(extended(before, State.PAUSED, moments[-2]), State.RUNNING, moments[-1])

    assert entered_since(before, after) == ((State.PAUSED, moments[-2]), (State.RUNNING, moments[-1]))


@pytest.mark.parametrize(("fails", "state"), [("true", State.FAILED), ("false", State.SUCCESS)])
@pytest.mark.parametrize("limit", ["maxIterations: 2", "maxDuration: PT1S"])
def test_a_loop_that_never_holds_ends_at_its_limit(play: Start, limit: str, fails: str, state: State) -> None:
    source = f"""
tasks:
  - id: u
    type: core.flow.LoopUntil
    condition: "false"
    failOnMaxReached: {fails}
    checkFrequency: {{interval: PT1S, {limit}}}
    tasks: [{{id: a, type: core.debug.Return}}]
"""

    assert play(source).wait(1).state is state


def test_a_failing_task_ends_the_loop_at_once(play: Start) -> None:
    inner = "[{id: a, type: core.execution.Fail}]"
    source = f"tasks: [{{id: u, type: core.flow.LoopUntil, condition: 'false', tasks: {inner}}}]"

    assert play(source).states == ["u FAILED", "a FAILED"]


@pytest.mark.parametrize("limit", [1, 8, 0])
def test_ten_thousand_values_are_decided_with_an_even_effort(
    play: Start, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    effort: Counter[str] = Counter()

    def counted(name: str, function: Any) -> Any:
        def call(*args: Any) -> Any:
            effort[name] += 1
            return function(*args)

        return call

    monkeypatch.setattr(settling, "next_main", counted("next", flowables.next_main))
    body = "[{id: a, type: core.debug.Return, format: x}]"

    ended = play(loop("'{{ range(1, 10000) }}'", limit=limit, body=body), advance=False)
    commit = ended.once()

    assert commit is not None
    assert (ended.state, len(ended.runs)) == (State.SUCCESS, 10_001)
    assert effort["next"] < 10_100
