"""Which tasks a container starts when, and what its state becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from runner.states import State

if TYPE_CHECKING:
    from tests.unit.runner.executions.conftest import Play

Start = Callable[..., "Play"]

RETURN = "{id: %s, type: core.debug.Return, format: '%s'}"
FAIL = "{id: %s, type: core.execution.Fail}"


def work(*ids: str) -> str:
    """Tasks that a worker runs, as an inline YAML list."""
    return "[" + ", ".join(f"{{id: {name}, type: core.storage.Size, uri: x}}" for name in ids) + "]"


def test_tasks_run_one_after_the_other(play: Start) -> None:
    running = play(f"tasks: {work('a', 'b')}")

    assert running.started == ["a"]
    assert running.end("a").started == ["a", "b"]
    assert running.end("b").state is State.SUCCESS
    assert running.history() == ["CREATED", "RUNNING", "SUCCESS"]
    assert running.history("a") == ["CREATED", "RUNNING", "SUCCESS"]


def test_instant_tasks_need_one_step_and_no_worker(play: Start) -> None:
    ended = play(f"tasks: [{RETURN % ('a', '1')}, {RETURN % ('b', '{{ outputs.a.value }}2')}]", advance=False)

    commit = ended.once()

    assert commit is not None
    assert (ended.state, ended.output("b"), ended.submitted) == (State.SUCCESS, {"value": "12"}, [])
    assert ended.once() is None


def test_a_failure_stops_what_comes_after_it(play: Start) -> None:
    failed = play(f"tasks: {work('a', 'b')}").fail("a")

    assert (failed.state, failed.states) == (State.FAILED, ["a FAILED"])
    assert failed.run("a").error == "broken"


def test_a_sequence_inside_the_flow_ends_with_its_last_task(play: Start) -> None:
    running = play(f"tasks: [{{id: s, type: core.flow.Sequential, tasks: {work('a', 'b')}}}, {RETURN % ('z', '')}]")

    assert running.states == ["s RUNNING", "a SUBMITTED"]
    assert running.end("a").end("b").states == ["s SUCCESS", "a SUCCESS", "b SUCCESS", "z SUCCESS"]
    assert running.run("a").parent_id == running.run("s").id


@pytest.mark.parametrize(
    ("concurrent", "first", "second"), [(0, "abcd", "abcd"), (1, "a", "ab"), (2, "ab", "abc"), (9, "abcd", "abcd")]
)
def test_parallel_starts_as_many_tasks_as_it_may(play: Start, concurrent: int, first: str, second: str) -> None:
    source = f"tasks: [{{id: p, type: core.flow.Parallel, concurrent: {concurrent}, tasks: {work(*'abcd')}}}]"

    running = play(source)

    assert running.started == ["p", *first]
    assert running.end("a").started == ["p", *second]


def test_a_failing_branch_of_parallel_lets_running_siblings_end_and_starts_no_new_ones(play: Start) -> None:
    running = play(f"tasks: [{{id: p, type: core.flow.Parallel, concurrent: 2, tasks: {work(*'abc')}}}]")

    assert running.fail("a").states == ["p RUNNING", "a FAILED", "b SUBMITTED"]
    assert running.end("b").states == ["p FAILED", "a FAILED", "b SUCCESS"]
    assert running.state is State.FAILED


def test_a_dag_starts_a_task_when_all_it_depends_on_has_ended(play: Start) -> None:
    source = """
tasks:
  - id: d
    type: core.flow.Dag
    tasks:
      - task: {id: c, type: core.storage.Size, uri: x}
        dependsOn: [a, b]
      - task: {id: a, type: core.storage.Size, uri: x}
      - task: {id: b, type: core.storage.Size, uri: x}
      - task: {id: e, type: core.storage.Size, uri: x, disabled: true}
      - task: {id: f, type: core.storage.Size, uri: x}
        dependsOn: [e]
"""

    running = play(source)

    assert running.started == ["d", "a", "b", "f"]
    assert running.end("a").started == ["d", "a", "b", "f"]
    assert running.end("b").started[-1] == "c"
    assert running.end("f").end("c").state is State.SUCCESS


@pytest.mark.parametrize(
    ("condition", "branch"),
    [("true", "t"), ("no", "t"), ("{{ 1 == 1 }}", "t"), ("false", "e"), ("0", "e"), ("", "e"), ("{{ null }}", "e")],
)
def test_if_takes_the_branch_of_its_condition(play: Start, condition: str, branch: str) -> None:
    then, otherwise = RETURN % ("t", ""), RETURN % ("e", "")

    ended = play(
        f"tasks: [{{id: i, type: core.flow.If, condition: '{condition}', then: [{then}], else: [{otherwise}]}}]"
    )

    assert ended.states == ["i SUCCESS", f"{branch} SUCCESS"]
    assert ended.output("i") == {"evaluationResult": branch == "t"}


def test_if_without_the_branch_it_takes_succeeds(play: Start) -> None:
    ended = play(f"tasks: [{{id: i, type: core.flow.If, condition: 'false', then: [{RETURN % ('t', '')}]}}]")

    assert (ended.state, ended.states) == (State.SUCCESS, ["i SUCCESS"])


def test_if_evaluates_its_condition_once(play: Start) -> None:
    source = f"""
variables: {{flag: true}}
tasks:
  - id: i
    type: core.flow.If
    condition: "{{{{ vars.flag }}}}"
    then:
      - {{id: s, type: core.execution.SetVariables, variables: {{flag: false}}}}
      - {RETURN % ("t", "{{ vars.flag }}")}
"""

    assert play(source).states == ["i SUCCESS", "s SUCCESS", "t SUCCESS"]


def test_a_condition_that_does_not_render_fails_the_container(play: Start) -> None:
    failed = play(
        f"tasks: [{{id: i, type: core.flow.If, condition: '{{{{ nothing.here }}}}', then: [{RETURN % ('t', '')}]}}]"
    )

    assert (failed.state, failed.states) == (State.FAILED, ["i FAILED"])
    assert "nothing" in str(failed.run("i").error)
    assert failed.messages[-1][0] == "ERROR"


SWITCH = "tasks: [{id: s, type: core.flow.Switch, value: '%s', cases: {a: [%s], 'b c': [%s]}%s}]"


@pytest.mark.parametrize(
    ("value", "started", "defaults"),
    [("a", "x", False), ("b c", "y", False), ('{{ "a" }}', "x", False), ("A", "d", True), ("", "d", True)],
)
def test_switch_takes_the_case_that_equals_its_value(play: Start, value: str, started: str, *, defaults: bool) -> None:
    others = f", defaults: [{RETURN % ('d', '')}]"

    ended = play(SWITCH % (value, RETURN % ("x", ""), RETURN % ("y", ""), others))

    assert ended.states == ["s SUCCESS", f"{started} SUCCESS"]
    assert ended.output("s")["defaults"] is defaults


def test_switch_without_a_match_and_without_defaults_fails(play: Start) -> None:
    failed = play(SWITCH % ("z", RETURN % ("x", ""), RETURN % ("y", ""), ""))

    assert (failed.state, failed.states) == (State.FAILED, ["s FAILED"])
    assert "'z' matches no case" in str(failed.run("s").error)


@pytest.mark.parametrize("container", ["Sequential", "Parallel", "AllowFailure"])
def test_a_container_whose_tasks_are_all_disabled_succeeds(play: Start, container: str) -> None:
    inner = "{id: a, type: core.execution.Fail, disabled: true}"

    ended = play(f"tasks: [{{id: c, type: core.flow.{container}, tasks: [{inner}]}}]")

    assert (ended.state, ended.states) == (State.SUCCESS, ["c SUCCESS"])


def test_disabled_tasks_have_no_run(play: Start) -> None:
    ended = play(f"tasks: [{{id: a, type: core.execution.Fail, disabled: true}}, {RETURN % ('b', '')}]")

    assert (ended.state, ended.states) == (State.SUCCESS, ["b SUCCESS"])


@pytest.mark.parametrize(
    ("run_if", "state"), [("false", "SKIPPED"), ("{{ 1 > 2 }}", "SKIPPED"), ("{{ x.y }}", "FAILED"), ("ok", "SUCCESS")]
)
def test_run_if_is_looked_at_when_the_task_would_start(play: Start, run_if: str, state: str) -> None:
    ended = play(f"tasks: [{{id: a, type: core.debug.Return, format: '', runIf: '{run_if}'}}]")

    assert ended.states == [f"a {state}"]
    assert ended.state is (State.FAILED if state == "FAILED" else State.SUCCESS)


def test_a_skipped_container_creates_nothing_inside(play: Start) -> None:
    ended = play(f"tasks: [{{id: s, type: core.flow.Sequential, runIf: 'false', tasks: {work('a')}}}]")

    assert (ended.state, ended.states) == (State.SUCCESS, ["s SKIPPED"])


@pytest.mark.parametrize(
    ("flags", "state"),
    [
        ("allowFailure: true", State.WARNING),
        ("allowFailure: true, allowWarning: true", State.SUCCESS),
        ("allowWarning: true", State.FAILED),
    ],
)
def test_a_failure_that_is_allowed_is_a_warning(play: Start, flags: str, state: State) -> None:
    ended = play(f"tasks: [{{id: a, type: core.execution.Fail, {flags}}}, {RETURN % ('b', '')}]")

    assert (ended.state, ended.run("a").state) == (state, state)
    assert ended.started == (["a"] if state is State.FAILED else ["a", "b"])


def test_a_container_that_may_fail_ends_with_a_warning_after_its_errors_branch(play: Start) -> None:
    source = f"tasks: [{{id: c, type: core.flow.AllowFailure, tasks: [{FAIL % 'a'}], errors: [{RETURN % ('e', '')}]}}]"

    ended = play(source)

    assert ended.states == ["c WARNING", "a FAILED", "e SUCCESS"]
    assert ended.state is State.WARNING


@pytest.mark.parametrize(
    ("results", "state"),
    [
        ("SUCCESS SUCCESS", State.SUCCESS),
        ("WARNING SUCCESS", State.WARNING),
        ("WARNING FAILED", State.FAILED),
        ("FAILED KILLED", State.KILLED),
    ],
)
def test_the_state_of_a_container_is_the_worst_of_its_tasks(play: Start, results: str, state: State) -> None:
    running = play(f"tasks: [{{id: p, type: core.flow.Parallel, tasks: {work('a', 'b')}}}]")

    for task, result in zip("ab", results.split(), strict=True):
        running.end(task, State(result))

    assert (running.run("p").state, running.state) == (state, state)
