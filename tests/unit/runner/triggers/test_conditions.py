"""Conditions: when each holds, and what it refuses to decide."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest
from pydantic import ValidationError

from runner.errors import InvalidError
from runner.states import State
from runner.triggers import conditions as module
from runner.triggers.conditions import ConditionContext, PureCondition, all_hold


def condition(name: str, **properties: Any) -> PureCondition:
    built = getattr(module, name).model_validate({"type": f"core.condition.{name}", **properties})
    assert isinstance(built, PureCondition)
    return built


def context(date: str = "2024-01-01T00:00:00Z", **values: Any) -> ConditionContext:
    def render(template: str, variables: Mapping[str, Any] | None = None, /) -> str:
        if template == "{{ trigger.date }}":
            return date
        if template == "{{ trigger.outputs.test }}":
            return str((variables or {})["trigger"]["outputs"]["test"])
        return template.strip("{} ")

    return ConditionContext(render, **values)


DATED = [
    ("DateTimeBetween", {"after": "2013-09-08T16:18:12+02:00", "before": "2013-09-08T16:20:12.000000+02:00"}, True),
    ("DateTimeBetween", {"before": "2013-09-08T16:20:12Z"}, True),
    ("DateTimeBetween", {"after": "2013-09-08T14:19:12Z"}, False),
    ("DateTimeBetween", {"after": "2030-01-01T00:00:00Z"}, False),
    ("TimeBetween", {"after": "16:19:11.000000+02:00"}, True),
    ("TimeBetween", {"after": "14:19:11Z", "before": "14:20:00Z"}, True),
    ("TimeBetween", {"before": "16:18:12.000000+02:00"}, False),
    ("TimeBetween", {"after": "16:19:12"}, False),
    ("DayWeek", {"dayOfWeek": "SUNDAY"}, True),
    ("DayWeek", {"dayOfWeek": "MONDAY"}, False),
    ("DayWeek", {"date": "{{ 2013-09-09 }}", "dayOfWeek": "MONDAY"}, True),
    ("Weekend", {}, True),
    ("Weekend", {"date": "2013-09-09"}, False),
    ("DayWeekInMonth", {"date": "2021-04-05", "dayOfWeek": "MONDAY", "dayInMonth": "FIRST"}, True),
    ("DayWeekInMonth", {"date": "2021-04-12", "dayOfWeek": "MONDAY", "dayInMonth": "FIRST"}, False),
    ("DayWeekInMonth", {"date": "2021-04-01", "dayOfWeek": "THURSDAY", "dayInMonth": "FIRST"}, True),
    ("DayWeekInMonth", {"date": "2021-04-19", "dayOfWeek": "MONDAY", "dayInMonth": "THIRD"}, True),
    ("DayWeekInMonth", {"date": "2021-04-26", "dayOfWeek": "MONDAY", "dayInMonth": "LAST"}, True),
    ("DayWeekInMonth", {"date": "2021-04-26", "dayOfWeek": "TUESDAY", "dayInMonth": "LAST"}, False),
    ("PublicHoliday", {"date": "2023-07-14", "country": "FR"}, True),
    ("PublicHoliday", {"date": "2023-07-15", "country": "{{ fr }}"}, False),
    ("PublicHoliday", {"date": "2023-01-06", "country": "DE", "subDivision": "BY"}, True),
]


@pytest.mark.parametrize(("name", "properties", "expected"), DATED)
def test_conditions_on_the_date(name: str, properties: dict[str, Any], expected: bool) -> None:  # noqa: FBT001 - a column of the table
    assert condition(name, **properties).holds(context("2013-09-08T16:19:12+02:00")) is expected


RUN: dict[str, Any] = {
    "namespace": "company.team",
    "flow_id": "flow-a",
    "state": State.RUNNING,
    "labels": {"key": "value", "k2": "2"},
}
EXECUTIONS = [
    ("ExecutionFlow", {"namespace": "company.team", "flowId": "flow-a"}, True),
    ("ExecutionFlow", {"namespace": "company", "flowId": "flow-a"}, False),
    ("FlowCondition", {"namespace": "company.team", "flowId": "flow-a"}, True),
    ("FlowNamespaceCondition", {"namespace": "company", "prefix": True}, True),
    ("FlowNamespaceCondition", {"namespace": "company"}, False),
    ("ExecutionNamespace", {"namespace": "comp"}, False),
    ("ExecutionNamespace", {"namespace": "comp", "prefix": True}, True),
    ("ExecutionNamespace", {"namespace": "team", "comparison": "SUFFIX"}, True),
    ("ExecutionNamespace", {"namespace": "team", "prefix": True, "comparison": "SUFFIX"}, True),
    ("ExecutionStatus", {"in": ["RUNNING"]}, True),
    ("ExecutionStatus", {"notIn": ["RUNNING"]}, False),
    ("ExecutionStatus", {"in": ["CREATED"], "notIn": ["SUCCESS"]}, False),
    ("ExecutionLabels", {"labels": {"key": "value"}}, True),
    ("ExecutionLabels", {"labels": [{"key": "key", "value": "value"}, {"key": "k2", "value": 2}]}, True),
    ("ExecutionLabels", {"labels": {"key": "other"}}, False),
    ("Expression", {"expression": "{{ yes }}"}, True),
    ("Expression", {"expression": "{{ 0 }}"}, True),
    ("Expression", {"expression": "{{ false }}"}, False),
    ("Expression", {"expression": "  "}, False),
    ("ExecutionOutputs", {"expression": "{{ not evaluated }}"}, False),
]


@pytest.mark.parametrize(("name", "properties", "expected"), EXECUTIONS)
def test_conditions_on_an_execution(name: str, properties: dict[str, Any], expected: bool) -> None:  # noqa: FBT001 - a column of the table
    assert condition(name, **properties).holds(context(**RUN)) is expected


def test_outputs_are_seen_as_those_of_the_trigger() -> None:
    about_outputs = condition("ExecutionOutputs", expression="{{ trigger.outputs.test }}")

    assert about_outputs.holds(context(outputs={"test": "value"}))
    assert not about_outputs.holds(context(outputs={"test": "false"}))


@pytest.mark.parametrize(
    ("properties", "attempts", "expected"),
    [
        ({"in": ["KILLED"]}, ((State.KILLED, State.SUCCESS),), True),
        ({"in": ["FAILED"]}, ((State.KILLED, State.SUCCESS),), False),
        ({}, ((State.KILLED,),), False),
        ({}, ((State.FAILED, State.SUCCESS),), True),
    ],
)
def test_a_retry_is_seen_in_the_attempts(properties: dict[str, Any], attempts: Any, expected: bool) -> None:  # noqa: FBT001 - a column of the table
    assert condition("HasRetryAttempt", **properties).holds(context(attempts=attempts)) is expected


def test_not_is_none_of_and_or_is_any_of() -> None:
    sunday = condition("DayWeek", date="2013-09-08", dayOfWeek="SUNDAY")
    monday = condition("DayWeek", date="2013-09-08", dayOfWeek="MONDAY")

    assert not condition("Not", conditions=[sunday, monday]).holds(context())
    assert condition("Not", conditions=[monday]).holds(context())
    assert condition("Or", conditions=[monday, sunday]).holds(context())
    assert not condition("Or", conditions=[monday]).holds(context())
    assert all_hold([sunday, condition("Not", conditions=[monday])], context())


@pytest.mark.parametrize(
    ("name", "properties", "code"),
    [
        ("DateTimeBetween", {}, "condition.bounds.missing"),
        ("TimeBetween", {}, "condition.bounds.missing"),
        ("Weekend", {"date": "soon"}, "condition.date.invalid"),
        ("TimeBetween", {"after": "noon"}, "condition.time.invalid"),
        ("PublicHoliday", {}, "condition.country.missing"),
        ("PublicHoliday", {"country": "XX"}, "condition.country.unknown"),
        ("PublicHoliday", {"country": "FR", "subDivision": "XX"}, "condition.country.unknown"),
    ],
)
def test_what_cannot_be_decided_is_an_error(name: str, properties: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidError) as caught:
        condition(name, **properties).holds(context())

    assert caught.value.code == code


def test_a_multiple_condition_needs_memory() -> None:
    inner = condition("ExecutionFlow", namespace="a", flowId="b")
    multiple = condition("MultipleCondition", id="m", conditions={"one": inner}, window="PT1H")

    with pytest.raises(InvalidError, match="MultipleCondition are not supported here"):
        multiple.holds(context())
    assert multiple.holds(context(multiple=lambda asked: asked is multiple))


def test_a_day_of_the_week_is_spelled_out() -> None:
    with pytest.raises(ValidationError):
        condition("DayWeek", dayOfWeek="MON")


def test_a_condition_says_from_when_its_answer_can_change() -> None:
    noon = datetime.fromisoformat("2024-01-03T12:00:00+01:00")

    assert condition("Weekend").fails_until(noon).isoformat() == "2024-01-04T00:00:00+01:00"
    assert condition("Weekend", date="{{ x }}").fails_until(noon) == noon
    assert condition("DateTimeBetween", after="2025-01-01T00:00:00Z").fails_until(noon).year == 2025
    assert condition("DateTimeBetween", before="2023-01-01T00:00:00Z").fails_until(noon).year == 9999
    assert (
        condition("Or", conditions=[condition("Weekend"), condition("Expression", expression="x")]).fails_until(noon)
        == noon
    )
