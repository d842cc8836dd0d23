"""Schedules: the next look, the tick, and the variables of a tick."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from runner.errors import ExpressionError, InvalidError
from runner.triggers import conditions as module
from runner.triggers.models import Schedule, ScheduleOnDates
from runner.triggers.schedule import Tick, dates_between, plan, tick_at

ZONE = ZoneInfo("UTC")
LATER = datetime(2030, 1, 1, tzinfo=UTC)


def render(template: str, variables: Mapping[str, Any] | None = None, /) -> str:
    if template == "{{ broken }}":
        raise ExpressionError("expression.undefined", "no broken")
    return template.strip("{} ")


def schedule(cron: str, *conditions: tuple[str, dict[str, Any]], **properties: Any) -> Schedule:
    built = [getattr(module, name).model_validate({"type": name, **values}) for name, values in conditions]
    return Schedule.model_validate({"id": "s", "type": "x", "cron": cron, "conditions": built, **properties})


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def tick(trigger: Schedule | ScheduleOnDates, date: str, now: datetime = LATER) -> Tick | None:
    return tick_at(trigger, at(date), now, ZONE, render, lambda text: text == "true")


@pytest.mark.parametrize(
    ("trigger", "date", "variables"),
    [
        (
            schedule("* * * * *"),
            "2024-03-01T10:15:00Z",
            {"date": "2024-03-01T10:15:00Z", "next": "2024-03-01T10:16:00Z", "previous": "2024-03-01T10:14:00Z"},
        ),
        (
            schedule("* * * * * *", withSeconds=True),
            "2024-03-01T10:15:30Z",
            {"date": "2024-03-01T10:15:30Z", "next": "2024-03-01T10:15:31Z", "previous": "2024-03-01T10:15:29Z"},
        ),
        (  # the cron was changed meanwhile
            schedule("30 0 1 * *"),
            "2024-03-01T00:45:00Z",
            {"date": "2024-04-01T00:30:00Z", "next": "2024-05-01T00:30:00Z", "previous": "2024-03-01T00:30:00Z"},
        ),
        (  # nothing comes after the last date that the condition allows
            schedule(
                "0 12 * * 1", ("DateTimeBetween", {"before": "2021-08-03T12:00:00+02:00"}), timezone="Europe/Paris"
            ),
            "2021-08-02T12:00:00+02:00",
            {"date": "2021-08-02T12:00:00+02:00", "previous": "2021-07-26T12:00:00+02:00"},
        ),
        (
            schedule("0 11 * * *", ("DayWeekInMonth", {"dayOfWeek": "MONDAY", "dayInMonth": "FIRST"})),
            "2024-06-03T11:00:00Z",
            {"date": "2024-06-03T11:00:00Z", "next": "2024-07-01T11:00:00Z", "previous": "2024-05-06T11:00:00Z"},
        ),
    ],
)
def test_a_tick_knows_its_date_and_its_neighbours(trigger: Schedule, date: str, variables: dict[str, str]) -> None:
    found = tick(trigger, date)

    assert found is not None
    assert found.variables == variables


def test_a_date_that_has_not_come_is_no_tick() -> None:
    assert tick(schedule("1 1 1 1 1"), "2024-03-01T00:00:00Z", now=at("2024-03-01T00:00:00Z")) is None


def test_a_condition_that_does_not_hold_gives_no_tick() -> None:
    assert tick(schedule("0 0 * * *", ("Weekend", {})), "2024-03-04T00:00:00Z") is None
    assert tick(schedule("0 0 * * *", when="{{ false }}"), "2024-03-04T00:00:00Z") is None
    assert tick(schedule("0 0 * * *", when="{{ true }}"), "2024-03-04T00:00:00Z") is not None


def test_a_condition_that_cannot_be_decided_raises_when_its_date_has_come() -> None:
    broken = schedule("0 0 * * *", ("Expression", {"expression": "{{ broken }}"}))

    with pytest.raises(ExpressionError):
        tick(broken, "2024-03-04T00:00:00Z")


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        (schedule("* * * * *", ("Weekend", {})), "2024-03-02T00:00:00+00:00"),
        (schedule("* * * * *", ("DateTimeBetween", {"after": "2026-01-01T00:00:00Z"})), "2026-01-01T00:01:00+00:00"),
        (schedule("* * * * *", ("PublicHoliday", {"country": "FR"})), "2024-04-01T00:00:00+00:00"),
        # what is not known ahead is asked when the date has come
        (schedule("* * * * *", ("Expression", {"expression": "false"})), "2024-03-01T10:01:00+00:00"),
    ],
)
def test_the_next_look_skips_dates_that_cannot_hold(trigger: Schedule, expected: str) -> None:
    planned = plan(trigger, at("2024-03-01T10:00:00Z"), ZONE, render)

    assert planned is not None
    assert planned.isoformat() == expected


@pytest.mark.parametrize(
    "trigger",
    [
        schedule("* * * * * *", ("DateTimeBetween", {"before": "2021-01-01T00:00:00Z"}), withSeconds=True),
        schedule("0 0 30 2 *"),
        ScheduleOnDates.model_validate({"id": "s", "type": "x", "dates": ["2020-01-01T00:00:00Z"]}),
    ],
)
def test_a_schedule_that_never_fires_again_is_not_looked_at(trigger: Schedule | ScheduleOnDates) -> None:
    assert plan(trigger, at("2024-03-01T10:00:00Z"), ZONE, render) is None


def test_dates_of_a_list_fire_in_their_order() -> None:
    trigger = ScheduleOnDates.model_validate(
        {
            "id": "s",
            "type": "x",
            "dates": ["2024-05-02T00:00:00", "2024-05-01T00:00:00+00:00"],
            "timezone": "Europe/Paris",
        }
    )

    found = list(dates_between(trigger, at("2024-01-01T00:00:00Z"), at("2025-01-01T00:00:00Z"), ZONE))

    assert [date.isoformat() for date in found] == ["2024-05-01T00:00:00+00:00", "2024-05-01T22:00:00+00:00"]
    first = tick(trigger, "2024-05-01T00:00:00Z")
    assert first is not None
    assert first.variables == {"date": "2024-05-01T02:00:00+02:00"}


def test_both_ends_of_a_range_count() -> None:
    found = list(dates_between(schedule("0 * * * *"), at("2024-01-01T00:00:00Z"), at("2024-01-01T02:00:00Z"), ZONE))

    assert [date.hour for date in found] == [0, 1, 2]


def test_an_unknown_time_zone_is_named() -> None:
    with pytest.raises(InvalidError, match=r"timezone '\(Mars/Olympus\)' is not a valid time-zone ID"):
        plan(schedule("* * * * *", timezone="Mars/Olympus"), LATER, ZONE, render)
