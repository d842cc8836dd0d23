"""What a full note of the ledger leaves out, and that nobody takes it for a row that was taken out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from runner.store.records import Revision
from sync.reports.ledger_gaps import MOST_BYTES, LedgerGap, bounded, gaps_of
from sync.reports.ledger_notes import LedgerLine, breaks, ordered

AT = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
HERE, THERE = "c" * 40, "d" * 40
FULL = "x" * (MOST_BYTES - 10)


def line(number: int, commit: str = HERE) -> LedgerLine:
    row = Revision(
        environment="default",
        commit=commit,
        result="ACTIVE",
        at=AT,
        id=number,
        digest=f"{number:064x}",
        prior=f"{number - 1:064x}" if number > 1 else None,
    )
    return LedgerLine.of(row, "srv1", str)


def texts(*numbers: int) -> list[str]:
    return [str(line(number)) for number in numbers]


def test_rows_beyond_the_bound_are_counted_once_in_the_last_line() -> None:
    full = bounded([FULL], [str(line(3))])

    more = bounded(full, [str(line(4)), str(line(6))])
    again = bounded(more, [str(line(4)), str(line(6))])

    assert full == [FULL, "1 more of default stand in the ledger alone: server=srv1 rows=3-3"]
    assert more == again == [FULL, "3 more of default stand in the ledger alone: server=srv1 rows=3-6"]
    assert gaps_of([(HERE, more)], "default") == [LedgerGap("default", "srv1", 3, 3, 6)]


def test_a_full_note_takes_no_later_row_though_a_short_one_had_room() -> None:
    known = [str(line(1)), str(LedgerGap("default", "srv1", 1, 2, 2))]

    lines = bounded(known, [str(line(3)), "looked at by Bob"])

    assert lines == [str(line(1)), "looked at by Bob", str(LedgerGap("default", "srv1", 2, 2, 3))]


def test_rows_that_a_full_note_left_out_break_no_chain_and_others_do() -> None:
    notes = [
        (HERE, bounded([str(line(1)), FULL], texts(2, 4))),
        (THERE, [str(line(number, THERE)) for number in (3, 5, 7)]),
    ]

    lines, gaps = ordered(notes, "default"), gaps_of(notes, "default")

    assert [each.row for each, _ in breaks(lines)] == [3, 5, 7]
    assert [each.row for each, _ in breaks(lines, gaps)] == [7]


@pytest.mark.parametrize("other", [{"server": "srv2"}, {"environment": "prod"}, {"first": 9, "last": 9}])
def test_a_gap_of_something_else_explains_nothing(other: dict[str, object]) -> None:
    gap = LedgerGap("default", "srv1", 1, 2, 2)

    assert gap.explains(line(1), line(3))
    assert not replace(gap, **other).explains(line(1), line(3))  # type: ignore[arg-type]  # one column of the table


@pytest.mark.parametrize("text", ["", "1 more of default", f"{'9' * 5_000} more of default stand in the ledger alone"])
def test_other_lines_are_no_gap(text: str) -> None:
    assert LedgerGap.parsed(text) is None
