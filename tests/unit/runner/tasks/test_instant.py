from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from runner.errors import TaskError
from runner.states import State
from runner.tasks.debug import Echo, Return
from runner.tasks.execution import Assert, Exit, Fail, Labels, SetVariables, UnsetVariables
from runner.tasks.log import Log
from runner.tasks.metric import Publish
from runner.tasks.output import OutputValues

if TYPE_CHECKING:
    from tests.unit.runner.tasks.conftest import Bench


def build(kind: Any, **fields: Any) -> Any:
    return kind.model_validate({"id": "t", "type": "x", **fields})


@pytest.mark.parametrize(
    ("fields", "lines"),
    [
        ({"message": "hello {{ flow.id }}"}, [("INFO", "hello flow")]),
        ({"message": ["a", "{{ 1 + 1 }}"], "level": "WARN"}, [("WARN", "a"), ("WARN", "2")]),
        ({"message": "x", "level": "{{ 'err' ~ 'or' }}"}, [("ERROR", "x")]),
        ({"message": []}, []),
        ({"message": "x", "level": "INFO", "logLevel": "ERROR"}, []),
        ({"message": "it is {{ secret('password') }}!"}, [("INFO", "it is ******!")]),
    ],
)
def test_log_writes_one_line_for_each_message(bench: Bench, fields: dict[str, Any], lines: list[Any]) -> None:
    outputs = bench.run(build(Log, **fields))

    assert bench.lines == lines
    assert outputs == {}


@pytest.mark.parametrize("message", [{"a": 1}, 5, None])
def test_log_refuses_other_messages(bench: Bench, message: Any) -> None:
    with pytest.raises(TaskError, match="Invalid message type"):
        bench.run(build(Log, message=message))


@pytest.mark.parametrize(
    ("given", "value"),
    [("{{ 1 + 1 }}", "2"), ("", ""), (None, None), (5, "5"), (True, "true"), ("{{ [1, 'a'] }}", '[1,"a"]')],
)
def test_return_gives_the_rendered_text(bench: Bench, given: Any, value: str | None) -> None:
    outputs = bench.outputs(build(Return, format=given))

    assert outputs == {"value": value}
    assert {(metric.kind, metric.name) for metric in bench.metrics} == {("counter", "length"), ("timer", "duration")}
    assert next(metric.value for metric in bench.metrics if metric.name == "length") == len(value or "")


def test_echo_logs_its_format(bench: Bench) -> None:
    bench.run(build(Echo, format="task {{ 1 }}", level="ERROR"))

    assert bench.lines == [("ERROR", "task 1")]


def test_output_values_renders_deep_and_keeps_what_is_no_text(bench: Bench) -> None:
    values = {"a": "{{ flow.id }}", "b": [1, "{{ 1 }}", {"{{ flow.id }}": None}], "c": True}

    outputs = bench.outputs(build(OutputValues, values=values))

    assert outputs == {"values": {"a": "flow", "b": [1, "1", {"flow": None}], "c": True}}


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        ("counter", 42, 42),
        ("counter", "{{ 1 + 1 }}", 2),
        ("gauge", "-0.5", -0.5),
        ("timer", "PT10M", 600),
        ("timer", "PT0.25s", 0.25),
        ("timer", 1.5, 1.5),
    ],
)
def test_publish_emits_what_it_is_given(bench: Bench, kind: str, given: Any, value: float) -> None:
    tags = {"flow": "{{ flow.id }}", "key": "{{ secret('PASSWORD') }}", "size": 3}
    figure = {"type": kind, "name": "rows of {{ secret('PASSWORD') }}", "value": given, "tags": tags}

    outputs = bench.run(build(Publish, metrics=[figure]))

    assert outputs == {}
    (metric,) = bench.metrics
    assert (metric.kind, metric.name, metric.value) == (kind, "rows of ******", value)
    assert metric.tags == {"flow": "flow", "key": "******", "size": "3"}


@pytest.mark.parametrize(
    ("kind", "given"),
    [("counter", "many"), ("gauge", "PT1S"), ("timer", "soon"), ("counter", "NaN"), ("gauge", "1e999")],
)
def test_publish_emits_nothing_when_a_value_is_no_number(bench: Bench, kind: str, given: Any) -> None:
    good = {"type": "counter", "name": "good", "value": 1}

    with pytest.raises(TaskError, match="is not a number") as caught:
        bench.run(build(Publish, metrics=[good, {"type": kind, "name": "rows", "value": given}]))

    assert caught.value.code == "metric.value.invalid"
    assert bench.metrics == []


def test_fail_without_a_condition_fails_with_its_message(bench: Bench) -> None:
    for fields, message in (({}, "Task failure"), ({"errorMessage": "no {{ flow.id }}"}, "no flow")):
        with pytest.raises(TaskError) as caught:
            bench.run(build(Fail, **fields))
        assert caught.value.message == message

    assert bench.lines == []


@pytest.mark.parametrize("condition", ["{{ 1 == 1 }}", "yes", " ", "{{ 'null' }}", True])
def test_fail_logs_its_message_when_the_condition_is_truthy(bench: Bench, condition: Any) -> None:
    with pytest.raises(TaskError) as caught:
        bench.run(build(Fail, condition=condition, errorMessage="why"))

    assert caught.value.message == "Fail on a condition"
    assert bench.lines == [("ERROR", "why")]


@pytest.mark.parametrize("condition", ["{{ 1 == 2 }}", "false", "0", "-0", "", "{{ null }}", False])
def test_fail_does_nothing_when_the_condition_is_falsy(bench: Bench, condition: Any) -> None:
    assert bench.run(build(Fail, condition=condition)) == {}


def test_assert_names_the_conditions_that_do_not_hold(bench: Bench) -> None:
    with pytest.raises(TaskError) as caught:
        bench.run(build(Assert, conditions=["{{ 1 == 1 }}", "{{ 1 == 2 }}", "{{ false }}"], errorMessage="bad"))

    assert caught.value.message == "2 assertions failed:\n- {{ 1 == 2 }}\n- {{ false }}"
    assert bench.lines == [("ERROR", "bad")]
    assert {(metric.name, metric.value) for metric in bench.metrics} == {("failed", 2), ("total", 3)}


def test_assert_succeeds_when_everything_holds(bench: Bench) -> None:
    assert bench.run(build(Assert, conditions=["{{ true }}", "x"])) == {}


@pytest.mark.parametrize(
    "labels",
    [
        {"a": "{{ flow.id }}", "b": 1, "c": True},
        [{"key": "a", "value": "flow"}, {"key": "b", "value": "{{ 1 }}"}, {"key": "c", "value": True}],
        '{"a": "{{ flow.id }}", "b": 1, "c": true}',
        '{{ [{"key": "a", "value": "flow"}, {"key": "b", "value": 1}, {"key": "c", "value": true}] }}',
    ],
)
def test_labels_are_taken_from_maps_lists_and_json(bench: Bench, labels: Any) -> None:
    assert bench.run(build(Labels, labels=labels)).labels == {"a": "flow", "b": "1", "c": "true"}


def test_a_rendered_label_is_not_rendered_again(bench: Bench) -> None:
    outcome = bench.run(
        build(Labels, labels="{{ inputs.text }}"), inputs={"text": '{"a": "{{ secret(\'password\') }}"}'}
    )

    assert outcome.labels == {"a": "{{ secret('password') }}"}


@pytest.mark.parametrize("labels", [{"system.x": "1"}, {" ": "1"}, "no json", 5, [{"value": "x"}]])
def test_labels_refuse_what_is_no_label_or_belongs_to_the_system(bench: Bench, labels: Any) -> None:
    with pytest.raises(TaskError):
        bench.run(build(Labels, labels=labels))


def test_variables_are_set_and_removed(bench: Bench) -> None:
    known = {"old": 1}
    changed = bench.run(build(SetVariables, variables={"old": "{{ 2 }}", "new": [1]}), flow_variables=known)
    removed = bench.run(build(UnsetVariables, variables=["old"]), flow_variables=known)
    lenient = bench.run(build(UnsetVariables, variables=["gone"], ignoreMissing=True))

    assert changed.variables == {"old": "2", "new": [1]}
    assert (removed.unset, lenient.unset) == (("old",), ("gone",))


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (build(SetVariables, variables={"old": 2}, overwrite=False), "old exist"),
        (build(SetVariables, variables="text"), "must be a map"),
        (build(UnsetVariables, variables=["gone"]), "no variables gone"),
        (build(UnsetVariables, variables={"a": 1}), "must be a list"),
    ],
)
def test_variables_are_not_changed_by_mistake(bench: Bench, task: Any, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        bench.run(task, flow_variables={"old": 1})


@pytest.mark.parametrize(
    ("name", "state"),
    [("SUCCESS", State.SUCCESS), ("CANCELED", State.CANCELLED), ("{{ 'killed' }}", State.KILLED)],
)
def test_exit_names_the_state_to_end_in(bench: Bench, name: str, state: State) -> None:
    assert bench.run(build(Exit, state=name)).exit_state is state


def test_exit_refuses_states_that_are_no_end(bench: Bench) -> None:
    with pytest.raises(TaskError, match="RUNNING"):
        bench.run(build(Exit, state="RUNNING"))
