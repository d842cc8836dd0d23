"""Mirrors the ledger of environments as notes on the commits of their repositories."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

from runner.errors import MainstemError
from runner.reports.values import Mask
from runner.store import Store
from runner.store.records import Environment
from runner.store.session import Session
from sync.origins import HOSTED
from sync.reports.backoff import Backoff
from sync.reports.ledger_gaps import bounded
from sync.reports.ledger_notes import NOTES, Untold, has_untold, lines_of
from sync.reports.notes import NoteBook
from sync.service import SyncService

log = logging.getLogger(__name__)

Mode = Literal["none", "hosted", "all"]


class LedgerMirror:
    """Appends what the notes do not say yet, one commit for each repository. The caller keeps others away.

    What cannot be written is tried again, and was never told: nothing is lost by a crash at any point, and a line that
    is there already is not written twice.

    Args:
        mode: for which repositories.
        store: where the ledger is.
        sync: the repositories.
        mask: hides secrets.
        server: gives the name under which this server's lines stand.
        first_s: seconds until the first try after a failure.
    """

    def __init__(
        self, mode: Mode, store: Store, sync: SyncService, mask: Mask, server: Callable[[], str], first_s: float
    ) -> None:
        self._mode = mode
        self._store = store
        self._sync = sync
        self._mask = mask
        self._server = server
        self._backoff = Backoff(first_s)
        self._told = -1  # the newest row of the ledger when all of it was told

    def due(self, now: datetime) -> dict[str, list[str]]:
        """Return the environments with rows that are not told, by repository."""
        if self._mode == "none":
            return {}
        environments = [each for each in self._sync.status() if self._is_mirrored(each)]

        def untold(db: Session) -> list[Environment]:
            newest = db.revisions.newest()
            found = [each for each in environments if has_untold(db, each.name)] if newest != self._told else []
            if not found:
                self._told = newest
            return found

        due: dict[str, list[str]] = {}
        for each in self._store.read(untold):
            if self._backoff.is_due(each.repository, now):
                due.setdefault(each.repository, []).append(each.name)
        return due

    def _is_mirrored(self, environment: Environment) -> bool:
        # A preview follows nothing, and its commits are a stranger's.
        return environment.previews is None and (self._mode == "all" or environment.repository == HOSTED)

    def write(self, now: datetime) -> list[str]:
        """Append all rows that are due, at most 500 of an environment at once; return the repositories written to."""
        written = []
        for repository, names in self.due(now).items():
            try:
                self._append(repository, names, now)
            except Exception as error:  # whatever a repository does, those of the others must go on
                fields: dict[str, Any] = {"repository": repository}
                fields["again_in_s"] = self._backoff.failed(repository, now)
                is_ours = isinstance(error, MainstemError)
                fields["error"] = f"{error.code}: {error}" if isinstance(error, MainstemError) else type(error).__name__
                log.warning("the ledger cannot be mirrored to %s", repository, extra=fields, exc_info=not is_ours)
            else:
                self._backoff.worked(repository)
                written.append(repository)
        return written

    def _append(self, repository: str, names: list[str], now: datetime) -> None:
        untold = self._store.read(lambda db: [Untold.read(db, name) for name in names])
        lines = lines_of(untold, self._server(), self._mask)
        if lines:
            book = NoteBook(self._sync.report_source(repository), NOTES, merge=bounded)
            book.append(lines, message=f"ledger of {', '.join(names)} [skip ci]\n", at=now)

        def remember(db: Session) -> None:
            for each in untold:
                each.remember(db)

        self._store.write(remember)
