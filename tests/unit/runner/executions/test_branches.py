"""What runs after the main tasks: errors, finally, afterExecution, listeners, and the outputs of the flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from runner.states import State

if TYPE_CHECKING:
    from tests.unit.runner.executions.conftest import Play

Start = Callable[..., "Play"]

OK = "{id: %s, type: core.debug.Return, format: ''}"
FAIL = "{id: %s, type: core.execution.Fail}"


def place(branches: str, *, inside: bool) -> str:
    """The branches as those of the flow, or of a container in it."""
    return f"tasks: [{{id: c, type: core.flow.Sequential, {branches}}}]" if inside else branches.replace("], ", "]\n")


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    ("task", "errors", "late", "expected", "state"),
    [
        (OK, OK, OK, ["a SUCCESS", "f SUCCESS"], "SUCCESS"),
        (FAIL, OK, OK, ["a FAILED", "e SUCCESS", "f SUCCESS"], "FAILED"),
        (FAIL, FAIL, OK, ["a FAILED", "e FAILED", "f SUCCESS"], "FAILED"),
        (OK, OK, FAIL, ["a SUCCESS", "f FAILED"], "FAILED"),
        (FAIL, OK, FAIL, ["a FAILED", "e SUCCESS", "f FAILED"], "FAILED"),
    ],
)
def test_errors_follow_a_failure_and_finally_follows_everything(
    play: Start, task: str, errors: str, late: str, expected: list[str], state: str, *, inside: bool
) -> None:
    branches = f"tasks: [{task % 'a'}], errors: [{errors % 'e'}], finally: [{late % 'f'}]"

    ended = play(place(branches, inside=inside))

    assert ended.states == [f"c {state}", *expected] if inside else ended.states == expected
    assert ended.state is State(state)


def test_branches_run_in_order_and_stop_at_their_first_failure(play: Start) -> None:
    errors = f"[{OK % 'e1'}, {FAIL % 'e2'}, {OK % 'e3'}]"
    late = f"[{OK % 'f1'}, {FAIL % 'f2'}, {OK % 'f3'}]"

    ended = play(f"tasks: [{FAIL % 'a'}]\nerrors: {errors}\nfinally: {late}")

    assert ended.started == ["a", "e1", "e2", "f1", "f2"]
    assert ended.state is State.FAILED


def test_a_failure_that_is_allowed_runs_no_errors_branch(play: Start) -> None:
    allowed = (FAIL % "a").replace("}", ", allowFailure: true}")

    ended = play(f"tasks: [{allowed}]\nerrors: [{OK % 'e'}]")

    assert (ended.started, ended.state) == (["a"], State.WARNING)


def test_the_errors_branches_of_all_containers_around_a_failure_run_from_the_inside_out(play: Start) -> None:
    inner = f"{{id: i, type: core.flow.Sequential, tasks: [{FAIL % 'a'}], errors: [{OK % 'ei'}]}}"
    outer = f"{{id: o, type: core.flow.Parallel, tasks: [{inner}], errors: [{OK % 'eo'}]}}"

    ended = play(f"tasks: [{outer}]\nerrors: [{OK % 'ef'}]")

    assert ended.started == ["o", "i", "a", "ei", "eo", "ef"]
    assert ended.states[:2] == ["o FAILED", "i FAILED"]


def test_the_errors_branch_sees_what_failed(play: Start) -> None:
    failing = "{id: a, type: core.execution.Fail, errorMessage: too wet}"
    telling = '{id: e, type: core.debug.Return, format: "{{ error.taskId }}: {{ error.message }}"}'

    assert play(f"tasks: [{failing}]\nerrors: [{telling}]").output("e") == {"value": "a: too wet"}


def test_the_errors_branch_sees_what_ended_the_execution_and_no_failure_before_that_was_allowed(play: Start) -> None:
    allowed = f"{{id: p, type: core.flow.AllowFailure, tasks: [{FAIL % 'a'}]}}"
    telling = '{id: e, type: core.debug.Return, format: "{{ error.taskId }}"}'

    assert play(f"tasks: [{allowed}, {FAIL % 'b'}]\nerrors: [{telling}]").output("e") == {"value": "b"}


def test_finally_of_a_container_waits_for_its_running_tasks(play: Start) -> None:
    tasks = "[{id: a, type: core.storage.Size, uri: x}, {id: b, type: core.storage.Size, uri: x}]"
    running = play(f"tasks: [{{id: p, type: core.flow.Parallel, tasks: {tasks}, finally: [{OK % 'f'}]}}]")

    assert "f" not in running.fail("a").started
    assert running.end("b").states == ["p FAILED", "a FAILED", "b SUCCESS", "f SUCCESS"]


# ---------------------------------------------------------------- after the end


@pytest.mark.parametrize(("task", "state"), [(OK, "SUCCESS"), (FAIL, "FAILED")])
def test_after_execution_sees_the_final_state_and_does_not_change_it(play: Start, task: str, state: str) -> None:
    telling = '{id: x, type: core.debug.Return, format: "{{ execution.state }}"}'

    ended = play(f"tasks: [{task % 'a'}]\nafterExecution: [{telling}, {FAIL % 'y'}, {OK % 'z'}]")

    assert ended.output("x") == {"value": state}
    assert ended.started == ["a", "x", "y"]
    assert (ended.state, ended.history()) == (State(state), ["CREATED", "RUNNING", state])


def test_tasks_and_finally_see_that_the_execution_runs(play: Start) -> None:
    telling = '{id: %s, type: core.debug.Return, format: "{{ execution.state }}"}'

    ended = play(f"tasks: [{telling % 'a'}, {FAIL % 'b'}]\nfinally: [{telling % 'x'}]")

    assert [ended.output(name) for name in "ax"] == [{"value": "RUNNING"}] * 2


def test_after_execution_may_need_workers_time_and_retries(play: Start) -> None:
    retried = "{id: y, type: core.storage.Size, uri: x, retry: {type: constant, interval: PT5S, maxAttempts: 2}}"
    ended = play(f"tasks: [{OK % 'a'}]\nafterExecution: [{{id: s, type: core.flow.Sleep, duration: PT1S}}, {retried}]")

    assert (ended.state, ended.open) == (State.SUCCESS, ["s"])
    assert ended.wait(1).open == ["y"]
    assert ended.fail("y").states[-1] == "y RETRYING"
    assert ended.wait(5).end("y").states[-1] == "y SUCCESS"
    assert ended.history() == ["CREATED", "RUNNING", "SUCCESS"]


def test_listeners_run_when_their_conditions_hold(play: Start) -> None:
    def listener(state: str, task: str) -> str:
        return f"  - conditions: [{{type: core.condition.ExecutionStatus, in: [{state}]}}]\n    tasks: [{task}]"

    ended = play(f"tasks: [{OK % 'a'}]\nlisteners:\n{listener('FAILED', OK % 'x')}\n{listener('SUCCESS', OK % 'y')}")

    assert ended.started == ["a", "y"]
    assert ended.state is State.SUCCESS


# ---------------------------------------------------------------- outputs, labels, variables, exit


def test_flow_outputs_are_rendered_at_the_end_and_cast(play: Start) -> None:
    source = """
tasks: [{id: a, type: core.debug.Return, format: '7'}]
outputs:
  - {id: number, type: INT, value: '{{ outputs.a.value }}'}
  - {id: text, type: STRING, value: '<{{ outputs.a.value }}>'}
"""

    assert play(source).execution.outputs == {"number": 7, "text": "<7>"}


@pytest.mark.parametrize("value", ["{{ outputs.nobody.value }}", "seven"])
def test_flow_outputs_that_cannot_be_made_fail_the_execution(play: Start, value: str) -> None:
    failed = play(f"tasks: [{OK % 'a'}]\noutputs: [{{id: n, type: INT, value: '{value}'}}]")

    assert (failed.state, failed.states) == (State.FAILED, ["a SUCCESS"])
    assert failed.messages[-1][0] == "ERROR"
    assert "outputs of the flow" in failed.messages[-1][1]


def test_a_failed_flow_has_no_outputs(play: Start) -> None:
    failed = play(f"tasks: [{FAIL % 'a'}]\noutputs: [{{id: n, type: STRING, value: x}}]")

    assert (failed.state, failed.execution.outputs) == (State.FAILED, {})


def test_labels_and_variables_change_for_the_rest_of_the_execution(play: Start) -> None:
    source = """
labels: {kept: "1", changed: old}
variables: {a: 1, b: 2}
tasks:
  - {id: l, type: core.execution.Labels, labels: {changed: new, added: "{{ vars.a }}"}}
  - {id: s, type: core.execution.SetVariables, variables: {a: 5, c: 6}}
  - {id: u, type: core.execution.UnsetVariables, variables: [b]}
  - {id: r, type: core.debug.Return, format: "{{ vars | toJson }} {{ labels.changed }}"}
"""

    ended = play(source)

    assert ended.output("r") == {"value": '{"a":5,"c":6} new'}
    assert {name: ended.execution.labels[name] for name in ("kept", "changed", "added")} == {
        "kept": "1",
        "changed": "new",
        "added": "1",
    }


def test_a_variable_that_was_removed_can_be_set_again(play: Start) -> None:
    source = """
variables: {a: 1}
tasks:
  - {id: u, type: core.execution.UnsetVariables, variables: [a]}
  - {id: s, type: core.execution.SetVariables, variables: {a: 9}}
  - {id: r, type: core.debug.Return, format: "{{ vars.a }}"}
"""

    assert play(source).output("r") == {"value": "9"}


@pytest.mark.parametrize("state", ["SUCCESS", "WARNING", "FAILED", "KILLED", "CANCELLED"])
def test_exit_ends_everything_that_is_open_in_its_state(play: Start, state: str) -> None:
    leaving = f"{{id: x, type: core.execution.Exit, state: {state}}}"
    working = "{id: w, type: core.storage.Size, uri: x}"
    branch = (
        f"{{id: s, type: core.flow.Sequential, tasks: [{{id: z, type: core.flow.Sleep, duration: PT5S}}, {leaving}]}}"
    )
    running = play(f"tasks: [{{id: p, type: core.flow.Parallel, tasks: [{working}, {branch}]}}, {OK % 'late'}]").claim(
        "w"
    )

    ended = running.wait(5)

    assert ended.states == [f"p {state}", f"w {state}", f"s {state}", "z SUCCESS", "x SUCCESS"]
    assert (ended.state, ended.stopped) == (State(state), [ended.run("w").id])
