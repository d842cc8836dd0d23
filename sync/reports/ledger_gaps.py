"""What a full note of the ledger leaves out: a line for each environment and server that says which rows. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Self

from sync.reports.ledger_notes import LedgerLine

MOST_BYTES: Final = 256 << 10
"""How long the lines of a note may become, some 700 rows: it is written anew for each."""
_GAP: Final = re.compile(
    r"(?P<count>[0-9]{1,9}) more of (?P<environment>\S+) stand in the ledger alone: "
    r"server=(?P<server>\S+) rows=(?P<first>[0-9]{1,18})-(?P<last>[0-9]{1,18})"
)


@dataclass(frozen=True, slots=True)
class LedgerGap:
    """How many rows of an environment a note has no line for, and between which they are, both included."""

    environment: str
    server: str
    count: int
    first: int
    last: int

    @classmethod
    def parsed(cls, text: str) -> Self | None:
        """Return the gap that `str` wrote, None for any other line."""
        found = _GAP.fullmatch(text)
        if found is None:
            return None
        numbers = {name: int(found[name]) for name in ("count", "first", "last")}
        return cls(found["environment"], found["server"], **numbers)

    def and_row(self, row: int) -> Self:
        """Return the gap with one more row, unless that was counted already: rows come in their order."""
        return self if row <= self.last else replace(self, count=self.count + 1, last=row)

    def explains(self, before: LedgerLine, line: LedgerLine) -> bool:
        """Whether rows between two lines may be missing because of it."""
        is_theirs = (self.environment, self.server) == (line.environment, line.server)
        return is_theirs and self.first < line.row and before.row < self.last

    def __str__(self) -> str:
        return (
            f"{self.count} more of {self.environment} stand in the ledger alone: "
            f"server={self.server} rows={self.first}-{self.last}"
        )


def bounded(known: Sequence[str], added: Sequence[str]) -> list[str]:
    """Return the lines of a note with those that are added; rows beyond its bound are counted in its last lines.

    What people wrote stays, and so does every row that was told once.
    """
    lines = [text for text in known if LedgerGap.parsed(text) is None]
    gaps = {(gap.environment, gap.server): gap for text in known if (gap := LedgerGap.parsed(text))}
    told = set(lines)
    room = MOST_BYTES - sum(map(_size, lines))
    for text in (text for text in dict.fromkeys(added) if text not in told):
        room -= _size(text)
        line = LedgerLine.parsed(text)
        if line is None or (room >= 0 and (line.environment, line.server) not in gaps):
            lines.append(text)
            continue
        gap = gaps.get((line.environment, line.server))
        new = gap.and_row(line.row) if gap else LedgerGap(line.environment, line.server, 1, line.row, line.row)
        gaps[line.environment, line.server] = new
    return [*lines, *map(str, gaps.values())]


def gaps_of(notes: Iterable[tuple[str, Iterable[str]]], environment: str) -> list[LedgerGap]:
    """Return what notes leave out of an environment's ledger."""
    found = (LedgerGap.parsed(text) for _, texts in notes for text in texts)
    return [gap for gap in found if gap is not None and gap.environment == environment]


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape")) + 1
