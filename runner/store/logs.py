"""Logs of executions: written in batches apart from the state, so that neither waits for the other.

On SQLite they lie in a file of their own with `synchronous=NORMAL`: a crash of the process loses at most the last tenth
of a second, a power cut the last seconds, and never the file. On PostgreSQL they are a table with one partition a day.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from runner.errors import StoreError
from runner.executions.models import LogEntry
from runner.store import log_progress, log_schema
from runner.store.columns import from_micros, to_micros
from runner.store.connection import Connection, Engine
from runner.store.queries import Page, ordering, paged, within
from runner.store.records import Told
from runner.store.rows import Rows
from runner.store.statements import POSTGRESQL, Statement, listed, one_of

log = logging.getLogger(__name__)

LEVELS: Final = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR")
Place = tuple[int, int]
"""Where an entry stands among all: its time in microseconds since 1970, and its id."""
_ROWS: Final = Rows(LogEntry, log_schema.logs, generated="id")
_l: Final = log_schema.logs.c
_TIMESTAMP: Final = _ROWS.names.index("timestamp")
_BATCH_ROWS: Final = 500
_BATCH_SECONDS: Final = 0.1
_MOST_PENDING: Final = 50_000
_SORTABLE: Final = {"timestamp": _l.timestamp, "level": _l.level, "id": _l.id}

_DELETE: Final = Statement(sa.delete(log_schema.logs).where(_l.execution_id == sa.bindparam("execution")))
_PRUNE: Final = Statement(sa.delete(log_schema.logs).where(_l.timestamp < sa.bindparam("before")))
_OLD: Final = (
    sa.select(_l.id)
    .where(_l.timestamp < sa.bindparam("before"), sa.not_(one_of(_l.execution_id, "kept")))
    .order_by(_l.timestamp)
    .limit(sa.bindparam("count", type_=sa.Integer()))
)
_EXPIRE: Final = Statement(sa.delete(log_schema.logs).where(_l.timestamp < sa.bindparam("before"), _l.id.in_(_OLD)))


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which entries to look for; what is left out does not restrict.

    `min_level` means at least this one. `namespace` includes those below it. `after_id` reads on from an entry,
    `until_id` stops at one.
    """

    execution_id: str | None = None
    namespace: str | None = None
    flow_id: str | None = None
    task_id: str | None = None
    task_run_id: str | None = None
    attempt: int | None = None
    trigger_id: str | None = None
    min_level: str | None = None
    q: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    after_id: int | None = None
    until_id: int | None = None
    page: int = 1
    size: int = 100
    sort: tuple[str, ...] = ()
    newest_first: bool = False


class LogStore:
    """Appends and reads log entries. `dropped` counts entries lost because the database could not take them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pending: list[tuple[Any, ...] | Told] = []
        self._changed = threading.Condition()
        self._asked = self._written = self._accepted = 0
        self._announced: dict[object, int] = {}
        self._closing = False
        self._days: set[int] = set()
        self.dropped = 0
        self._thread = threading.Thread(target=self._serve, daemon=True, name="log writer")
        self._thread.start()

    def append(self, entries: Iterable[LogEntry]) -> None:
        """Take entries, to be written within a tenth of a second; waits while more than 50,000 are pending."""
        self._accept([_ROWS.encode(entry) for entry in entries])

    def tell(self, told: Told, entries: Iterable[LogEntry]) -> None:
        """Take entries of a job's log together with the progress after them; both are written or neither is."""
        self._accept([replace(told, rows=[_ROWS.encode(entry) for entry in entries])])

    def take_over(self, told: Told) -> Mapping[str, Any] | None:
        """Have only the claim that `told` names tell the log of its run; return the progress so far."""
        self.flush()
        return self._engine.write(lambda connection: log_progress.take_over(connection, told))

    def _accept(self, rows: Sequence[tuple[Any, ...] | Told]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._pending) < _MOST_PENDING or self._closing)
            if self._closing:
                raise StoreError("store.closed", "the log store is closed")
            self._pending += rows
            self._accepted += len(rows)
            if len(self._pending) >= _BATCH_ROWS or len(self._pending) == len(rows):
                self._changed.notify_all()

    @contextmanager
    def announced(self) -> Iterator[None]:
        """Make `flush` of other threads wait for what this block appends.

        For whoever commits a state first and appends its lines then: who reads that state must not miss them.
        """
        ticket = object()
        with self._changed:
            self._announced[ticket] = threading.get_ident()
        try:
            yield
        finally:
            with self._changed:
                del self._announced[ticket]
                self._changed.notify_all()

    def flush(self) -> None:
        """Wait until everything that was appended or announced before is written."""
        with self._changed:
            own = threading.get_ident()
            awaited = [ticket for ticket, thread in self._announced.items() if thread != own]
            self._changed.wait_for(lambda: not any(ticket in self._announced for ticket in awaited))
            self._write_out()

    def flush_appended(self) -> None:
        """Wait until everything that was appended before is written, whatever others have announced besides.

        For whoever appended the lines itself: it need not wait for decisions about other executions.
        """
        with self._changed:
            self._write_out()

    def _write_out(self) -> None:
        wanted = self._accepted
        self._asked = max(self._asked, wanted)
        self._changed.notify_all()
        self._changed.wait_for(lambda: self._written >= wanted)

    def close(self) -> None:
        """Write what is pending and stop; the database stays open."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def search(self, query: LogQuery) -> Page[LogEntry]:
        """Return a page of entries, the oldest first unless the query says otherwise."""
        where = _conditions(query)
        direction = (_l.timestamp.desc(), _l.id.desc()) if query.newest_first else (_l.timestamp, _l.id)
        select = _ROWS.select(*where).order_by(*ordering(query.sort, _SORTABLE, direction))
        count = sa.select(sa.func.count()).select_from(log_schema.logs).where(*where)

        def ask(connection: Connection) -> Page[LogEntry]:
            total = connection.query(count)[0][0]
            found = connection.query(paged(select, query.page, query.size))
            return Page([_ROWS.decode(row) for row in found], total)

        return self._engine.read(ask)

    def older(self, query: LogQuery, than: Place | None, size: int) -> list[tuple[Place, LogEntry]]:
        """Return entries with their places, the newest first: those before `than`, from the newest of all without it.

        Reading on from the place of the last one misses nothing and repeats nothing, whatever is written meanwhile.
        """
        where = _conditions(query)
        if than is not None:
            where.append(sa.or_(_l.timestamp < than[0], sa.and_(_l.timestamp == than[0], _l.id < than[1])))
        select = sa.select(_l.id, *_ROWS.columns).where(*where).order_by(_l.timestamp.desc(), _l.id.desc()).limit(size)
        rows = self._engine.read(lambda connection: connection.query(select))
        return [((row[1 + _TIMESTAMP], row[0]), _ROWS.decode(row[1:])) for row in rows]

    def after(
        self, execution_id: str, after_id: int = 0, *, min_level: str | None = None, limit: int = 1000
    ) -> list[tuple[int, LogEntry]]:
        """Return entries of an execution with their ids, in the order in which they were written, to follow it."""
        query = LogQuery(execution_id=execution_id, after_id=after_id, min_level=min_level)
        select = sa.select(*_ROWS.columns, _l.id).where(*_conditions(query)).order_by(_l.id).limit(limit)
        found = self._engine.read(lambda connection: connection.query(select))
        return [(row[-1], _ROWS.decode(row)) for row in found]

    def last(self, query: LogQuery, count: int) -> list[LogEntry]:
        """Return the last `count` entries that `query` matches, the oldest of them first."""
        select = _ROWS.select(*_conditions(query)).order_by(_l.timestamp.desc(), _l.id.desc()).limit(count)
        found = self._engine.read(lambda connection: connection.query(select))
        return [_ROWS.decode(row) for row in reversed(found)]

    def last_id(self, query: LogQuery) -> int:
        """Return the id of the entry that was written last of those that `query` matches; 0 without one."""
        select = sa.select(sa.func.coalesce(sa.func.max(_l.id), 0)).where(*_conditions(query))
        return int(self._engine.read(lambda connection: connection.query(select))[0][0])

    def delete(self, execution_id: str) -> int:
        """Remove the entries of an execution; give how many."""
        self.flush()

        def remove(connection: Connection) -> int:
            log_progress.forget(connection, execution_id)
            return connection.run(_DELETE, execution=execution_id)

        return self._engine.write(remove)

    def delete_matching(self, query: LogQuery, *, exact: bool = False) -> int:
        """Remove the entries that `query` matches, with `exact` none of namespaces below its own; give how many."""
        self.flush()
        below = [_l.namespace == query.namespace] if exact else []
        ids = sa.select(_l.id).where(*_conditions(query), *below)
        removal = sa.delete(log_schema.logs).where(_l.id.in_(ids))
        return self._engine.write(lambda connection: connection.change(removal))

    def prune(self, before: datetime) -> int:
        """Remove entries before a moment; give how many. On PostgreSQL whole days are dropped, 0 is given for them."""
        self.flush()

        def remove(connection: Connection) -> int:
            if connection.dialect == POSTGRESQL:
                _drop_days(connection, before)
            return connection.run(_PRUNE, before=to_micros(before))

        removed = self._engine.write(remove)
        self._days.clear()
        return removed

    def expire(self, before: datetime, kept: Collection[str], since: datetime, limit: int) -> int:
        """Remove at most `limit` entries before a moment, but none of the executions `kept`; give how many.

        On PostgreSQL whole days before both `before` and `since` are dropped, 0 is given for them.
        """

        def remove(connection: Connection) -> int:
            if connection.dialect == POSTGRESQL:
                _drop_days(connection, min(before, since))
            return connection.run(_EXPIRE, before=to_micros(before), kept=listed(kept), count=limit)

        removed = self._engine.write(remove)
        self._days.clear()
        return removed

    def measure(self) -> dict[str, float]:
        """Return counters: rows written, rows pending, rows dropped."""
        return {"logs_written": self._written, "logs_pending": len(self._pending), "logs_dropped": self.dropped}

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending or self._closing)
                if not self._pending:
                    return
                deadline = time.monotonic() + _BATCH_SECONDS
                while not self._is_ripe() and (left := deadline - time.monotonic()) > 0:
                    self._changed.wait(left)
                batch, self._pending = self._pending, []
            self._write(batch)
            with self._changed:
                self._written += len(batch)
                self._changed.notify_all()

    def _is_ripe(self) -> bool:
        return len(self._pending) >= _BATCH_ROWS or self._closing or self._asked > self._written

    def _write(self, batch: list[tuple[Any, ...] | Told]) -> None:
        try:
            # Known after the commit only: what is rolled back, and perhaps tried again, makes no partition.
            self._days |= self._engine.write(lambda connection: self._insert(connection, batch))
        except Exception:  # see below
            # Logs are dropped first: a full disk must neither stop executions nor this thread.
            self.dropped += len(batch)
            self._days.clear()  # another process may have removed one
            log.exception("log entries dropped", extra={"entries": len(batch)})

    def _insert(self, connection: Connection, batch: list[tuple[Any, ...] | Told]) -> set[int]:
        """Write a batch; return the days whose partitions are there with it."""
        told = log_progress.current(connection, [unit for unit in batch if isinstance(unit, Told)])
        kept = {id(unit) for unit in told}
        rows = [row for unit in batch for row in _rows_of(unit, kept)]
        days = self._insert_rows(connection, rows) if rows else set()
        log_progress.advance(connection, told)
        return days

    def _insert_rows(self, connection: Connection, batch: list[tuple[Any, ...]]) -> set[int]:
        days: set[int] = set()
        if connection.dialect == POSTGRESQL:
            # Ids are given at the insert and seen at the commit. Without taking turns, a follower that reads on from
            # the last id it saw would pass over the rows of a transaction that was slower than its neighbour.
            connection.lock("logs")
            days = {row[_TIMESTAMP] // _DAY for row in batch}
            for day in days - self._days:
                _make_day(connection, day)
        connection.many(_ROWS.insert, batch)
        return days


def _rows_of(unit: tuple[Any, ...] | Told, kept: Collection[int]) -> Sequence[tuple[Any, ...]]:
    if not isinstance(unit, Told):
        return (unit,)
    return unit.rows if id(unit) in kept else ()


_DAY: Final = 86_400_000_000  # microseconds


def _make_day(connection: Connection, day: int) -> None:
    connection.lock("log partitions")
    name = f"logs_{from_micros(day * _DAY):%Y%m%d}"
    connection.driver.execute(
        f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF logs FOR VALUES FROM ({day * _DAY}) TO ({(day + 1) * _DAY})"
    )


def _drop_days(connection: Connection, before: datetime) -> None:
    connection.lock("log partitions")
    found = connection.driver.execute(
        "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid"
        " WHERE inhparent = 'logs'::regclass"
    ).fetchall()
    for (name,) in found:
        day = datetime.strptime(name.removeprefix("logs_"), "%Y%m%d").replace(tzinfo=UTC)
        if day + timedelta(days=1) <= before:
            connection.driver.execute(f"DROP TABLE {name}")


def _conditions(query: LogQuery) -> list[Any]:
    where: list[Any] = []
    equal = {
        _l.execution_id: query.execution_id,
        _l.flow_id: query.flow_id,
        _l.task_id: query.task_id,
        _l.task_run_id: query.task_run_id,
        _l.attempt: query.attempt,
        _l.trigger_id: query.trigger_id,
    }
    where += [column == value for column, value in equal.items() if value is not None]
    if query.namespace is not None:
        where.append(within(_l.namespace, query.namespace))
    if query.min_level in LEVELS:
        where.append(_l.level.in_(LEVELS[LEVELS.index(query.min_level) :]))
    if query.q:
        where.append(_l.message.icontains(query.q, autoescape=True))
    if query.since is not None:
        where.append(_l.timestamp >= to_micros(query.since))
    if query.until is not None:
        where.append(_l.timestamp < to_micros(query.until))
    if query.after_id is not None:
        where.append(_l.id > query.after_id)
    if query.until_id is not None:
        where.append(_l.id <= query.until_id)
    return where
