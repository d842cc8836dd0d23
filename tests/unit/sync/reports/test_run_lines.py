"""The lines of a note about runs: how many stay, what is counted, what is too old."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sync.reports.run_lines import MOST_RUNS, noted

AT = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
ALWAYS = AT - timedelta(days=1_000)


def run(number: int, **fields: Any) -> str:
    end = (AT + timedelta(seconds=number)).isoformat()
    return json.dumps({"id": f"run{number}", "flow": "a", "end": end} | fields)


def runs(*numbers: int) -> list[str]:
    return [run(number) for number in numbers]


def test_a_note_that_is_full_keeps_the_newest_runs_and_counts_the_others_in_its_last_line() -> None:
    lines: list[str] = []

    for number in range(MOST_RUNS + 7):
        lines = noted(lines, [run(number)], ALWAYS)

    assert lines[:-1] == runs(*range(7, MOST_RUNS + 7))
    last = json.loads(lines[-1])
    assert last["more"] == 7
    assert "git log -p refs/notes/mainstem-runs" in last["where"]


@pytest.mark.parametrize("count", [3, MOST_RUNS, MOST_RUNS + 50])
@pytest.mark.parametrize("before", [0, 5, MOST_RUNS, MOST_RUNS * 2])
def test_what_is_told_again_after_a_crash_is_neither_written_nor_counted_twice(count: int, before: int) -> None:
    known = noted([], runs(*range(before)), ALWAYS)
    batch = runs(*range(before, before + count))

    once = noted(known, batch, ALWAYS)
    again = noted(once, batch, ALWAYS)
    more = noted(once, [*batch, run(9_000)], ALWAYS)

    assert again == once
    assert more == noted(once, [run(9_000)], ALWAYS)


def test_runs_that_are_too_old_leave_and_the_count_with_the_last_of_them() -> None:
    lines = noted([], runs(*range(MOST_RUNS + 1)), ALWAYS)

    some = noted(lines, [], AT + timedelta(seconds=MOST_RUNS - 1))
    none = noted(lines, [], AT + timedelta(days=1))

    assert some == [*runs(MOST_RUNS - 1, MOST_RUNS), lines[-1]]
    assert none == []


@pytest.mark.parametrize(
    "said",
    [
        "looked at by Bob",
        "",
        "{",
        "[]",
        "null",
        '{"id": "x"}',
        '{"id": "x", "flow": "a", "end": 7}',
        '{"id": "x", "flow": "a", "end": "2020-01-01"}',
        '{"more": true, "where": "x"}',
        '{"more": -1, "where": "x"}',
        '{"more": 3}',
        "caf\udce9",
        '{"caf\udce9": 1}',
    ],
)
def test_a_line_of_somebody_else_stays_where_it_is(said: str) -> None:
    known = [run(0), said]

    lines = noted(known, runs(*range(1, MOST_RUNS + 9)), AT + timedelta(seconds=1))

    assert lines[0] == said
    assert json.loads(lines[-1])["more"] == 8
    assert len(lines) == MOST_RUNS + 2
