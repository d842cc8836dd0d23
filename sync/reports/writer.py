"""The report writer: a thread that turns ended executions into commits on the reports branch.

The outbox says which executions ended; a row leaves it when the commit that tells of it is on the branch. Nothing here
may fail an execution: what cannot be written stays in the outbox and is tried again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from runner.errors import MainstemError
from runner.executions.models import OUTBOX_REPORT, OutboxRow
from runner.flows.catalogue import Catalogue
from runner.services import Host
from runner.settings import Settings
from runner.store import Store
from runner.store.records import Environment, Repository
from runner.store.session import Session
from sync.reports.backoff import Backoff
from sync.reports.branch import ReportBranch
from sync.reports.deployed import is_behind
from sync.reports.files import Bindery
from sync.reports.gathering import Gathering
from sync.reports.ledger import RecordShelf
from sync.reports.ledger_mirror import LedgerMirror
from sync.reports.options import options_of, reports
from sync.reports.publication import Publication
from sync.reports.run_notes import RunNotes
from sync.reports.stands import changed, told
from sync.reports.writer_name import named
from sync.repository import GitRepository
from sync.service import SyncService

log = logging.getLogger(__name__)

_MOST_ROWS: Final = 10_000
_LOOK_S: Final = 1.0
_FLUSH_S: Final = 10.0
_IDLE_S: Final = 60.0
_TIDY_AFTER: Final = 30  # commits, when idle
_TIDY_AT_ONCE: Final = 100  # commits, under load
_MOST_LOOSE: Final = 1_000
_MOST_MIRROR_BYTES: Final = 256 << 20
_EXCLUSIVE: Final = "reports"


class ReportWriter:
    """Writes reports of all environments, at most one commit per interval and repository.

    `start` once, `stop` once; `stop` writes what is left. Of several on one store one writes at a time.

    Args:
        settings: the branch, the interval, how much is kept.
        store: where the outbox and the executions are.
        catalogue: flows, for their sources and what changed in them.
        sync: the repositories.
        host: the masker, the storage of files, the clock.
        writer: a name for the files of this writer; by default one made once for the store.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        catalogue: Catalogue,
        sync: SyncService,
        host: Host,
        *,
        writer: str | None = None,
    ) -> None:
        self._settings = settings.reports
        self._store = store
        self._sync = sync
        self._host = host
        # Without `url` the address is one that only this machine knows.
        pages = settings.public_url if settings.url else None
        self._gathering = Gathering(store, catalogue, host.storage, pages)
        self._shelf = RecordShelf()
        self._name = writer
        self._branches: dict[str, ReportBranch] = {}
        self._written: set[str] = set()  # repositories to be tidied
        self._running = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._backoff = Backoff(self._settings.interval_s)
        self._notes = LedgerMirror(
            self._settings.ledger_notes, store, sync, host.masker.mask, self._writer, self._settings.interval_s
        )
        self._commits = self._commits_failed = self._untidy = 0
        self._ledger_told = -1  # the newest row of the ledger when all of it was told
        self._last_commit = float("-inf")  # on the monotonic clock

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._loop, name="reports", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and write what is left, for at most ten seconds."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_FLUSH_S)
        self.flush()

    def flush(self, timeout_s: float = _FLUSH_S) -> bool:
        """Write what the outbox holds now, without waiting for the interval; False when not all of it was written."""
        deadline = time.monotonic() + timeout_s
        while (left_s := deadline - time.monotonic()) > 0:
            if self.run_once(left_s) == 0:
                return self.backlog() == 0
        return False

    def backlog(self) -> int:
        """Return how many reports wait to be written."""
        return self._store.read(lambda db: db.outbox.counts()).get(OUTBOX_REPORT, (0, None))[0]

    def figures(self) -> Mapping[str, float]:
        """Return counters: commits made, and commits that failed and are tried again."""
        return {"report_commits": float(self._commits), "report_commits_failed": float(self._commits_failed)}

    def run_once(self, wait_s: float = -1) -> int:
        """Write the reports that are due, one commit for each repository; give how many rows left the outbox.

        Only one at a time does, here and in other processes; whoever has waited `wait_s` (negative: without end) for
        one in this process has nothing to do, and neither has anybody while another process is at it.
        """
        if not self._running.acquire(timeout=wait_s):
            return 0
        try:
            with self._store.exclusive(_EXCLUSIVE) as is_ours:
                return self._run_once() if is_ours else 0
        finally:
            self._running.release()

    def _run_once(self) -> int:
        now = self._host.clock()
        rows = self._store.read(lambda db: db.outbox.take([OUTBOX_REPORT], _MOST_ROWS, now))
        restless = self._restless(now)
        if not (rows or restless or self._notes.due(now)) or not self._knows_secrets():
            return 0
        self._store.logs.flush()
        found = self._by_repository(rows)
        for name in restless:
            found.setdefault(name, [])
        gone = sum(self._publish(name, due, now) for name, due in found.items())
        mirrored = self._notes.write(now)
        self._written.update(mirrored)
        self._untidy += len(mirrored)
        return gone

    def _restless(self, now: datetime) -> list[str]:
        """Return the repositories of which the branch does not say how all stands, or what was deployed."""
        if self._settings.as_ == "notes":  # these tell of runs alone
            return []
        reporting: dict[str, list[Environment]] = {}
        for each in self._sync.status():
            if reports(each):
                reporting.setdefault(self._target(each), []).append(each)

        def untold(db: Session) -> list[str]:
            newest = db.revisions.newest()
            behind = (
                []
                if newest == self._ledger_told
                else [name for name, found in reporting.items() if is_behind(db, [each.name for each in found])]
            )
            if not behind:
                self._ledger_told = newest
            return [name for name, found in reporting.items() if name in behind or changed(told(db, name), found)]

        return [name for name in self._store.read(untold) if self._backoff.is_due(name, now)]

    def _knows_secrets(self) -> bool:
        """Have the masker hear of secrets that were set since the start: only the process of a task read them."""
        try:
            self._host.secrets.renew()
        except MainstemError as error:
            log.warning("reports stay in the outbox: secrets cannot be read, so nothing hides them: %s", error)
            return False
        return True

    def _by_repository(self, rows: Sequence[OutboxRow]) -> dict[str | None, list[OutboxRow]]:
        """Return rows by the repository of their environment; under None those that nobody wants."""
        environments = {each.name: each for each in self._sync.status()}
        found: dict[str | None, list[OutboxRow]] = {}
        for row in rows:
            environment = environments.get(str(row.payload.get("environment")))
            wanted = self._target(environment) if environment is not None and reports(environment) else None
            found.setdefault(wanted, []).append(row)
        return found

    def _publish(self, repository: str | None, rows: Sequence[OutboxRow], now: datetime) -> int:
        ids = [row.id for row in rows]
        if repository is None:
            return self._store.write(lambda db: db.outbox.delete(ids))
        try:
            commits = self._writing(repository).write(rows, now)
        except MainstemError as error:
            self._postpone(repository, ids, now, error)
            return 0
        except Exception as error:  # whatever a repository or a row does, the reports of the others must go on
            log.exception("reports cannot be written", extra={"repository": repository})
            self._postpone(repository, ids, now, error)
            return 0
        self._backoff.worked(repository)
        self._commits += commits
        self._untidy += commits
        self._written.add(repository)
        return len(ids)

    def _target(self, environment: Environment) -> str:
        """Return the repository that reports of an environment go to."""
        return self._settings.repository or environment.repository

    def _writing(self, repository: str) -> Publication | RunNotes:
        if self._settings.as_ == "branch":
            return self._publication(repository)
        retention = timedelta(days=options_of(self._settings, self._reporting_to(repository)).retention_days)
        source = self._sync.report_source(repository)
        return RunNotes(self._store, source, repository, retention, self._host.masker.mask)

    def _reporting_to(self, repository: str) -> list[Environment]:
        return [each for each in self._sync.status() if reports(each) and self._target(each) == repository]

    def _publication(self, repository: str) -> Publication:
        branch = self._branches.get(repository)
        if branch is None:
            branch = self._branches[repository] = ReportBranch(self._sync.report_source(repository), self._settings.ref)
        environments = self._reporting_to(repository)
        bindery = Bindery(
            environments=environments,
            places={each.name: self._place(each.repository) for each in environments},
            store=self._store,
            gathering=self._gathering,
            mask=self._host.masker.mask,
            formats=self._settings.formats,
        )
        return Publication(
            repository=repository,
            writer=self._writer(),
            settings=options_of(self._settings, environments),
            store=self._store,
            branch=branch,
            bindery=bindery,
            shelf=self._shelf,
        )

    def _place(self, repository: str) -> tuple[Repository, GitRepository | None]:
        """Return what pages say of where flows come from: less where that is gone, since reports of others go on."""
        declared = Repository(repository, "")
        try:
            declared = self._sync.credentials(repository)
            return declared, self._sync.repository(repository).repository
        except MainstemError as error:
            log.warning("pages cannot show commits of %s", repository, extra={"error": f"{error.code}: {error}"})
            return declared, None

    def _writer(self) -> str:
        self._name = self._name or named(self._store)
        return self._name

    def _postpone(self, repository: str, ids: Sequence[int], now: datetime, error: Exception) -> None:
        self._commits_failed += 1
        wait_s = self._backoff.failed(repository, now)
        fields: dict[str, Any] = {"repository": repository, "rows": len(ids), "again_in_s": wait_s}
        fields["error"] = f"{error.code}: {error}" if isinstance(error, MainstemError) else type(error).__name__
        log.warning("reports stay in the outbox: they cannot be written to %s", repository, extra=fields)
        self._branches.pop(repository, None)  # its credentials or address may be others by then
        self._store.write(lambda db: db.outbox.defer(ids, now + timedelta(seconds=wait_s)))

    def _loop(self) -> None:
        """Look each second; commit a moment after the first row, and then at most once per interval."""
        look_s = min(_LOOK_S, self._settings.interval_s)
        has_waited = False
        while not self._stopping.wait(look_s):
            if time.monotonic() - self._last_commit < self._settings.interval_s:
                continue
            try:
                if not self._has_news():
                    self._tidy(_TIDY_AFTER if time.monotonic() - self._last_commit > _IDLE_S else _TIDY_AT_ONCE)
                elif has_waited:
                    self.run_once()
                    self._last_commit = time.monotonic()
                    has_waited = False
                    self._tidy(_TIDY_AT_ONCE)
                else:
                    has_waited = True  # runs seldom come alone: those of the next moment go into the same commit
            except Exception:  # a store that is away for a moment must not end the thread
                log.exception("reports are not written")

    def _has_news(self) -> bool:
        now = self._host.clock()
        waiting = self._store.read(lambda db: db.outbox.take([OUTBOX_REPORT], 1, now))
        return bool(waiting or self._restless(now) or self._notes.due(now))

    def _tidy(self, commits: int) -> None:
        """Pack what commits leave behind, after so many of them."""
        if self._untidy < commits:
            return
        self._untidy = 0
        for repository in sorted(self._written):
            self._sync.maintain(repository, most_loose=_MOST_LOOSE)
            if self._sync.trim_reports(repository, _MOST_MIRROR_BYTES):
                self._branches.pop(repository, None)
