"""PostgreSQL by psycopg 3: a pool of connections, each write its own transaction.

The server groups the commits of concurrent connections itself. A write that met another transaction (serialization,
deadlock) or lost its connection before COMMIT was sent runs again; one whose COMMIT got no answer does not, because
nobody knows whether it happened.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Final, TypeVar, cast

import psycopg
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import Pool, PoolProxiedConnection, QueuePool

from runner.errors import InvalidError, MainstemError, StoreError
from runner.store.connection import Connection
from runner.store.migration import parse
from runner.store.statements import POSTGRESQL

T = TypeVar("T")

_POOL: Final = 8
_OVERFLOW: Final = 8
_SUBMITTERS: Final = 4
_TRIES: Final = 11
_FIRST_WAIT_S: Final = 0.01
_LONGEST_WAIT_S: Final = 1.0  # with it all tries take about five seconds: a server that restarts is waited for
# A process that is frozen or cut off in the middle of a transaction must not keep its locks for longer than its lease.
_IDLE_MS: Final = 10_000
# A server that cannot be reached any more is given up after twenty seconds, not after the two hours of TCP.
_CONNECTION: Final[dict[str, Any]] = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 20_000,
}
# The same at the server's end: what a machine that is gone holds there (see `exclusive`), others wait for.
_SESSION: Final = (
    f"SET idle_in_transaction_session_timeout = {_IDLE_MS}; SET tcp_keepalives_idle = 10; "
    "SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 2"
)
_SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


def explain(error: psycopg.Error) -> MainstemError:
    """Return a driver's error as one of ours."""
    text = str(error).strip()
    if isinstance(error, psycopg.IntegrityError):
        return StoreError("store.row.conflict", f"a row contradicts one that exists: {text}")
    if isinstance(error, psycopg.DataError):
        return InvalidError("store.value.invalid", f"the database cannot hold a value: {text}")
    if isinstance(error, psycopg.errors.DiskFull):
        return StoreError("store.disk.full", f"the database cannot grow: {text}", hint="free space on its disk")
    if isinstance(error, psycopg.OperationalError):
        return StoreError("store.unreachable", f"the database does not answer: {text}", hint="is the server running?")
    return StoreError("store.statement.failed", f"the database refused a statement: {text}")


class PostgresEngine:
    """One PostgreSQL database, shared by any number of processes. Usable from any thread."""

    dialect = POSTGRESQL

    def __init__(self, url: str, clock: Callable[[], datetime]) -> None:
        self._address = parse(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._clock = clock
        self._pool: Pool = QueuePool(self._connect, pool_size=_POOL, max_overflow=_OVERFLOW, reset_on_return=None)
        self._submitters = ThreadPoolExecutor(_SUBMITTERS, thread_name_prefix="store writer")
        self._pending: set[Future[Any]] = set()
        self._lock = threading.Lock()
        self._closed = False
        self._commits = self._units = 0
        self._waited = 0.0

    def read(self, unit: Callable[[Connection], T]) -> T:
        """Run `unit` on one snapshot, in which it may only read."""

        def snapshot(connection: Connection) -> T:
            connection.driver.execute(_SNAPSHOT)
            result = unit(connection)
            connection.driver.execute("ROLLBACK")
            return result

        return self._again(snapshot)

    def write(self, unit: Callable[[Connection], T]) -> T:
        """Run `unit` in a transaction of its own; return after its commit."""

        def transaction(connection: Connection) -> T:
            connection.driver.execute("BEGIN")
            result = unit(connection)
            self._end(connection)
            return result

        queued = time.monotonic()
        result = self._again(transaction)
        with self._lock:
            self._commits += 1
            self._units += 1
            self._waited += time.monotonic() - queued
        return result

    def submit(self, unit: Callable[[Connection], T]) -> Future[T]:
        """Like `write`, without waiting. Units that were submitted one after another may commit in another order."""
        with self._lock:
            if self._closed:
                raise StoreError("store.closed", "the database is closed")
            future = self._submitters.submit(self.write, unit)
            self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return future

    @contextmanager
    def exclusive(self, name: str) -> Iterator[bool]:
        """Give whether this process alone has `name`, until the block ends or the connection of the lock is lost."""
        try:
            driver = self._connect()
        except psycopg.Error as error:
            raise explain(error) from error
        try:
            found = driver.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 1))", (name,)).fetchone()
            yield bool(found[0])
        except psycopg.Error as error:
            raise explain(error) from error
        finally:
            # A connection that is closed keeps its locks until its process at the server has noticed.
            with suppress(psycopg.Error):
                driver.execute("SELECT pg_advisory_unlock_all()")
            driver.close()

    def flush(self) -> None:
        """Wait for everything that was submitted before."""
        for future in list(self._pending):
            future.exception()

    def close(self) -> None:
        """Finish what was submitted, then close the connections."""
        with self._lock:
            self._closed = True
        self._submitters.shutdown(wait=True)
        self._pool.dispose()

    def measure(self) -> dict[str, float]:
        """Return counters: commits, units, queue depth, seconds that writes took."""
        return {
            "commits": self._commits,
            "units": self._units,
            "queue_depth": len(self._pending),
            "seconds_waiting": self._waited,
        }

    def _connect(self) -> Any:
        driver = psycopg.connect(self._address, autocommit=True, application_name="mainstem", **_CONNECTION)
        driver.execute(_SESSION)
        return driver

    def _again(self, transaction: Callable[[Connection], T]) -> T:
        for attempt in range(1, _TRIES + 1):
            try:
                with self._lend() as connection:
                    return transaction(connection)
            except psycopg.Error as error:
                if attempt == _TRIES or not _may_pass(error):
                    raise explain(error) from error
                # Doubled and jittered, so that those who met do not meet again.
                wait_s = min(_FIRST_WAIT_S * 2**attempt, _LONGEST_WAIT_S)
                time.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311  # no secret
        raise AssertionError("the last try returns or raises")

    @contextmanager
    def _lend(self) -> Iterator[Connection]:
        if self._closed and not threading.current_thread().name.startswith("store writer"):
            raise StoreError("store.closed", "the database is closed")
        pool = self._pool
        try:
            lent = pool.connect()
        except PoolTimeoutError as error:  # ours, so that nobody takes a moment for the end of something
            raise StoreError("store.busy", "all connections to the database are in use") from error
        driver = cast("psycopg.Connection[Any]", lent.driver_connection)
        try:
            yield self._wrap(lent, driver)
        except BaseException:  # see below
            # Whatever went wrong, and be it an interrupt: the connection must not go back inside a transaction.
            if not _roll_back(lent, driver):
                self._renew(pool)
            raise
        finally:
            lent.close()

    def _renew(self, lost: Pool) -> None:
        """Begin with fresh connections: a server that went away took those that lie idle with it."""
        with self._lock:
            if self._pool is lost:
                lost.dispose()
                self._pool = lost.recreate()

    def _wrap(self, lent: PoolProxiedConnection, driver: psycopg.Connection[Any]) -> Connection:
        wrapped: Connection | None = lent.info.get("connection")
        if wrapped is None:
            wrapped = lent.info["connection"] = Connection(driver, POSTGRESQL, self._clock)
        return wrapped

    def _end(self, connection: Connection) -> None:
        try:
            connection.driver.execute("COMMIT")
        except psycopg.OperationalError as error:
            if error.sqlstate in {"40001", "40P01"}:
                raise
            raise StoreError(
                "store.commit.unknown",
                f"the connection was lost while committing: {error}",
                hint="the change may have happened; read it again before repeating it",
            ) from error


_UNDONE: Final = (
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.IdleInTransactionSessionTimeout,
)


def _may_pass(error: psycopg.Error) -> bool:
    if isinstance(error, _UNDONE):
        return True
    lost = error.sqlstate is None or error.sqlstate[:2] in {"08", "57"}  # no connection, or the server shuts down
    return isinstance(error, psycopg.OperationalError) and lost


def _roll_back(lent: PoolProxiedConnection, driver: psycopg.Connection[Any]) -> bool:
    """End the transaction; False when the connection was lost."""
    try:
        if not driver.broken:
            driver.execute("ROLLBACK")
    except psycopg.Error:
        lent.invalidate()
        return False
    if driver.broken:
        lent.invalidate()
        return False
    return True
