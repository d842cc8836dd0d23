"""Flow triggers: which change of an execution fires them, and what they remember."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from runner.executions.models import Execution
from runner.expressions import Scope
from runner.expressions import render as render_template
from runner.flows.models import Flow
from runner.flows.parse import parse_flow
from runner.states import State
from runner.triggers.matching import Change, Match, concerns, match, needs_attempts
from runner.triggers.models import FlowTrigger

ZONE = ZoneInfo("UTC")


def listener(trigger: str) -> tuple[Flow, FlowTrigger]:
    source = (
        "id: listener\nnamespace: a.b\ntasks:\n  - {id: t, type: core.debug.Return, format: x}\n"
        f"triggers:\n  - id: on\n    type: core.trigger.Flow\n{trigger}"
    )
    parsed = parse_flow(source)
    assert parsed.flow is not None, parsed.problems
    found = parsed.flow.triggers[0]
    assert isinstance(found, FlowTrigger)
    return parsed.flow, found


def change(
    flow_id: str = "up",
    state: State = State.SUCCESS,
    at: str = "2024-05-01T10:00:00",
    attempts: tuple[tuple[State, ...], ...] = (),
    namespace: str = "a.b",
    **values: Any,
) -> Change:
    moment = datetime.fromisoformat(at).replace(tzinfo=UTC)
    execution = Execution(f"id-{flow_id}", namespace, flow_id, 3, state, moment, **values)
    return Change(execution, state, moment, attempts)


def render(template: str, variables: Mapping[str, Any] | None = None, /) -> str:
    return render_template(template, Scope(variables or {}))


@dataclass
class Listener:
    """A flow trigger with its memory."""

    trigger: str
    memory: dict[str, Any] = field(default_factory=dict)

    def hears(self, event: Change) -> Match | None:
        flow, trigger = listener(self.trigger)
        if not concerns(flow, trigger, event):
            return None
        found = match(trigger, event, self.memory, ZONE, render)
        self.memory = found.memory
        return found

    def fires(self, event: Change) -> bool:
        found = self.hears(event)
        return found is not None and found.fires


@pytest.mark.parametrize(
    ("trigger", "event", "expected"),
    [
        ("", change(), True),
        ("", change(state=State.PAUSED), True),
        ("", change(state=State.RUNNING), False),
        ("    states: [RUNNING]\n", change(state=State.RUNNING), True),
        ("    states: [FAILED]\n", change(), False),
        ("", change(flow_id="listener"), False),
        ("", change(flow_id="listener", namespace="other"), True),
        ("    conditions: [{type: core.condition.ExecutionStatus, in: [FAILED]}]\n", change(), False),
        ("    conditions: [{type: core.condition.ExecutionNamespace, namespace: a, prefix: true}]\n", change(), True),
        ("    conditions: [{type: core.condition.ExecutionLabels, labels: {k: v}}]\n", change(labels={"k": "v"}), True),
        ("    conditions: [{type: core.condition.ExecutionLabels, labels: {k: v}}]\n", change(), False),
        (
            "    conditions: [{type: core.condition.Expression, expression: \"{{ trigger.state == 'SUCCESS' }}\"}]\n",
            change(),
            True,
        ),
        (
            "    conditions: [{type: core.condition.ExecutionOutputs, expression: '{{ trigger.outputs.n == 3 }}'}]\n",
            change(outputs={"n": 3}),
            True,
        ),
        ("    when: \"{{ flowId == 'up' and labels.k == 'v' }}\"\n", change(labels={"k": "v"}), True),
        ("    when: '{{ false }}'\n", change(), False),
        (
            "    conditions: [{type: core.condition.HasRetryAttempt}]\n",
            change(attempts=((State.FAILED, State.SUCCESS),)),
            True,
        ),
    ],
)
def test_a_change_fires_what_admits_it(trigger: str, event: Change, expected: bool) -> None:  # noqa: FBT001 - a column of the table
    assert Listener(trigger).fires(event) is expected


def test_created_is_never_heard() -> None:
    assert not Listener("    states: [CREATED]\n").fires(change(state=State.CREATED))


def test_the_new_execution_sees_the_one_before() -> None:
    found = Listener("").hears(change(outputs={"n": 3}))

    assert found is not None
    assert found.variables == {
        "executionId": "id-up",
        "namespace": "a.b",
        "flowId": "up",
        "flowRevision": 3,
        "state": "SUCCESS",
        "outputs": {"n": 3},
    }


PAIR = (
    "    preconditions:\n      id: both\n      flows:\n"
    "        - {namespace: a.b, flowId: one, states: [SUCCESS]}\n        - {namespace: a.b, flowId: two}\n"
)


def test_preconditions_wait_for_all_flows_and_begin_anew() -> None:
    both = Listener(PAIR)

    heard = [both.fires(change(name)) for name in ("one", "one", "other", "two", "two", "one")]

    assert heard == [False, False, False, True, False, True]


def test_preconditions_need_the_states_they_name() -> None:
    both = Listener(PAIR)

    heard = [both.fires(change("one", State.FAILED)), both.fires(change("two", State.FAILED))]

    assert heard == [False, False]
    assert both.fires(change("one"))


def test_preconditions_that_do_not_reset_fire_with_each_further_match() -> None:
    both = Listener(PAIR + "      resetOnSuccess: false\n")

    assert [both.fires(change(name)) for name in ("one", "two", "one", "other")] == [False, True, True, False]


WINDOWS = [
    ("{type: DURATION_WINDOW, window: PT1H}", "10:10", "10:50", True),
    ("{type: DURATION_WINDOW, window: PT1H}", "10:50", "11:10", False),
    ("{type: SLIDING_WINDOW, window: PT1H}", "10:50", "11:10", True),
    ("{type: SLIDING_WINDOW, window: PT1H}", "10:00", "11:10", False),
    ("{type: DAILY_TIME_DEADLINE, deadline: '09:00:00'}", "02:00", "08:59", True),
    ("{type: DAILY_TIME_DEADLINE, deadline: '09:00:00'}", "02:00", "09:01", False),
    ("{type: DAILY_TIME_WINDOW, startTime: '08:00:00', endTime: '12:00:00'}", "08:30", "11:59", True),
    ("{type: DAILY_TIME_WINDOW, startTime: '08:00:00', endTime: '12:00:00'}", "07:30", "11:59", False),
]


@pytest.mark.parametrize(("window", "first", "second", "expected"), WINDOWS)
def test_a_window_decides_what_counts_together(window: str, first: str, second: str, expected: bool) -> None:  # noqa: FBT001 - a column of the table
    both = Listener(PAIR + f"      timeWindow: {window}\n")

    both.fires(change("one", at=f"2024-05-01T{first}:00"))

    assert both.fires(change("two", at=f"2024-05-01T{second}:00")) is expected


def test_a_day_begins_a_new_window() -> None:
    both = Listener(PAIR)

    both.fires(change("one", at="2024-05-01T23:00:00"))

    assert not both.fires(change("two", at="2024-05-02T01:00:00"))


def test_a_window_of_several_days_goes_on_over_midnight() -> None:
    both = Listener(PAIR + "      timeWindow: {window: P2D}\n")

    both.fires(change("one", at="2024-05-01T23:00:00"))

    assert both.fires(change("two", at="2024-05-02T01:00:00"))


def test_a_multiple_condition_counts_only_what_passes_the_others() -> None:
    trigger = (
        "    conditions:\n      - {type: core.condition.ExecutionStatus, in: [SUCCESS]}\n"
        "      - id: m\n        type: core.condition.MultipleCondition\n"
        "        window: P1D\n        windowAdvance: P0D\n"
        "        conditions:\n"
        "          one: {type: core.condition.ExecutionFlow, namespace: a.b, flowId: one}\n"
        "          two: {type: core.condition.ExecutionFlow, namespace: a.b, flowId: two}\n"
    )
    both = Listener(trigger)

    heard = [both.fires(change("one", State.FAILED)), both.fires(change("two")), both.fires(change("one"))]

    assert heard == [False, False, True]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ("{field: FLOW_ID, type: EQUAL_TO, value: up}", True),
        ("{field: FLOW_ID, type: NOT_EQUAL_TO, value: up}", False),
        ("{field: NAMESPACE, type: STARTS_WITH, value: a}", True),
        ("{field: NAMESPACE, type: ENDS_WITH, value: c}", False),
        ("{field: NAMESPACE, type: CONTAINS, value: .}", True),
        ("{field: FLOW_ID, type: REGEX, value: 'u.'}", True),
        ("{field: FLOW_ID, type: REGEX, value: u}", False),
        ("{field: STATE, type: IN, values: [SUCCESS, WARNING]}", True),
        ("{field: STATE, type: NOT_IN, values: [SUCCESS]}", False),
        ("{field: EXPRESSION, type: IS_TRUE, value: \"{{ labels.k == 'v' }}\"}", True),
        ("{field: EXPRESSION, type: IS_FALSE, value: '{{ false }}'}", True),
        ("{field: EXPRESSION, type: IS_NULL, value: '{{ labels.none ?? null }}'}", True),
        ("{field: EXPRESSION, type: IS_NOT_NULL, value: '{{ labels.k }}'}", True),
    ],
)
def test_filters_look_at_the_execution(filters: str, expected: bool) -> None:  # noqa: FBT001 - a column of the table
    where = f"    preconditions: {{id: p, where: [{{id: w, filters: [{filters}]}}]}}\n"

    assert Listener(where).fires(change(labels={"k": "v"})) is expected


def test_filters_are_joined_as_told() -> None:
    filters = "[{field: FLOW_ID, type: EQUAL_TO, value: up}, {field: STATE, type: EQUAL_TO, value: FAILED}]"

    either = Listener(f"    preconditions: {{id: p, where: [{{id: w, operand: OR, filters: {filters}}}]}}\n")
    both = Listener(f"    preconditions: {{id: p, where: [{{id: w, filters: {filters}}}]}}\n")

    assert either.fires(change())
    assert not both.fires(change())


def test_dependencies_of_the_newer_language_scope_outputs_by_flow() -> None:
    trigger = (
        "    dependsOn:\n      - {flowId: one, namespace: a.b}\n      - {flowId: two}\n    window: {every: PT1H}\n"
    )
    both = Listener(trigger)

    both.hears(change("one", outputs={"n": 1}))
    found = both.hears(change("two", outputs={"n": 2}))

    assert found is not None
    assert found.fires
    assert found.variables["outputs"] == {"one": {"n": 1}, "two": {"n": 2}}


def test_one_dependency_needs_no_window() -> None:
    one = Listener("    dependsOn: [{flowId: one, when: '{{ outputs.n > 1 }}'}]\n")

    assert not one.fires(change("one", outputs={"n": 1}))
    assert one.fires(change("one", outputs={"n": 2}))
    assert one.fires(change("one", outputs={"n": 2}))


def test_attempts_are_only_loaded_where_somebody_asks() -> None:
    inner = "[{type: core.condition.Not, conditions: [{type: core.condition.HasRetryAttempt}]}]"

    assert needs_attempts(listener(f"    conditions: {inner}\n")[1])
    assert needs_attempts(listener("    when: '{{ hasRetryAttempt }}'\n")[1])
    assert not needs_attempts(listener("")[1])
