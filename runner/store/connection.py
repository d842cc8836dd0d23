"""A connection of either driver, inside one transaction, as the areas of a session use it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any, Protocol, TypeVar

from runner.store.statements import POSTGRESQL, Statement, compile_for

T = TypeVar("T")


class Cursor(Protocol):
    """What both drivers' cursors have."""

    @property
    def rowcount(self) -> int:
        """How many rows the last statement touched."""

    def fetchone(self) -> Any:
        """Return the next row or None."""

    def fetchall(self) -> list[Any]:
        """Return all further rows."""

    def executemany(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> Any:
        """Run `sql` once for each row."""


class DriverConnection(Protocol):
    """What both drivers' connections have."""

    # Any: the drivers type their parameters too narrowly and too differently for one protocol.
    def execute(self, sql: Any, values: Any = ..., /) -> Any:
        """Run one statement; give its cursor."""

    def cursor(self) -> Any:
        """Return a new cursor."""

    def close(self) -> None:
        """Close it."""


class Connection:
    """Runs statements on a driver's connection; begins and ends no transaction itself.

    `bound` is for whoever builds something on a connection and wants to build it once; the store keeps its session
    there. `clock` gives the moment of rows whose writer names none.
    """

    __slots__ = ("bound", "clock", "dialect", "driver")

    def __init__(self, driver: DriverConnection, dialect: str, clock: Callable[[], datetime]) -> None:
        self.driver = driver
        self.dialect = dialect
        self.clock = clock
        self.bound: Any = None

    def run(self, statement: Statement, **values: Any) -> int:
        """Run a statement that returns no rows; give the number of rows it touched."""
        compiled = statement.compiled(self.dialect)
        return _count(self.driver.execute(compiled.sql, compiled.values(values)))

    def insert(self, statement: Statement, row: tuple[Any, ...]) -> int:
        """Run a statement with its values already in order; give the number of rows it touched."""
        return _count(self.driver.execute(statement.compiled(self.dialect).sql, row))

    def many(self, statement: Statement, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run a statement once for each row of values that are already in order."""
        if len(rows) == 1:
            self.driver.execute(statement.compiled(self.dialect).sql, rows[0])
        elif rows:
            self.driver.cursor().executemany(statement.compiled(self.dialect).sql, rows)

    def one(self, statement: Statement, **values: Any) -> Any:
        """Return the first row of the result, or None."""
        compiled = statement.compiled(self.dialect)
        return self.driver.execute(compiled.sql, compiled.values(values)).fetchone()

    def all(self, statement: Statement, **values: Any) -> list[Any]:
        """Return all rows of the result."""
        compiled = statement.compiled(self.dialect)
        return _rows(self.driver.execute(compiled.sql, compiled.values(values)))

    def query(self, construct: Any) -> list[Any]:
        """Compile and run a statement that is made for this call; for searches, whose shape depends on the question."""
        compiled = compile_for(construct, self.dialect, complete=True)
        return _rows(self.driver.execute(compiled.sql, compiled.values({})))

    def change(self, construct: Any) -> int:
        """Compile and run a change that is made for this call; give the number of rows it touched."""
        compiled = compile_for(construct, self.dialect, complete=True)
        return _count(self.driver.execute(compiled.sql, compiled.values({})))

    def together(self) -> AbstractContextManager[Any]:
        """Send the statements inside without waiting for each; their counts and rows must not be looked at.

        It saves PostgreSQL a round trip per statement. An error of one of them is raised at the end at the latest.
        """
        if self.dialect != POSTGRESQL:
            return nullcontext()
        pipeline: AbstractContextManager[Any] = self.driver.pipeline()  # type: ignore[attr-defined]  # psycopg's own
        return pipeline

    def lock(self, *key: str) -> None:
        """Let one transaction at a time go beyond this point for `key`, until it ends.

        On SQLite a write transaction excludes every other one already.
        """
        if self.dialect == POSTGRESQL:
            self.driver.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", ("\x1f".join(key),))


def _count(cursor: Cursor) -> int:
    return cursor.rowcount


def _rows(cursor: Cursor) -> list[Any]:
    return cursor.fetchall()


class Engine(Protocol):
    """One database: consistent reads, and writes that are durable when they return."""

    dialect: str

    def read(self, unit: Callable[[Connection], T]) -> T:
        """Run `unit` on one snapshot, in which it may only read."""

    def write(self, unit: Callable[[Connection], T]) -> T:
        """Run `unit` in a transaction; return after the commit."""

    def submit(self, unit: Callable[[Connection], T]) -> Future[T]:
        """Like `write`, without waiting."""

    def exclusive(self, name: str) -> AbstractContextManager[bool]:
        """Give whether this process alone has `name`, until the block ends."""

    def flush(self) -> None:
        """Wait for everything that was submitted before."""

    def close(self) -> None:
        """Finish what was submitted, then let go of the database."""

    def measure(self) -> dict[str, float]:
        """Return counters: commits, units, queue depth, seconds that units waited."""
