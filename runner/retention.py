"""What leaves by itself once it is old: executions with their logs and files, log lines, metrics, expired keys.

It goes in small steps on a thread of its own, so that nothing waits for it, and in one process at a time. What is
still needed stays, however old: executions that have not ended, and all that these came from or stand in.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from runner.context import remove_work_dir
from runner.errors import MainstemError, StoreError
from runner.executions.models import OUTBOX_PURGE, OutboxRow
from runner.services import Host
from runner.settings import RetentionSettings
from runner.states import TERMINAL, State
from runner.storage.uris import execution_uri
from runner.store import Session, Store
from runner.store.expiry import START, Links

log = logging.getLogger(__name__)

_EXCLUSIVE: Final = "retention"
_BATCH: Final = 50  # executions of one transaction
_ROWS: Final = 2_000  # log lines or metrics of one transaction
_MOST_BATCHES: Final = 200  # of one kind in one go; the rest waits for the next
_PAUSE_S: Final = 0.02  # between two batches, for whoever wants to write meanwhile
_ANSWERS_KEPT: Final = timedelta(days=30)  # of Idempotency-Key
_EXPIRED_KEPT: Final = timedelta(days=1)  # an expired key answers 410 so long, then 404
_MOST_REFUSED: Final = 5  # removals in one go; more, and the storage is away
_PUT_OFF: Final = timedelta(hours=1)  # until a removal that failed is tried again
_LEFT_WORK: Final = timedelta(days=1)
_GIB: Final = 1024**3
_ENOUGH: Final = 0.95  # of the room; made free in one go, so that the next one has nothing to do for a while
_WORK_NAME: Final = re.compile(r"(?P<run>[0-9a-z]{34})-(?P<attempt>\d+)(?:-\d+)?")


class Retention:
    """Removes what is old. `run_once` may be called again at any time; `stop` ends it after the batch at hand."""

    def __init__(self, store: Store, host: Host, settings: RetentionSettings, *, home: Path | None = None) -> None:
        """Keep what is needed; `home` is the folder whose size is bounded, None for a server without one."""
        self._store = store
        self._host = host
        self._settings = settings
        self._home = home
        self._stopping = threading.Event()
        self._removed = dict.fromkeys(
            ("executions", "files", "log_lines", "metrics", "audit_rows", "keys", "work_folders"), 0
        )
        self._last_run = 0.0

    def stop(self) -> None:
        """Begin no further batch."""
        self._stopping.set()

    def figures(self) -> dict[str, float]:
        """Return counters of what this process removed, and when it last looked, in seconds since 1970."""
        counts = {f"retention_removed_{name}": float(count) for name, count in self._removed.items()}
        return {**counts, "retention_last_run_seconds": self._last_run}

    def run_once(self) -> bool:
        """Remove what is old now; False when another process is at it."""
        with self._store.exclusive(_EXCLUSIVE) as is_ours:
            if not is_ours:
                return False
            now = self._host.clock()
            self._finish()
            for days, states in periods(self._settings):
                self._executions(states, now - timedelta(days=days), _MOST_BATCHES, lambda: False)
            self._make_room(now)
            self._lines_and_metrics(now)
            self._small_things(now)
            self._last_run = now.timestamp()
        return True

    # ---------------------------------------------------------------- executions

    def _executions(
        self, states: Collection[State], before: datetime, batches: int, is_enough: Callable[[], bool]
    ) -> int:
        removed, after = 0, START
        for _ in range(batches):
            if self._stopping.is_set() or is_enough():
                break
            at = after
            found = self._store.read(lambda db, at=at: db.expiry.ended(states, before, at, _BATCH))  # type: ignore[misc]  # bound now
            if not found:
                break
            last_id, last_at = found[-1]
            after = (last_at, last_id)
            removed += self._remove([execution_id for execution_id, _ in found], before)
            if not self._finish():
                break  # the storage is away: what is removed now would only wait for it
            self._stopping.wait(_PAUSE_S)
        return removed

    def _remove(self, ids: list[str], before: datetime) -> int:
        free = self._store.read(lambda db: without_needed(ids, db.expiry.open(), db.expiry.links))
        if not free:
            return 0
        count = self._store.write(lambda db: db.expiry.remove(free, before))
        self._removed["executions"] += count
        return count

    def _finish(self) -> bool:
        """Remove the logs and files of executions that are gone, those of a run that was interrupted among them.

        Return False when the storage refuses too often; the rest waits for the next run.
        """
        refused = 0
        while rows := self._store.read(lambda db: db.outbox.take((OUTBOX_PURGE,), _BATCH, self._host.clock())):
            for row in rows:
                if self._stopping.is_set() or refused == _MOST_REFUSED:
                    return False
                refused += not self._purged(row)
        return True

    def _purged(self, row: OutboxRow) -> bool:
        """Do what a row asks for; False when the storage refuses: others must not wait for that, so it is put off."""
        try:
            self._purge(row)
        except StoreError:
            raise
        except (MainstemError, OSError) as error:
            log.warning("what an execution left cannot be removed", extra={"execution": row.key, "error": str(error)})
            self._store.write(lambda db: db.outbox.defer(row.id, self._host.clock() + _PUT_OFF))
            return False
        return True

    def _purge(self, row: OutboxRow) -> None:
        if row.payload.get("storage", True):
            folder = execution_uri(row.payload["namespace"], row.payload["flowId"], row.key)
            self._removed["files"] += self._host.storage.delete(folder)
        if row.payload.get("logs", True):
            self._removed["log_lines"] += self._store.logs.delete(row.key)
        self._store.write(lambda db: db.outbox.delete([row.id]))

    def _make_room(self, now: datetime) -> None:
        """Let the oldest executions go as long as the home is larger than it may be."""
        if self._home is None or not self._settings.home_gib:
            return
        room = self._settings.home_gib * _GIB
        files = _bytes_below(self._home / "storage")
        if files + self._store.used_bytes() <= room:
            return
        log.warning("the home is larger than it may be: the oldest executions leave", extra={"gib": room / _GIB})

        def is_enough() -> bool:
            return _bytes_below(self._home / "storage") + self._store.used_bytes() <= room * _ENOUGH  # type: ignore[operator]  # not None here

        self._executions(TERMINAL, now, _MOST_BATCHES, is_enough)

    # ---------------------------------------------------------------- the rest

    def _lines_and_metrics(self, now: datetime) -> None:
        if self._settings.logs_days is not None:
            before = now - timedelta(days=self._settings.logs_days)
            waiting = self._store.read(lambda db: db.expiry.open())
            kept, since = [each.id for each in waiting], min((each.created_at for each in waiting), default=now)
            self._repeat("log_lines", lambda: self._store.logs.expire(before, kept, since, _ROWS))
        if self._settings.metrics_days is not None:
            old = now - timedelta(days=self._settings.metrics_days)
            self._repeat("metrics", lambda: self._store.write(lambda db: db.expiry.drop_metrics(old, _ROWS)))
        if self._settings.audit_days is not None:
            age = now - timedelta(days=self._settings.audit_days)
            self._repeat("audit_rows", lambda: self._store.write(lambda db: db.audit.prune(age, _ROWS)))

    def _repeat(self, name: str, step: Callable[[], int]) -> None:
        for _ in range(_MOST_BATCHES):
            if self._stopping.is_set() or not (count := step()):
                return
            self._removed[name] += count
            self._stopping.wait(_PAUSE_S)

    def _small_things(self, now: datetime) -> None:
        def remove(db: Session) -> int:
            db.deliveries.prune(now - timedelta(days=self._settings.deliveries_days))
            db.idempotency.prune(now - _ANSWERS_KEPT)
            return db.kv.purge_expired(now - _EXPIRED_KEPT)

        self._removed["keys"] += self._store.write(remove)

    def sweep_work(self, root: Path) -> int:
        """Remove working directories that a crash left below `root`; give how many.

        Those of attempts that have ended leave at once, what nobody here knows after a day: it may be another server's.
        """
        left = {entry: found for entry in _folders(root) if (found := _WORK_NAME.fullmatch(entry.name))}
        attempts = {(found["run"], int(found["attempt"])) for found in left.values()}
        ended = self._store.read(lambda db: db.claims.ended_among(attempts)) if attempts else set()
        removed = 0
        for entry, found in left.items():
            if (found["run"], int(found["attempt"])) in ended or self._is_nobodys(entry, found["run"]):
                remove_work_dir(Path(entry.path))
                removed += 1
        self._removed["work_folders"] += removed
        return removed

    def _is_nobodys(self, entry: os.DirEntry[str], run_id: str) -> bool:
        try:
            changed_at = entry.stat(follow_symlinks=False).st_mtime
        except FileNotFoundError:  # its worker has removed it since the folder was read
            return False
        if time.time() - changed_at <= _LEFT_WORK.total_seconds():
            return False
        run = self._store.read(lambda db: db.executions.run(run_id))
        return run is None or run.state.is_terminal


def _folders(root: Path) -> list[os.DirEntry[str]]:
    if not root.is_dir():
        return []
    with os.scandir(root) as entries:
        return [entry for entry in entries if entry.is_dir(follow_symlinks=False)]


def periods(settings: RetentionSettings) -> list[tuple[float, list[State]]]:
    """Return for how many days executions stay that ended in which states; states that stay for ever are left out."""
    found: dict[float, list[State]] = {}
    by_state = {str(state): days for state, days in settings.state_days.items()}
    for state in sorted(TERMINAL):
        days = by_state.get(state.value, settings.executions_days)
        if days is not None:
            found.setdefault(days, []).append(state)
    return sorted(found.items())


def without_needed(
    ids: Iterable[str], waiting: Collection[Links], links_of: Callable[[Collection[str]], Iterable[Links]]
) -> list[str]:
    """Return those of `ids` that no open execution needs.

    One that has not ended may still read what it came from (its parent, the execution that started it, the one it
    repeats, and theirs in turn), and what was started below it.

    Args:
        ids: ended executions.
        waiting: all executions that have not ended.
        links_of: gives what executions came from.
    """
    needed = {each.id for each in waiting}
    needed |= _sources({source for each in waiting for source in each.sources}, links_of).keys()
    found = _sources(set(ids), links_of)
    return [each for each in ids if each not in needed and not _descends(each, found, needed)]


def _sources(
    ids: Collection[str], links_of: Callable[[Collection[str]], Iterable[Links]]
) -> Mapping[str, frozenset[str]]:
    """Return what `ids`, and whatever these came from, came from."""
    found: dict[str, frozenset[str]] = {}
    ahead = set(ids)
    while ahead:
        layer = {each.id: each.sources for each in links_of(ahead)}
        found |= layer
        ahead = {source for sources in layer.values() for source in sources if source not in found}
    return found


def _descends(execution: str, sources: Mapping[str, frozenset[str]], needed: Collection[str]) -> bool:
    seen, ahead = set[str](), [execution]
    while ahead:
        each = ahead.pop()
        if each in needed:
            return True
        if each not in seen:
            seen.add(each)
            ahead += sources.get(each, ())
    return False


def _bytes_below(folder: Path) -> int:
    total = 0
    for place, _, names, descriptor in os.fwalk(folder) if folder.is_dir() else ():
        for name in names:
            try:
                total += os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_size
            except FileNotFoundError:  # it went meanwhile
                log.debug("a file went while it was counted", extra={"folder": place})
    return total
