from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from runner.reports.rows import RunRow, failed_leaves, row_of
from runner.states import State


def test_a_row_comes_back_from_its_json(runs: Any) -> None:
    row = row_of(runs.execution(error="boom"), runs.mask)

    assert RunRow.from_json(row.as_json()) == row
    assert (row.trigger, row.seconds, row.error) == ("nightly", 102.0, "boom")


def test_a_run_that_never_started_has_no_duration(runs: Any) -> None:
    row = row_of(runs.execution(state=State.CANCELLED, started_at=None, ended_at=None, trigger=None), runs.mask)

    assert (row.seconds, row.start, row.trigger, row.end) == (None, None, None, runs.now)


def test_the_error_of_a_row_is_that_of_the_first_task_that_failed_itself(runs: Any) -> None:
    loop = runs.task("loop", error="a child failed")
    inner = runs.task("inner", parent_id=loop.id, error="no s3cret-value\n for\x1b[31m LGA")
    other = runs.task("other", error="later")

    row = row_of(runs.execution(), runs.mask, [loop, inner, other])

    assert row.error == "inner: no ****** for LGA"
    assert failed_leaves([loop, inner, other]) == (inner, other)


def test_a_failure_that_a_task_around_it_made_up_for_comes_last(runs: Any) -> None:
    allowed = runs.task("allowed", state=State.WARNING)
    forgiven = runs.task("forgiven", parent_id=allowed.id, error="does not matter")
    deadly = runs.task("deadly", error="this one")

    assert failed_leaves([allowed, forgiven, deadly]) == (deadly, forgiven)
    assert row_of(runs.execution(), runs.mask, [forgiven, deadly]).error == "deadly: this one"


def test_the_error_of_a_row_is_short(runs: Any) -> None:
    row = row_of(runs.execution(error="x" * 2_000_000), runs.mask)

    assert row.error is not None
    assert len(row.error) == 200


def test_the_page_of_a_run_lies_in_the_folder_of_the_utc_day_of_its_end(runs: Any) -> None:
    end = datetime(2026, 3, 1, 1, 0, tzinfo=timezone(timedelta(hours=9)))

    row = replace(runs.row(), id="../x", end=end)

    assert row.stem == "runs/2026/02/28/weather/report/_x"
    assert row.as_json()["end"] == "2026-02-28T16:00:00.000000Z"
    assert RunRow.from_json(row.as_json()).end == end.astimezone(UTC)
