"""Reports as git notes: a line of JSON for each run, on the commit that it ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import orjson

from runner.executions.models import OutboxRow
from runner.reports.values import Mask
from runner.store import Store
from sync.reports.ended import ended_rows
from sync.reports.notes import NoteBook
from sync.reports.run_lines import noted
from sync.sources import Source

RUN_NOTES: Final = "refs/notes/mainstem-runs"
_TIDIED: Final = "notes_tidied"
_MONTH: Final = "notes_month"


@dataclass(frozen=True, slots=True)
class RunNotes:
    """Appends runs to the notes of one repository, its `source`; those that ended before `retention` leave again.

    The first commit of a month has no parent, as on the branch of reports: what came before can be collected.
    A line that is there already is not written twice, so that a crash between the commit and the outbox does nothing.
    """

    store: Store
    source: Source
    repository: str
    retention: timedelta
    mask: Mask

    def write(self, outbox: Sequence[OutboxRow], now: datetime) -> int:
        """Append what the rows tell, and remove them; give how many commits were made.

        A run without a commit has nothing that it could be told on.

        Raises:
            MainstemError: the notes cannot be read or written; the rows stay.
        """
        ids = list(dict.fromkeys(row.key for row in outbox))
        rows = self.store.read(lambda db: ended_rows(db, ids, self.mask))
        lines: dict[str, list[str]] = {}
        for row in sorted(rows, key=lambda row: (row.end, row.id)):
            if row.commit is not None:
                lines.setdefault(row.commit, []).append(orjson.dumps(row.as_json()).decode())
        first = now - self.retention
        book = NoteBook(self.source, RUN_NOTES, merge=lambda known, added: noted(known, added, first))
        if lines:
            self._append(book, lines, f"reports: {len(rows)} runs [skip ci]\n", now)
        self._tidy(book, now)
        self.store.write(lambda db: db.outbox.delete([row.id for row in outbox]))
        return 1 if lines else 0

    def _append(self, book: NoteBook, lines: dict[str, list[str]], message: str, now: datetime) -> None:
        place, month = f"@{self.repository}", f"{now.astimezone(UTC):%Y-%m}"
        before = self.store.read(lambda db: db.reports.get(place, _MONTH))
        book.append(lines, message=message, at=now, restart=before not in {None, month})
        if before != month:
            self.store.write(lambda db: db.reports.put(place, _MONTH, month))

    def _tidy(self, book: NoteBook, now: datetime) -> None:
        """Take out of all notes what is too old, once a day."""
        place = f"@{self.repository}"
        today = f"{now.astimezone(UTC):%Y-%m-%d}"
        if self.store.read(lambda db: db.reports.get(place, _TIDIED)) == today:
            return
        book.tidy(message="reports: old runs leave [skip ci]\n", at=now)
        self.store.write(lambda db: db.reports.put(place, _TIDIED, today))
