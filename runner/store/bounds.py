"""A bound on the time and the memory that reading may take inside a transaction."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from runner.errors import InvalidError
from runner.store.connection import Connection
from runner.store.statements import POSTGRESQL

_AT_ONCE = 4  # of the connections that one process has to PostgreSQL: writes keep the others
_STEPS = 1_000  # of SQLite's machine between two looks at the clock: far below a millisecond
_CANCELED = "57014"


class Turns:
    """Lets a few of what may take long happen at once, so that everything else is served meanwhile."""

    def __init__(self, most: int = _AT_ONCE) -> None:
        self._free = threading.BoundedSemaphore(most)

    @contextmanager
    def taken(self, seconds: float, what: str) -> Iterator[None]:
        """Wait up to `seconds` for a turn, which ends with the block.

        Raises:
            InvalidError: `store.query.slow` when none was free.
        """
        if not self._free.acquire(timeout=seconds):
            raise InvalidError("store.query.slow", f"{what} waited {seconds:g} s behind others", hint="ask again later")
        try:
            yield
        finally:
            self._free.release()


@contextmanager
def bounded(connection: Connection, seconds: float, what: str) -> Iterator[None]:
    """End what is read inside after `seconds`; what is sorted lies in files rather than in memory.

    Raises:
        InvalidError: `store.query.slow`.
    """
    limit = _on_postgresql if connection.dialect == POSTGRESQL else _on_sqlite
    try:
        with limit(connection, seconds):
            yield
    except Exception as error:  # each driver has its own for this; what is no end goes on
        is_ended = getattr(error, "sqlstate", None) == _CANCELED
        if is_ended or (isinstance(error, sqlite3.OperationalError) and str(error) == "interrupted"):
            message = f"{what} was given up after {seconds:g} s"
            raise InvalidError("store.query.slow", message, hint="ask for less time or fewer rows") from None
        raise


@contextmanager
def _on_sqlite(connection: Connection, seconds: float) -> Iterator[None]:
    driver = connection.driver
    assert isinstance(driver, sqlite3.Connection)
    deadline = time.monotonic() + seconds
    driver.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    driver.execute("PRAGMA temp_store=FILE")
    try:
        yield
    finally:
        driver.set_progress_handler(None, 0)
        driver.execute("PRAGMA temp_store=MEMORY")


@contextmanager
def _on_postgresql(connection: Connection, seconds: float) -> Iterator[None]:
    # LOCAL: the transaction ends with the reading, and the setting with it.
    connection.driver.execute(f"SET LOCAL statement_timeout = {round(seconds * 1000)}")
    yield
