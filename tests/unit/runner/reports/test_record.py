from __future__ import annotations

from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from runner.reports.record import FlowRecord, folded
from runner.states import State

DAY = date(2026, 3, 1)
EMPTY = FlowRecord("weather", "report")


def test_runs_are_counted_by_day_and_the_last_twenty_stay(runs: Any) -> None:
    rows = [runs.row(minute) for minute in range(25)] + [runs.row(-1_440, state=State.FAILED)]

    record, first = folded(EMPTY, rows)

    assert record.days == {"2026-03-01": {"SUCCESS": 25}, "2026-02-28": {"FAILED": 1}}
    assert [row.id for row in record.recent] == [f"run{minute}" for minute in range(24, 4, -1)]
    assert record.last == record.good == rows[24]
    assert first == {"run-1440"}


def test_a_run_that_is_known_already_is_not_counted_again(runs: Any) -> None:
    once, _ = folded(EMPTY, [runs.row(1)])

    twice, first = folded(once, [runs.row(1), runs.row(2)])

    assert twice.days == {"2026-03-01": {"SUCCESS": 2}}
    assert first == frozenset()


def test_the_first_run_of_a_newer_revision_is_told_apart(runs: Any) -> None:
    record, _ = folded(EMPTY, [runs.row(1, revision=2)])

    newer, first = folded(record, [runs.row(2, revision=1), runs.row(3, revision=3), runs.row(4, revision=3)])

    assert first == {"run3"}
    assert newer.revision == 3


def test_a_good_run_that_is_told_late_is_not_the_last_good_one(runs: Any) -> None:
    record, _ = folded(EMPTY, [runs.row(5)])

    later, _ = folded(record, [runs.row(1)])

    assert later.good == runs.row(5)


def test_days_are_those_of_utc(runs: Any) -> None:
    east = runs.row(0).end.astimezone(ZoneInfo("Pacific/Auckland"))

    record, _ = folded(EMPTY, [runs.row(0, end=east)])

    assert record.days == {"2026-03-01": {"SUCCESS": 1}}


def test_a_record_comes_back_from_its_json(runs: Any) -> None:
    record, _ = folded(EMPTY, [runs.row(1, state=State.WARNING), runs.row(2, state=State.KILLED)])

    assert FlowRecord.from_json(record.as_json()) == record
    assert FlowRecord.from_json(EMPTY.as_json()) == EMPTY


def test_the_median_needs_three_good_runs(runs: Any) -> None:
    two, _ = folded(EMPTY, [runs.row(1, seconds=1.0), runs.row(2, seconds=9.0), runs.row(3, state=State.FAILED)])
    three, _ = folded(two, [runs.row(4, seconds=2.0)])

    assert two.median_s is None
    assert three.median_s == 2.0


def test_percentiles_are_over_the_last_hundred_good_runs(runs: Any) -> None:
    record, _ = folded(EMPTY, [runs.row(minute, seconds=float(minute)) for minute in range(150)])

    assert (record.percentile(0.5), record.percentile(0.95), record.percentile(1)) == (100.0, 145.0, 149.0)
    assert EMPTY.percentile(0.5) is None


def test_a_month_of_days_is_kept(runs: Any) -> None:
    record, _ = folded(EMPTY, [runs.row(-1_440 * back) for back in range(60)])

    assert min(record.days) == "2026-01-30"
    assert len(record.days) == 31


@pytest.mark.parametrize(
    ("counts", "square"),
    [
        ({}, "▫️"),
        ({"CANCELLED": 3}, "▫️"),
        ({"SUCCESS": 3}, "🟩"),
        ({"SUCCESS": 3, "WARNING": 1}, "🟨"),
        ({"SUCCESS": 3, "FAILED": 1}, "🟨"),
        ({"SUCCESS": 1, "FAILED": 1}, "🟥"),
        ({"KILLED": 1}, "🟥"),
    ],
)
def test_a_square_says_how_a_day_was(counts: dict[str, int], square: str) -> None:
    record = FlowRecord("weather", "report", days={DAY.isoformat(): counts})

    assert record.squares(DAY).replace("\u2060", "") == "▫️" * 13 + square


def test_the_success_rate_is_that_of_the_last_fortnight() -> None:
    days = {"2026-03-01": {"SUCCESS": 2, "FAILED": 1, "CANCELLED": 5}, "2026-02-16": {"WARNING": 1}}
    record = FlowRecord("weather", "report", days=days | {"2026-02-15": {"FAILED": 100}})

    assert record.success_rate(DAY) == 0.75
    assert record.success_rate(DAY + timedelta(days=40)) is None
