"""Which version the tables have, and how they come to this program's one (Alembic, both dialects)."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from runner.errors import StoreError
from runner.store import log_schema
from runner.store.statements import POSTGRESQL, SQLITE

HEAD: Final = "0026"  # the newest file in migrations/versions
_SCRIPTS: Final = Path(__file__).parent / "migrations"
_LOCK: Final = 0x6D61696E  # any constant: migrations of one PostgreSQL database take turns


def parse(url: str) -> sa.URL:
    """Return the parts of a store's URL; PostgreSQL always with psycopg.

    Raises:
        StoreError: `store.url.invalid`.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        parsed = None
    kind = parsed.get_backend_name() if parsed is not None else None
    if parsed is None or kind not in {SQLITE, POSTGRESQL} or not parsed.database:
        raise StoreError(
            "store.url.invalid",
            f"no store can be opened at {'that URL' if parsed is None else repr(parsed)}",
            hint="use sqlite:///PATH or postgresql+psycopg://USER:PASSWORD@HOST/NAME",
        )
    return parsed.set(drivername="postgresql+psycopg") if kind == POSTGRESQL else parsed


def sqlite_path(url: sa.URL) -> Path:
    """Return the file of a SQLite URL."""
    assert url.database is not None
    return Path(url.database)


def schema_version(url: str) -> str | None:
    """Return the version of the tables at `url`; None when there are none (a missing file is not created)."""
    parsed = parse(url)
    if parsed.get_backend_name() == SQLITE:
        return _sqlite_version(sqlite_path(parsed))
    engine = _engine(parsed)
    try:
        with engine.connect() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    except sa.exc.OperationalError as error:
        raise StoreError(
            "store.unreachable", f"cannot connect to {parsed!r}: {error.orig}", hint="is the server running?"
        ) from error
    finally:
        engine.dispose()


def _sqlite_version(path: Path) -> str | None:
    # By the driver: opening a store that is current must not cost the import of Alembic.
    if not path.exists():
        return None
    driver = sqlite3.connect(path, timeout=10)
    try:
        found = driver.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone()
        version = driver.execute("SELECT version_num FROM alembic_version").fetchone() if found else None
    except sqlite3.DatabaseError as error:
        raise StoreError("store.file.corrupt", f"{path} is not a database: {error}", hint="restore a backup") from error
    finally:
        driver.close()
    return version[0] if version else None


def demand_current(url: str) -> None:
    """Raise unless the tables at `url` are of this program's version.

    Raises:
        StoreError: `store.schema.missing`, `store.schema.old` or `store.schema.new`.
    """
    found = schema_version(url)
    if found == HEAD:
        return
    shown = repr(parse(url))
    if found is None:
        raise StoreError("store.schema.missing", f"{shown} has no tables", hint="run: mainstem db migrate")
    if found in known_versions():
        raise StoreError(
            "store.schema.old",
            f"{shown} has schema {found}, this program needs {HEAD}",
            hint="back up, then run: mainstem db migrate",
        )
    raise StoreError(
        "store.schema.new",
        f"{shown} has schema {found}, this program knows only {HEAD}",
        hint="run the program that wrote it, or a newer one",
    )


def known_versions() -> list[str]:
    """Return the versions that this program can migrate from, the newest last."""
    return sorted(path.name[:4] for path in (_SCRIPTS / "versions").glob("[0-9][0-9][0-9][0-9]_*.py"))


def migrate(url: str) -> str:
    """Bring the tables at `url` to `HEAD` in one transaction; give `HEAD`.

    Raises:
        StoreError: `store.schema.new`; `store.migration.failed`, and nothing was changed; `store.file.denied`.
    """
    from alembic import command
    from alembic.config import Config

    found = schema_version(url)
    if found is not None and found not in known_versions():
        demand_current(url)
    parsed = parse(url)
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    engine = _engine(parsed)
    try:
        with engine.begin() as connection:
            if parsed.get_backend_name() == POSTGRESQL:
                connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except sa.exc.DBAPIError as error:
        raise StoreError(
            "store.migration.failed",
            f"{parsed!r} could not be brought to schema {HEAD}: {error.orig}",
            hint=f"nothing was changed; {migration_remedy(str(error.orig))}",
        ) from error
    finally:
        engine.dispose()
    return HEAD


def migration_remedy(said: str) -> str:
    """Return what to do about what the database said."""
    is_full = any(word in said.lower() for word in ("disk is full", "disk full", "no space left"))
    return "free space on its disk and start again" if is_full else "mend what it says and start again"


def make_logs(path: Path) -> None:
    """Create the tables of SQLite's log file where they are missing; nothing else ever refers to them."""
    engine = _engine(sa.URL.create("sqlite", database=str(path)))
    try:
        with engine.begin() as connection:
            log_schema.metadata.create_all(connection)
    finally:
        engine.dispose()


def _engine(url: sa.URL) -> sa.Engine:
    if url.get_backend_name() == POSTGRESQL:
        return sa.create_engine(url, poolclass=sa.pool.NullPool)
    try:
        sqlite_path(url).touch(mode=0o600, exist_ok=True)
    except OSError as error:
        raise StoreError(
            "store.file.denied", f"cannot write {url.database}: {error.strerror}", hint="make its folder, or let us in"
        ) from error
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool, connect_args={"isolation_level": None, "timeout": 10})

    # The driver would commit before each DDL statement; a migration has to be one transaction.
    @sa.event.listens_for(engine, "connect")
    def _wal(driver: Any, _: Any) -> None:
        driver.execute("PRAGMA journal_mode=WAL")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
