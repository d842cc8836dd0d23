from __future__ import annotations

from datetime import UTC, datetime

from runner.reports.rows import RunRow
from runner.reports.trend import trend
from runner.states import State

AT = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
JOINER = "\u2060"


def row(state: State, seconds: float | None) -> RunRow:
    return RunRow("r", "weather", "report", 1, state, AT, seconds=seconds)


def test_the_newest_run_stands_last_and_the_longest_has_the_highest_bar() -> None:
    rows = [row(State.FAILED, 8.0), row(State.SUCCESS, 4.0), row(State.SUCCESS, 0.5)]

    text = trend(rows)

    assert text.replace(JOINER, "") == "✓✓✗ · ▁▄█ (500 ms to 8.0 s)"


def test_runs_that_took_about_as_long_have_no_hills() -> None:
    rows = [row(State.SUCCESS, each) for each in (1.05, 1.0, 1.09)]

    text = trend(rows)

    assert "▁▁▁" in text.replace(JOINER, "")


def test_runs_that_never_started_have_a_mark_and_no_bar() -> None:
    rows = [row(State.KILLED, None), row(State.SUCCESS, 1.0)]

    text = trend(rows)

    assert text.replace(JOINER, "") == "✓✗"


def test_one_run_is_no_trend_and_runs_without_length_divide_by_nothing() -> None:
    assert trend([row(State.SUCCESS, 1.0)]) == ""
    assert trend([row(State.SUCCESS, 0.0)] * 2).replace(JOINER, "") == "✓✓ · ▁▁ (< 1 ms to < 1 ms)"
