"""A line of the ledger as its note says it, and what shows when lines or rows were changed."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from runner.store.records import Revision
from sync.reports.ledger_notes import LedgerLine, breaks, differences, ordered

AT = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
HOSTILE = [
    'x" from=1 to=2 changes=3',
    "a\nb\r\nc",
    "\n2026-03-10T12:00:00Z default ACTIVE sync by=",
    "@team closes #1",
    "<b>x</b>",
    "\u202eright to left\u2066",
    "\x1b[31mred",
    "\\",
    '\\"',
    "\ud800",
    "Signed-off-by: root",
    "x" * 100_000,
]


def row(number: int, prior: str | None = None, **fields: Any) -> Revision:
    values: dict[str, Any] = {
        "environment": "default",
        "commit": "c" * 40,
        "result": "ACTIVE",
        "at": AT,
        "actor": "ann",
        "previous": "b" * 40,
        "prior": prior,
        "digest": f"{number:064x}",
        "id": number,
    }
    return Revision(**(values | fields))


def line(number: int, prior: str | None = None, **fields: Any) -> LedgerLine:
    return LedgerLine.of(row(number, prior, **fields), "srv1", str)


def chain(count: int) -> list[LedgerLine]:
    return [line(number, f"{number - 1:064x}" if number > 1 else None) for number in range(1, count + 1)]


def test_a_line_says_who_what_from_and_to_and_can_be_read_again() -> None:
    written = line(7, "a" * 64, action="rollback", reason="too slow", changes=({"kind": "changed"},))

    text = str(written)

    assert text == (
        f'2026-03-10T12:00:00Z default ACTIVE rollback by="ann" from={"b" * 40} to={"c" * 40} changes=1 '
        f'reason="too slow" server=srv1 row=7 prior={"a" * 64} chain={7:064x}'
    )
    assert LedgerLine.parsed(text) == written


def test_a_line_says_whose_signature_the_commit_has() -> None:
    written = line(
        7, signature={"state": "good", "kind": "ssh", "signer": "ann@example.org", "fingerprint": "SHA256:x"}
    )

    assert "ann@example.org" in (written.signed or "")
    assert LedgerLine.parsed(str(written)) == written


def test_a_line_says_which_delivery_told_of_the_commit_and_who_caused_it() -> None:
    written = line(7, delivery='d "1" server=x', sender="ann")

    text = str(written)

    assert ' delivery="d \\"1\\" server=x" sender="ann" server=srv1 ' in text
    assert LedgerLine.parsed(text) == written


def test_a_first_row_has_nothing_before_it() -> None:
    first = line(1, previous=None)

    assert LedgerLine.parsed(str(first)) == first
    assert "from=- " in str(first)


@pytest.mark.parametrize("payload", HOSTILE)
def test_no_reason_or_actor_forges_another_line(payload: str) -> None:
    written = line(7, "a" * 64, actor=payload, reason=payload)

    text = str(written)

    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 5_000
    assert LedgerLine.parsed(text) == written


@pytest.mark.parametrize("text", ["", "looked at by Bob", "x" * 10_000, "2026-03-10T12:00:00Z default ACTIVE", "{}"])
def test_what_people_write_is_no_line(text: str) -> None:
    assert LedgerLine.parsed(text) is None


def test_a_secret_in_a_reason_is_hidden() -> None:
    written = LedgerLine.of(row(1, reason="token s3cret"), "srv1", lambda text: text.replace("s3cret", "******"))

    assert "s3cret" not in str(written)


def test_a_whole_chain_has_no_break() -> None:
    assert list(breaks(chain(5))) == []


def test_a_line_that_was_taken_out_or_changed_shows() -> None:
    lines = chain(5)
    taken_out = [each for each in lines if each.row != 3]
    changed = [replace(each, chain="f" * 64) if each.row == 3 else each for each in lines]
    doubled = sorted([*lines, replace(lines[2], result="INVALID", chain="f" * 64)], key=lambda each: each.row)

    assert [each.row for each, _ in breaks(taken_out)] == [4]
    assert [each.row for each, _ in breaks(changed)] == [4]
    assert 3 in [each.row for each, _ in breaks(doubled)]


def test_chains_of_several_servers_are_apart() -> None:
    others = [replace(each, server="srv2") for each in chain(3)]

    lines = ordered([("c" * 40, map(str, [*chain(3), *others]))], "default")

    assert len(lines) == 6
    assert list(breaks(lines)) == []


def test_a_line_on_another_commit_is_none_of_ours() -> None:
    assert ordered([("d" * 40, [str(line(1))])], "default") == []
    assert ordered([("c" * 40, [str(line(1))])], "other") == []


def test_a_ledger_that_lost_or_changed_a_row_is_contradicted() -> None:
    lines = chain(3)
    stored = {1: row(1), 2: row(2, digest="f" * 64)}

    found = [(each.row, why) for each, why in differences(lines, stored)]

    assert found == [
        (2, "says another digest than the ledger does now"),
        (3, "is not in the ledger any more"),
    ]
    assert json.dumps(found)
