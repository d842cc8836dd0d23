"""Triggers: what their declarations refuse."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from runner.states import State
from runner.triggers.conditions import ExecutionFlow, MultipleCondition, Or
from runner.triggers.models import DependencyWindow, Filter, FlowTrigger, Webhook
from runner.triggers.windows import TimeWindow

PARIS = ZoneInfo("Europe/Paris")

WINDOWS = [
    ({"type": "DAILY_TIME_DEADLINE"}, ["Time window of type `DAILY_TIME_DEADLINE` must have a deadline."]),
    (
        {"type": "DAILY_TIME_WINDOW"},
        [
            "Time window of type `DAILY_TIME_WINDOW` must have an end time.",
            "Time window of type `DAILY_TIME_WINDOW` must have a start time.",
        ],
    ),
    (
        {"type": "DAILY_TIME_WINDOW", "startTime": "08:00:00", "endTime": "09:00:00", "window": "PT1H"},
        ["Time window of type `DAILY_TIME_WINDOW` cannot have a window."],
    ),
    (
        {"deadline": "09:00:00", "window": "PT1H"},
        ["Time window of type `DURATION_WINDOW` cannot have a deadline."],
    ),
    (
        {"type": "SLIDING_WINDOW", "deadline": "09:00:00"},
        ["Time window of type `SLIDING_WINDOW` cannot have a deadline."],
    ),
    ({"window": "PT0S"}, ["must have a window longer than nothing"]),
]


@pytest.mark.parametrize(("properties", "sentences"), WINDOWS)
def test_a_window_says_what_its_type_needs_and_refuses(properties: dict[str, Any], sentences: list[str]) -> None:
    with pytest.raises(ValidationError) as caught:
        TimeWindow.model_validate(properties)

    assert all(sentence in str(caught.value) for sentence in sentences)


@pytest.mark.parametrize(
    ("properties", "now", "start", "end"),
    [
        ({}, "2024-05-01T10:00:00Z", "2024-04-30T22:00:00", "2024-05-01T21:59:59"),
        ({"window": "PT6H"}, "2024-05-01T10:00:00Z", "2024-05-01T10:00:00", "2024-05-01T15:59:59"),
        ({"windowAdvance": "PT4H"}, "2024-05-01T01:00:00Z", "2024-04-30T02:00:00", "2024-05-01T01:59:59"),
        ({"type": "SLIDING_WINDOW", "window": "PT1H"}, "2024-05-01T10:00:00Z", "2024-05-01T09:00:00", None),
        (
            {"type": "DAILY_TIME_DEADLINE", "deadline": "12:30:00"},
            "2024-05-01T10:00:00Z",
            "2024-04-30T22:00:00",
            "2024-05-01T10:30:00",
        ),
    ],
)
def test_a_window_spans_the_time_it_is_asked_at(properties: Any, now: str, start: str, end: str | None) -> None:
    span = TimeWindow.model_validate(properties).span(datetime.fromisoformat(now), PARIS)

    assert span is not None
    assert span.start.astimezone(UTC).isoformat()[:19] == start
    assert end is None or span.end.astimezone(UTC).isoformat()[:19] == end
    assert span.holds(datetime.fromisoformat(now))


def test_outside_a_daily_window_nothing_counts() -> None:
    morning = TimeWindow.model_validate({"type": "DAILY_TIME_WINDOW", "startTime": "06:00", "endTime": "08:00"})

    assert morning.span(datetime(2024, 5, 1, 5, 30, tzinfo=UTC), PARIS) is not None
    assert morning.span(datetime(2024, 5, 1, 7, 0, tzinfo=UTC), PARIS) is None


@pytest.mark.parametrize(
    ("properties", "sentence"),
    [
        ({"type": "IS_FALSE", "values": ["a"]}, "`value` cannot be null for type IS_FALSE"),
        ({"type": "EQUAL_TO", "value": "a", "values": ["b"]}, "`values` must be null for type EQUAL_TO"),
        ({"type": "NOT_IN", "value": "a"}, "`value` must be null for type NOT_IN"),
    ],
)
def test_a_filter_says_what_its_type_needs(properties: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Filter.model_validate({"field": "FLOW_ID", **properties})


def test_a_webhook_refuses_conditions_with_memory_wherever_they_stand() -> None:
    one = ExecutionFlow.model_validate({"type": "x", "namespace": "a", "flowId": "b"})
    multiple = MultipleCondition.model_validate({"type": "x", "id": "m", "conditions": {"one": one}})
    either = Or.model_validate({"type": "x", "conditions": [multiple]})

    with pytest.raises(ValidationError, match="invalid webhook: conditions of type MultipleCondition"):
        Webhook.model_validate({"id": "w", "type": "x", "key": "k", "conditions": [either]})


def test_a_flow_trigger_reacts_to_every_end_and_to_a_pause_unless_told_otherwise() -> None:
    trigger = FlowTrigger.model_validate({"id": "t", "type": "x"})

    assert {State.SUCCESS, State.FAILED, State.PAUSED} <= set(trigger.states)
    assert State.RUNNING not in trigger.states


def test_the_window_of_the_newer_language_is_one_of_the_older() -> None:
    assert DependencyWindow.model_validate({"every": "PT1H"}).time_window.type == "DURATION_WINDOW"
    assert DependencyWindow.model_validate({"deadline": "09:00:00"}).time_window.type == "DAILY_TIME_DEADLINE"
    with pytest.raises(ValidationError, match="must have an end time"):
        DependencyWindow.model_validate({"startTime": "09:00:00"})
