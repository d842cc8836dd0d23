"""The `Loop` of 2.0: its items, outputs that stay within an iteration, and what the loop puts out."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from runner.states import State

if TYPE_CHECKING:
    from tests.unit.runner.executions.conftest import Play

Start = Callable[..., "Play"]

SAY = "{id: say, type: core.debug.Return, format: '%s'}"


def loop(values: str, body: str = SAY % "{{ item.value }}", more: str = "", after: str = "") -> str:
    return f"tasks: [{{id: l, type: core.flow.Loop, values: {values}, tasks: [{body}]{more}}}{after}]"


def said(play: Play) -> list[Any]:
    return [play.outputs[run.id]["value"] for run in play.runs if run.task_id == "say"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("[x, y, x]", ["x/0/", "y/1/", "x/2/"]),
        ("[1, {k: ü}]", ["1/0/", '{"k":"ü"}/1/']),
        ("{a: 1, b: [2]}", ["1/0/a", "[2]/1/b"]),
        ('\'{"a": "{{ 1 + 1 }}"}\'', ["2/0/a"]),
        ("'{{ [1, 1] }}'", ["1/0/", "1/1/"]),
        ("'{{ {\"n\": flow.id} }}'", ["flow/0/n"]),
        ("[]", []),
    ],
)
def test_items_have_value_index_and_key(play: Start, values: str, expected: list[str]) -> None:
    ended = play(loop(values, SAY % '{{ item.value }}/{{ item.index }}/{{ item.key ?? "" }}'))

    assert said(ended) == expected
    assert ended.outputs[ended.run("l").id]["iterationCount"] == len(expected)
    assert ended.state is State.SUCCESS


def test_the_rows_of_a_file_are_items(play: Start) -> None:
    begun = play(loop("'kestra:///company/team/flow/executions/{{ execution.id }}/x.ion'"), advance=False)
    own = f"kestra:///company/team/flow/executions/{begun.execution.id}/x.ion"
    begun.host.storage.put(own, io.BytesIO(b'{"n":1}\n{"n":2}\n"three"\n'))

    ended = begun.advance()
    refused = play(loop("kestra:///company/other/flow/executions/other/x.ion"))

    assert said(ended) == ['{"n":1}', '{"n":2}', "three"]
    assert (refused.state, refused.states) == (State.FAILED, ["l FAILED"])


@pytest.mark.parametrize(
    ("values", "message"), [("word", "a list, a map or a file, got 'word'"), ("7", "got int"), ("[a, null]", "null")]
)
def test_other_values_fail_the_loop(play: Start, values: str, message: str) -> None:
    failed = play(loop(values))

    assert (failed.state, failed.states) == (State.FAILED, ["l FAILED"])
    assert message in str(failed.run("l").error)


def test_outputs_are_those_of_the_same_iteration_and_stay_in_it(play: Start) -> None:
    body = f"{SAY % '{{ item.value }}'}, {{id: if, type: core.flow.If, condition: 'true', then: [{{id: twice, "
    body += (
        "type: core.debug.Return, format: '{{ outputs.say.value }}{{ outputs.say.value }}{{ outputs.first.value }}'}]}"
    )
    after = ", {id: last, type: core.debug.Return, format: '{{ outputs contains \"say\" }}'}"
    source = loop("[x, y, x]", body, ", concurrencyLimit: 0", after).replace(
        "tasks: [", "tasks: [{id: first, type: core.debug.Return, format: '!'}, ", 1
    )

    ended = play(source)

    twice = [ended.outputs[run.id]["value"] for run in ended.runs if run.task_id == "twice"]
    assert twice == ["xx!", "yy!", "xx!"]
    assert ended.outputs[ended.run("last").id]["value"] == "false"


def test_the_loop_puts_out_what_it_declares_of_each_iteration(play: Start) -> None:
    declared = ", outputs: [{id: n, type: INT, value: '{{ outputs.say.value }}'}]"
    after = ", {id: last, type: core.debug.Return, format: '{{ loopOutputs(outputs.l.outputs, \"n\") }}'}"

    ended = play(loop("{a: 1, b: 2}", more=declared, after=after))

    outputs = ended.outputs[ended.run("l").id]
    assert outputs == {
        "iterationCount": 2,
        "runningIterations": 0,
        "terminatedIterations": 2,
        "outputs": [
            {"item": {"value": "1", "index": 0, "key": "a"}, "outputs": {"n": 1}},
            {"item": {"value": "2", "index": 1, "key": "b"}, "outputs": {"n": 2}},
        ],
    }
    assert ended.outputs[ended.run("last").id]["value"] == "[1,2]"


def test_stored_outputs_are_a_file_of_rows(play: Start) -> None:
    declared = ", fetchType: STORE, outputs: [{id: v, type: STRING, value: '{{ outputs.say.value }}'}]"

    ended = play(loop("[x, y]", more=declared))

    outputs = ended.outputs[ended.run("l").id]
    with ended.host.storage.open(outputs["uri"]) as file:
        rows = file.read().decode().splitlines()
    assert rows == [
        '{"item":{"value":"x","index":0},"outputs":{"v":"x"}}',
        '{"item":{"value":"y","index":1},"outputs":{"v":"y"}}',
    ]
    assert "outputs" not in outputs


def test_an_output_that_does_not_render_fails_the_loop(play: Start) -> None:
    failed = play(loop("[x]", more=", outputs: [{id: v, type: INT, value: '{{ outputs.say.value }}'}]"))

    assert failed.states == ["l FAILED", "say[x] SUCCESS"]
    assert failed.state is State.FAILED


def test_inner_loops_see_the_items_around_them(play: Start) -> None:
    text = "{{ item.value }}{{ item.parent.value }}{{ item.parents[0].index }}"
    inner = f"{{id: i, type: core.flow.Loop, values: [1, 2], tasks: [{SAY % text}]}}"

    ended = play(loop("[x, y]", inner))

    assert said(ended) == ["1x0", "2x0", "1y1", "2y1"]


BODY = "{id: a, type: core.storage.Size, uri: x}, {id: b, type: core.storage.Size, uri: x}"


def test_a_failed_iteration_stops_the_loop_and_its_later_values(play: Start) -> None:
    running = play(loop("[x, y, z]", BODY, ", concurrencyLimit: 2"))

    assert running.fail("a[x]").open == ["l", "a[y]"]
    assert running.end("a[y]").states == ["l FAILED", "a[x] FAILED", "a[y] SUCCESS"]
    assert running.state is State.FAILED


def test_without_transmit_failed_the_other_iterations_go_on(play: Start) -> None:
    running = play(loop("[x, y]", BODY, ", transmitFailed: false, outputs: [{id: n, type: INT, value: 1}]"))

    assert running.fail("a[x]").open == ["l", "a[y]"]
    assert running.end("a[y]").end("b[y]").states == ["l SUCCESS", "a[x] FAILED", "a[y] SUCCESS", "b[y] SUCCESS"]
    assert running.state is State.SUCCESS
    assert [row["outputs"] for row in running.outputs[running.run("l").id]["outputs"]] == [{}, {"n": 1}]


def test_equal_values_run_each_task_once_for_each(play: Start) -> None:
    running = play(loop("[x, x]", BODY, ", concurrencyLimit: 0"))

    assert running.open == ["l", "a[x]", "a[x]"]
    assert running.end(running.runs[1].id).open == ["l", "a[x]", "b[x]"]
