"""Cron expressions: what is accepted, and when they fire around clock changes."""

from __future__ import annotations

import functools
import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from runner.errors import FlowError
from runner.triggers.cron import check_cron, next_fire, previous_fire

PARIS = ZoneInfo("Europe/Paris")
ZONES = ("Europe/Paris", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "America/Santiago")


def fires(cron: str, after: str, count: int, zone: ZoneInfo = PARIS, *, with_seconds: bool = False) -> list[str]:
    found, at = [], datetime.fromisoformat(after)
    for _ in range(count):
        later = next_fire(cron, at, zone, with_seconds=with_seconds)
        assert later is not None
        found.append(later.isoformat())
        at = later
    return found


@pytest.mark.parametrize(
    "cron",
    ["* * * * *", "*/5 0-23/2 1,15 jan-mar MON-FRI", "0 0 * * 7", "5/10 * * * *", "@daily", "@Hourly", "0 0 30 2 *"],
)
def test_cron_expressions_are_accepted(cron: str) -> None:
    check_cron(cron)


@pytest.mark.parametrize(
    ("cron", "field"),
    [
        ("* * * *", "5 fields are needed, 4 found"),
        ("* * * * * *", "5 fields are needed, 6 found"),
        ("60 * * * *", "'60' is no minutes"),
        ("* 24 * * *", "'24' is no hours"),
        ("* * 0 * *", "'0' is no day of month"),
        ("* * * 13 *", "'13' is no month"),
        ("* * * * 8", "'8' is no day of week"),
        ("* * L * *", "'l' is no day of month"),
        ("30-10 * * * *", "'30-10' is no range"),
        ("*/0 * * * *", "'*/0' is no range"),
        ("* * * foo *", "'foo' is no month"),
        ("@reboot", "5 fields"),
        ("", "5 fields"),
    ],
)
def test_a_wrong_expression_is_refused_naming_the_field(cron: str, field: str) -> None:
    with pytest.raises(FlowError) as caught:
        check_cron(cron)

    assert caught.value.code == "cron.invalid"
    assert caught.value.message.startswith(f"invalid cron expression '{cron}': ")
    assert field in caught.value.message


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("0 0 1 * 1", "2024-10-25T00:00:00+02:00", ["2024-10-28", "2024-11-01", "2024-11-04"]),  # either day field
        ("0 0 * * 0", "2024-10-25T00:00:00+02:00", ["2024-10-27", "2024-11-03"]),
        ("0 0 * * 7", "2024-10-25T00:00:00+02:00", ["2024-10-27", "2024-11-03"]),
        ("@weekly", "2024-10-25T00:00:00+02:00", ["2024-10-27", "2024-11-03"]),
        ("0 0 29 2 *", "2024-10-25T00:00:00+02:00", ["2028-02-29", "2032-02-29"]),
        ("0 0 1 jan *", "2024-10-25T00:00:00+02:00", ["2025-01-01", "2026-01-01"]),
    ],
)
def test_days_are_found(cron: str, after: str, expected: list[str]) -> None:
    assert [text[:10] for text in fires(cron, after, len(expected))] == expected


CLOCK_CHANGES = [
    # a time that is skipped fires at the first instant after the gap, once
    ("30 2 * * *", "2024-03-30T12:00:00+01:00", ["2024-03-31T03:00:00+02:00", "2024-04-01T02:30:00+02:00"]),
    ("*/20 2 * * *", "2024-03-30T12:00:00+01:00", ["2024-03-31T03:00:00+02:00", "2024-04-01T02:00:00+02:00"]),
    # every hour: real hours
    ("30 * * * *", "2024-03-31T01:00:00+01:00", ["2024-03-31T01:30:00+01:00", "2024-03-31T03:30:00+02:00"]),
    ("30 * 31 3 *", "2024-03-01T00:00:00+01:00", ["2024-03-31T00:30:00+01:00", "2024-03-31T01:30:00+01:00"]),
    # a time that occurs twice fires the first time
    ("30 2 * * *", "2024-10-26T12:00:00+02:00", ["2024-10-27T02:30:00+02:00", "2024-10-28T02:30:00+01:00"]),
    # every hour: both of the two
    (
        "30 * * * *",
        "2024-10-27T02:00:00+02:00",
        ["2024-10-27T02:30:00+02:00", "2024-10-27T02:30:00+01:00", "2024-10-27T03:30:00+01:00"],
    ),
]


@pytest.mark.parametrize(("cron", "after", "expected"), CLOCK_CHANGES)
def test_clock_changes_follow_the_written_rule(cron: str, after: str, expected: list[str]) -> None:
    assert fires(cron, after, len(expected)) == expected


def test_a_change_of_half_an_hour_is_followed() -> None:
    found = fires("*/30 * * * *", "2024-04-06T14:10:00+00:00", 3, ZoneInfo("Australia/Lord_Howe"))

    assert found == ["2024-04-07T01:30:00+11:00", "2024-04-07T01:30:00+10:30", "2024-04-07T02:00:00+10:30"]


def test_seconds_stand_first_when_asked_for() -> None:
    found = fires("*/30 * * * * *", "2024-10-27T02:59:50+02:00", 2, with_seconds=True)

    assert found == ["2024-10-27T02:00:00+01:00", "2024-10-27T02:00:30+01:00"]


def test_a_day_that_never_comes_gives_none() -> None:
    assert next_fire("0 0 30 2 *", datetime(2024, 1, 1, tzinfo=UTC), PARIS) is None
    assert previous_fire("0 0 30 2 *", datetime(2024, 1, 1, tzinfo=UTC), PARIS) is None


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("cron", ["17 * * * *", "30 2 * * *", "*/45 1-3 * * *", "0 0 1 * 1", "0 0 * * *"])
def test_fires_rise_and_the_previous_one_is_the_one_before(cron: str, zone: str) -> None:
    found = []
    for start in ("2024-03-09T20:00:00+00:00", "2024-04-06T09:00:00+00:00", "2024-10-26T20:00:00+00:00"):
        found = [datetime.fromisoformat(text) for text in fires(cron, start, 30, ZoneInfo(zone))]

        for earlier, later in pairwise(found):
            before = previous_fire(cron, later, ZoneInfo(zone))

            # As text: a time that occurs twice is never equal to one of another time zone object.
            assert earlier < later
            assert before is not None
            assert before.isoformat() == earlier.isoformat()


@functools.cache
def named(field: str, low: int, high: int) -> set[int]:
    """Return the numbers of a field, the slow and plain way."""
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        begin = low if first == "*" else int(first)
        end = int(last) if last else high if first == "*" or step else begin
        found |= set(range(begin, end + 1, int(step or 1)))
    return found


def names_minute(cron: str, at: datetime) -> bool:
    """Return whether an expression names a minute, by the words of crontab(5)."""
    minute, hour, day, month, weekday = cron.split()
    in_day, in_week = at.day in named(day, 1, 31), at.isoweekday() % 7 in {n % 7 for n in named(weekday, 0, 7)}
    right_day = in_day or in_week if day != "*" and weekday != "*" else in_day and in_week
    return (
        at.minute in named(minute, 0, 59) and at.hour in named(hour, 0, 23) and at.month in named(month, 1, 12)
    ) and right_day


@pytest.mark.parametrize("seed", range(40))
def test_searching_agrees_with_trying_every_minute(seed: int) -> None:
    choose = random.Random(seed).choice
    cron = " ".join(
        [
            choose(["*", "*/7", "5,50", "10-20/3", "59"]),
            choose(["*", "*/5", "3", "22-23", "0,12"]),
            choose(["*", "*", "1", "28-31", "*/2"]),
            choose(["*", "*", "2,3", "*/4"]),
            choose(["*", "*", "0", "7", "1-5", "5-7"]),
        ]
    )
    start = datetime(2024, 2, 26, 23, 50, 17, tzinfo=UTC)
    minutes = (start.replace(second=0) + timedelta(minutes=n) for n in range(1, 60 * 24 * 8))

    expected = next((at for at in minutes if names_minute(cron, at)), None)
    found = next_fire(cron, start, ZoneInfo("UTC"))

    assert expected is None or found == expected
    assert expected is not None or found is None or found - start > timedelta(days=7, hours=23)
