"""Subflows: what they are started with, when their task ends, and how."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from runner.executions.creation import MAX_DEPTH
from runner.states import State

if TYPE_CHECKING:
    from tests.unit.runner.executions.conftest import Play

Start = Callable[..., "Play"]

CHILD = """
id: child
namespace: company.team
inputs:
  - {id: text, type: STRING, required: false}
  - {id: number, type: INT, required: false}
labels: {own: child}
tasks: [{id: c, type: core.debug.Return, format: ''}]
"""


def calling(options: str = "", *, namespace: str = "company.team", flow: str = "child") -> str:
    return f"""
tasks:
  - {{id: s, type: core.flow.Subflow, namespace: {namespace}, flowId: {flow}, {options}}}
  - {{id: z, type: core.debug.Return, format: "{{{{ outputs.s | toJson }}}}"}}
"""


def test_the_task_waits_for_the_flow_it_started(play: Start) -> None:
    running = play(calling(), others=[CHILD])

    (child,) = running.children
    assert running.states == ["s RUNNING"]
    assert running.output("s") == {"executionId": child.id}
    assert (child.flow_id, child.state, child.depth) == ("child", State.CREATED, 1)
    assert (child.parent_execution_id, child.parent_task_run_id) == (running.execution.id, running.run("s").id)
    assert child.trigger is not None
    assert child.trigger.variables == {
        "executionId": running.execution.id,
        "namespace": "company.team",
        "flowId": "flow",
        "flowRevision": 1,
        "taskRunId": running.run("s").id,
    }


def test_the_outputs_of_the_flow_become_those_of_the_task(play: Start) -> None:
    running = play(calling(), others=[CHILD])

    running.child_ends("s", State.SUCCESS, {"answer": 42})

    child = running.children[0].id
    assert running.state is State.SUCCESS
    assert running.output("s") == {"executionId": child, "state": "SUCCESS", "outputs": {"answer": 42}}


@pytest.mark.parametrize(
    ("transmits", "child", "task"),
    [
        ("true", "SUCCESS", "SUCCESS"),
        ("true", "WARNING", "WARNING"),
        ("true", "FAILED", "FAILED"),
        ("true", "KILLED", "KILLED"),
        ("true", "CANCELLED", "FAILED"),
        ("false", "WARNING", "SUCCESS"),
        ("false", "FAILED", "SUCCESS"),
        ("false", "KILLED", "SUCCESS"),
    ],
)
def test_the_state_of_the_flow_is_passed_on_when_it_should_be(
    play: Start, transmits: str, child: str, task: str
) -> None:
    running = play(calling(f"transmitFailed: {transmits}"), others=[CHILD])

    running.child_ends("s", State(child))

    assert running.states[0] == f"s {task}"
    assert running.output("s")["state"] == child


def test_without_waiting_the_task_succeeds_at_once(play: Start) -> None:
    ended = play(calling("wait: false"), others=[CHILD])

    (child,) = ended.children
    assert ended.state is State.SUCCESS
    assert ended.output("s") == {"executionId": child.id, "state": "CREATED"}
    assert (child.parent_task_run_id, child.parent_execution_id) == (None, ended.execution.id)


@pytest.mark.parametrize(
    ("options", "inputs"),
    [
        ('inputs: {text: "{{ flow.id }}"}', {"text": "flow"}),
        ('inputs: {number: "{{ 6 * 7 }}"}', {"number": 42}),
        ("inputs: {number: 7, unknown: 1}", {"number": 7}),
    ],
)
def test_inputs_are_rendered_and_keep_their_type(play: Start, options: str, inputs: dict[str, object]) -> None:
    (child,) = play(calling(options), others=[CHILD]).children

    assert {name: value for name, value in child.inputs.items() if value is not None} == inputs


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("labels: {a: '{{ flow.id }}'}", {"a": "flow", "own": "child"}),
        ("inheritLabels: true", {"mine": "1", "own": "child"}),
        ("labels: [{key: a, value: b}], inheritLabels: 'false'", {"a": "b", "own": "child"}),
        ("inheritLabels: true, labels: {mine: 2, own: x}", {"mine": "2", "own": "x"}),
    ],
)
def test_labels_are_inherited_when_asked_for(play: Start, options: str, expected: dict[str, str]) -> None:
    running = play(f"labels: {{mine: '1'}}\n{calling(options)}", others=[CHILD])

    (child,) = running.children
    assert {name: text for name, text in child.labels.items() if not name.startswith("system.")} == expected
    assert child.labels["system.from"] == "subflow"
    assert child.labels["system.correlationId"] == running.execution.id


@pytest.mark.parametrize(
    ("caller", "message"),
    [
        (calling(flow="nobody"), "Unable to find flow 'company.team'.'nobody'"),
        (calling(namespace="elsewhere"), "Unable to find flow 'elsewhere'.'child'"),
        (calling(flow="off"), "it is disabled"),
        (calling('inputs: {number: "many"}'), "Invalid input for `number`"),
        (calling("labels: [1]"), "labels must be"),
        (calling('inputs: {number: "{{ nowhere }}"}'), "nowhere"),
    ],
)
def test_a_flow_that_cannot_be_started_fails_the_task(play: Start, caller: str, message: str) -> None:
    off = "id: off\nnamespace: company.team\ndisabled: true\ntasks: [{id: a, type: core.debug.Return}]"

    failed = play(caller, others=[CHILD, off])

    assert (failed.state, failed.states, failed.children) == (State.FAILED, ["s FAILED"], [])
    assert message in str(failed.run("s").error)
    assert failed.messages[-1][0] == "ERROR"


def test_a_flow_that_starts_itself_through_others_ends_at_the_greatest_depth(play: Start) -> None:
    deep = play(calling(flow="flow"), depth=MAX_DEPTH)

    assert (deep.state, deep.children) == (State.FAILED, [])
    assert f"{MAX_DEPTH + 1} levels below" in str(deep.run("s").error)


def test_killing_the_parent_kills_what_it_waits_for(play: Start) -> None:
    running = play(calling(), others=[CHILD]).kill()

    assert (running.states, running.killed) == (["s RUNNING"], [running.run("s").id])
    assert running.child_ends("s", State.KILLED).states == ["s KILLED"]
    assert running.state is State.KILLED


def test_a_failed_subflow_is_started_again_by_a_retry(play: Start) -> None:
    running = play(calling("retry: {type: constant, interval: PT1S, maxAttempts: 2}"), others=[CHILD])

    running.child_ends("s", State.FAILED)

    assert (running.states, len(running.children)) == (["s RETRYING"], 1)
    assert len(running.wait(1).children) == 2
    assert running.output("s") == {"executionId": running.children[1].id}
    assert running.child_ends("s", State.SUCCESS).state is State.SUCCESS


def test_subflows_of_a_loop_run_side_by_side(play: Start) -> None:
    inputs = 'inputs: {text: "{{ taskrun.value }}"}'
    inner = f"{{id: s, type: core.flow.Subflow, namespace: company.team, flowId: child, {inputs}}}"
    running = play(
        f"tasks: [{{id: l, type: core.flow.ForEach, values: [x, y], concurrencyLimit: 0, tasks: [{inner}]}}]",
        others=[CHILD],
    )

    assert [child.inputs["text"] for child in running.children] == ["x", "y"]
    running.child_ends("s[y]", State.SUCCESS).child_ends("s[x]", State.FAILED)
    assert running.states == ["l FAILED", "s[x] FAILED", "s[y] SUCCESS"]
