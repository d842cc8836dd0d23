"""The store: one door to a SQLite file or a PostgreSQL database."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from runner.errors import StoreError
from runner.store import migration
from runner.store.bounds import Turns
from runner.store.connection import Connection, Engine
from runner.store.logs import LogStore
from runner.store.session import Session
from runner.store.sqlite import Durability, SqliteEngine
from runner.store.statements import POSTGRESQL

if TYPE_CHECKING:
    from runner.store.charts import ChartFigure, ChartRows
    from runner.store.queries import Page

T = TypeVar("T")

_LONGEST_WAIT_S: Final = 10.0  # for a turn to ask for the data of a chart


def _now() -> datetime:
    return datetime.now(UTC)


class Store:
    """Executions, flows and everything beside them. Usable from any thread; open it once in a process.

    `url`, `dialect` and `logs` may be read; everything else goes through `read`, `write` and `submit`.
    """

    def __init__(self, url: str, engine: Engine, log_engine: Engine) -> None:
        self.url = url
        self.dialect = engine.dialect
        self.logs = LogStore(log_engine)
        self._engine = engine
        self._log_engine = log_engine
        self._charts = Turns()

    @staticmethod
    def open(
        url: str,
        *,
        logs_url: str | None = None,
        create: bool = True,
        durability: Durability = "full",
        clock: Callable[[], datetime] = _now,
    ) -> Store:
        """Return the store at `url`: `sqlite:///path/state.db` or `postgresql+psycopg://user@host/name`.

        An empty database gets its tables unless `create` is false. Logs of SQLite go to `logs.db` beside it unless
        `logs_url` says otherwise. `durability` is SQLite's: `full` waits for the disk at each commit, `normal` may
        lose the last commits at a power cut, `off` is for what is thrown away. `clock` dates rows whose writer names
        no moment.

        Raises:
            StoreError: `store.schema.missing`, `.old` or `.new`; `store.url.invalid`; `store.unreachable`.
        """
        parsed = migration.parse(url)
        if create and migration.schema_version(url) is None:
            migration.migrate(url)
        migration.demand_current(url)
        if parsed.get_backend_name() == POSTGRESQL:
            from runner.store.postgres import PostgresEngine

            engine: Engine = PostgresEngine(url, clock)
            return Store(url, engine, engine)
        path = migration.sqlite_path(parsed)
        logs_path = migration.sqlite_path(migration.parse(logs_url)) if logs_url else path.with_name("logs.db")
        migration.make_logs(logs_path)
        main = SqliteEngine(path, clock, durability=durability)
        quick: Durability = "off" if durability == "off" else "normal"
        return Store(url, main, SqliteEngine(logs_path, clock, durability=quick))

    @staticmethod
    def migrate(url: str) -> str:
        """Bring the tables to this program's version, in place; give that version. Back up first."""
        return migration.migrate(url)

    @staticmethod
    def schema_version(url: str) -> str | None:
        """Return the version of the tables at `url`; None when there are none."""
        return migration.schema_version(url)

    def read(self, unit: Callable[[Session], T]) -> T:
        """Return what `unit` reads from one consistent snapshot."""
        return self._engine.read(lambda connection: unit(_session(connection)))

    def write(self, unit: Callable[[Session], T]) -> T:
        """Return what `unit` gives, after its durable commit; an error it raises undoes what it did.

        On PostgreSQL `unit` runs again when it met another transaction: it must have no effect but on the session.
        """
        return self._engine.write(lambda connection: unit(_session(connection)))

    def submit(self, unit: Callable[[Session], T]) -> Future[T]:
        """Like `write`, without waiting; the future is done after the commit."""
        return self._engine.submit(lambda connection: unit(_session(connection)))

    def exclusive(self, name: str) -> AbstractContextManager[bool]:
        """Give whether this process alone has `name` until the block ends, among all that use the database.

        On PostgreSQL the right ends early when the connection that holds it is lost: whoever writes elsewhere under
        it has to bear that two do.
        """
        return self._engine.exclusive(name)

    def chart(self, question: ChartRows) -> Page[dict[str, Any]]:
        """Return the rows of a chart; see `ChartRows`."""
        return self._charted(question, question.query.source)

    def figure(self, question: ChartFigure) -> float | str | None:
        """Return the figure of a KPI; see `ChartFigure`."""
        return self._charted(question, question.query.source)

    def _charted(self, question: Callable[[Connection], T], source: str) -> T:
        engine = self._engine
        if source == "Logs":
            self.logs.flush_appended()
            engine = self._log_engine
        with self._charts.taken(_LONGEST_WAIT_S, "the data of a chart"):
            return engine.read(question)

    def flush(self) -> None:
        """Wait until everything submitted and every log entry appended so far is written."""
        self._engine.flush()
        self.logs.flush()

    def close(self) -> None:
        """Finish what was submitted and let go of the database."""
        self.logs.close()
        self._engine.close()
        if self._log_engine is not self._engine:
            self._log_engine.close()

    def check(self) -> list[str]:
        """Return what contradicts itself in the database, [] when all is well."""
        from runner.store.invariants import findings

        found = []
        for engine in dict.fromkeys((self._engine, self._log_engine)):
            try:
                found += engine.read(findings)
            except StoreError as error:
                if error.code != "store.file.corrupt":
                    raise
                found.append(error.message)
        return found

    def used_bytes(self) -> int:
        """Return how many bytes of the files of SQLite hold something; 0 on PostgreSQL, whose room is not ours."""
        engines = dict.fromkeys((self._engine, self._log_engine))
        return sum(engine.read(_used) for engine in engines)

    def metrics_snapshot(self) -> dict[str, float]:
        """Return counters of this process: commits, units, queue_depth, seconds_waiting, and those of the logs."""
        return {**self._engine.measure(), **self.logs.measure()}


def _session(connection: Connection) -> Session:
    session: Session | None = connection.bound
    if session is None:
        session = connection.bound = Session(connection)
    return session


def _used(connection: Connection) -> int:
    if connection.dialect == POSTGRESQL:
        return 0
    pages, free, size = (
        connection.driver.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)
