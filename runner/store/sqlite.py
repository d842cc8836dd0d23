"""SQLite: one writer thread with group commit, and a pool of readers.

Every commit of `synchronous=FULL` waits for the disk (about 4 ms). The writer takes all units that wait (at most 256)
into one transaction, so that they share this wait; it adds no delay of its own. Each unit has a savepoint: one that
fails takes back only what it did itself.
"""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from runner.errors import StoreError
from runner.store.connection import Connection
from runner.store.statements import SQLITE

T = TypeVar("T")
Durability = Literal["full", "normal", "off"]

_MOST_UNITS: Final = 256
_IDLE_READERS: Final = 16
_BUSY_MS: Final = 10_000


@dataclass(slots=True)
class _Unit:
    work: Callable[[Connection], Any]
    future: Future[Any] = field(default_factory=Future)
    queued: float = field(default_factory=time.monotonic)
    result: Any = None
    error: BaseException | None = None

    def __post_init__(self) -> None:
        # What was submitted is done, also when whoever waits for it goes away: a future that cannot be cancelled any
        # more takes its result without an error in the writer.
        self.future.set_running_or_notify_cancel()

    def settle(self) -> None:
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


def explain(error: sqlite3.Error) -> StoreError:
    """Return a driver's error as one of ours."""
    text = str(error)
    if "full" in text:
        return StoreError("store.disk.full", f"the database cannot grow: {text}", hint="free space on its disk")
    if "locked" in text or "busy" in text:
        return StoreError(
            "store.busy",
            f"another process holds the database for more than {_BUSY_MS // 1000} s: {text}",
            hint="SQLite serves one server process; use PostgreSQL for more",
        )
    if isinstance(error, sqlite3.IntegrityError):
        return StoreError("store.row.conflict", f"a row contradicts one that exists: {text}")
    if "malformed" in text or "not a database" in text:
        return StoreError("store.file.corrupt", f"the database file is damaged: {text}", hint="restore a backup")
    return StoreError("store.statement.failed", f"the database refused a statement: {text}")


def copy(source: Path, target: Path) -> None:
    """Write a consistent copy of a database file, also while it is written to.

    Raises:
        StoreError: `store.file.corrupt` when the copy does not pass SQLite's integrity check, and others.
    """
    os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    with closing(sqlite3.connect(source, timeout=_BUSY_MS / 1000)) as old, closing(sqlite3.connect(target)) as new:
        try:
            old.backup(new)
        except sqlite3.Error as error:
            raise explain(error) from error
    demand_whole(target)


def demand_whole(path: Path) -> None:
    """Raise unless a database file passes SQLite's integrity check.

    Raises:
        StoreError: `store.file.corrupt`.
    """
    with closing(sqlite3.connect(path)) as driver:
        try:
            verdict = driver.execute("PRAGMA integrity_check(1)").fetchone()[0]
        except sqlite3.Error as error:
            raise explain(error) from error
    if verdict != "ok":
        raise StoreError("store.file.corrupt", f"{path.name} is damaged: {verdict}", hint="restore a backup")


class SqliteEngine:
    """One SQLite file in WAL mode. Usable from any thread; only one process may write."""

    dialect = SQLITE

    def __init__(self, path: Path, clock: Callable[[], datetime], *, durability: Durability = "full") -> None:
        self.path = path
        self._clock = clock
        self._durability = durability
        # Made here with its mode, because it holds secrets; SQLite gives its side files the same mode.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._readers: deque[Connection] = deque()
        self._queue: queue.SimpleQueue[_Unit | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._closed = False
        self._commits = self._units = 0
        self._waited = 0.0
        self._writer = self._connect()
        self._thread = threading.Thread(target=self._serve, daemon=True, name=f"store writer {path.name}")
        self._thread.start()

    def read(self, unit: Callable[[Connection], T]) -> T:
        """Run `unit` on one snapshot, in which it may only read."""
        connection = self._borrow()
        try:
            connection.driver.execute("BEGIN")
            try:
                return unit(connection)
            finally:
                connection.driver.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise explain(error) from error
        finally:
            self._give_back(connection)

    def write(self, unit: Callable[[Connection], T]) -> T:
        """Run `unit` in the writer thread's next transaction; return after its commit."""
        assert threading.current_thread() is not self._thread, "a write inside a write would wait for itself"
        return self.submit(unit).result()

    def submit(self, unit: Callable[[Connection], T]) -> Future[T]:
        """Like `write`, without waiting. Units run in the order in which they were submitted."""
        queued = _Unit(unit)
        with self._closing:
            if self._closed:
                raise StoreError("store.closed", f"{self.path.name} is closed")
            self._queue.put(queued)
        return queued.future

    def flush(self) -> None:
        """Wait for everything that was submitted before."""
        self.write(lambda _: None)

    def exclusive(self, name: str) -> AbstractContextManager[bool]:  # noqa: ARG002 - one process has the whole file
        """Give True: the file belongs to one process."""
        return nullcontext(True)

    def close(self) -> None:
        """Finish what was submitted, then let go of the file."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()
        self._writer.driver.close()
        while self._readers:
            self._readers.pop().driver.close()

    def measure(self) -> dict[str, float]:
        """Return counters: commits, units, queue depth, seconds that units waited for their commit."""
        return {
            "commits": self._commits,
            "units": self._units,
            "queue_depth": self._queue.qsize(),
            "seconds_waiting": self._waited,
        }

    def _serve(self) -> None:
        while self._served(self._queue.get()):
            # Nothing of a batch is held while waiting for the next: a unit may carry a plan of thousands of flows.
            pass

    def _served(self, unit: _Unit | None) -> bool:
        """Commit a unit with those that wait behind it; False when there will be none after them."""
        batch: list[_Unit] = []
        try:
            while unit is not None:
                batch.append(unit)
                if len(batch) == _MOST_UNITS:
                    break
                unit = self._queue.get_nowait()
        except queue.Empty:
            pass
        if batch:
            self._commit(batch)
        return unit is not None

    def _commit(self, batch: list[_Unit]) -> None:
        driver = self._writer.driver
        try:
            driver.execute("BEGIN IMMEDIATE")
            for unit in batch:
                self._run(unit)
            driver.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back()
            failure = explain(error)
            failure.__cause__ = error
            for unit in batch:
                unit.error = unit.error or failure
        self._commits += 1
        self._units += len(batch)
        now = time.monotonic()
        for unit in batch:
            self._waited += now - unit.queued
            unit.settle()

    def _run(self, unit: _Unit) -> None:
        driver = self._writer.driver
        driver.execute("SAVEPOINT unit")
        try:
            unit.result = unit.work(self._writer)
        except Exception as error:  # noqa: BLE001  # whatever a unit raises belongs to who submitted it
            unit.error = error
            if isinstance(error, sqlite3.Error):
                unit.error = explain(error)
                unit.error.__cause__ = error
            driver.execute("ROLLBACK TO unit")
        driver.execute("RELEASE unit")

    def _roll_back(self) -> None:
        try:
            self._writer.driver.execute("ROLLBACK")
        except sqlite3.Error:
            # SQLite has ended the transaction itself, as it does when the disk is full.
            return

    def _borrow(self) -> Connection:
        try:
            return self._readers.pop()
        except IndexError:
            if self._closed:
                raise StoreError("store.closed", f"{self.path.name} is closed") from None
            reader = self._connect()
            reader.driver.execute("PRAGMA query_only=1")
            return reader

    def _give_back(self, connection: Connection) -> None:
        if self._closed or len(self._readers) >= _IDLE_READERS:
            connection.driver.close()
        else:
            self._readers.append(connection)

    def _connect(self) -> Connection:
        try:
            return Connection(self._open(), SQLITE, self._clock)
        except sqlite3.Error as error:
            raise explain(error) from error

    def _open(self) -> sqlite3.Connection:
        driver = sqlite3.connect(
            self.path, isolation_level=None, check_same_thread=False, cached_statements=512, timeout=_BUSY_MS / 1000
        )
        for pragma in (
            "journal_mode=WAL",
            f"synchronous={self._durability.upper()}",
            "foreign_keys=1",
            "cache_size=-16000",
            "journal_size_limit=67108864",
            "temp_store=MEMORY",
        ):
            driver.execute(f"PRAGMA {pragma}")
        return driver
