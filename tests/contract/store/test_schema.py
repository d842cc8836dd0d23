"""The schema: made by migrations only, the same as the tables in the program, and checked at the door."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from runner.errors import StoreError
from runner.store import Store, migration
from runner.store.schema import metadata


def _set_version(url: str, version: str) -> None:
    engine = sa.create_engine(migration.parse(url))
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = :version"), {"version": version})
    engine.dispose()


def test_the_migrations_make_exactly_the_tables_of_the_program(store_url: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    Store.migrate(store_url)

    engine = sa.create_engine(migration.parse(store_url))
    with engine.connect() as connection:
        ours = {"include_object": lambda _, name, *__: not str(name).startswith("logs")}
        found = compare_metadata(MigrationContext.configure(connection, opts=ours), metadata)
    engine.dispose()
    assert found == []


def test_a_new_store_is_of_this_version(store_url: str) -> None:
    Store.open(store_url).close()

    assert Store.schema_version(store_url) == migration.HEAD
    assert migration.known_versions()[-1] == migration.HEAD
    assert Store.migrate(store_url) == migration.HEAD


def test_a_missing_file_has_no_version_and_is_not_made(sqlite_url: str, tmp_path: Path) -> None:
    assert Store.schema_version(sqlite_url) is None
    with pytest.raises(StoreError) as caught:
        Store.open(sqlite_url, create=False)

    assert caught.value.code == "store.schema.missing"
    assert list(tmp_path.iterdir()) == []


def test_an_older_or_newer_schema_is_refused(store_url: str, monkeypatch: Any) -> None:
    Store.open(store_url).close()
    _set_version(store_url, "9999")

    with pytest.raises(StoreError) as newer:
        Store.open(store_url)
    with pytest.raises(StoreError) as migrated:
        Store.migrate(store_url)
    _set_version(store_url, "0001")
    monkeypatch.setattr(migration, "HEAD", "0002")
    with pytest.raises(StoreError) as older:
        Store.open(store_url)

    assert (newer.value.code, migrated.value.code) == ("store.schema.new", "store.schema.new")
    assert older.value.code == "store.schema.old"
    assert "mainstem db migrate" in str(older.value.hint)


@pytest.mark.parametrize("url", ["", "no url", "mysql://h/db", "sqlite://", "postgresql://host"])
def test_a_url_that_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        Store.open(url)

    assert caught.value.code == "store.url.invalid"


def test_a_refusal_does_not_show_the_password() -> None:
    url = "postgresql+psycopg://user:hunter2@127.0.0.1:1/db"

    with pytest.raises(StoreError) as caught:
        Store.open(url)

    assert caught.value.code == "store.unreachable"
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


def test_a_file_that_is_no_database_is_refused(sqlite_url: str, tmp_path: Path) -> None:
    (tmp_path / "state.db").write_bytes(b"not a database" * 100)

    with pytest.raises(StoreError) as caught:
        Store.open(sqlite_url)

    assert caught.value.code == "store.file.corrupt"


def test_only_the_owner_reads_the_files(sqlite_url: str, tmp_path: Path) -> None:
    store = Store.open(sqlite_url)
    store.write(lambda session: session.reports.put("a", "b", 1))

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}

    store.close()
    assert set(modes) >= {"state.db", "state.db-wal", "logs.db"}
    assert set(modes.values()) == {0o600}


def test_those_who_open_an_empty_database_at_once_agree(postgres_empty_url: str, at_once: Any) -> None:
    stores = at_once([lambda: Store.open(postgres_empty_url)] * 4)

    versions = [store.read(lambda _: Store.schema_version(postgres_empty_url)) for store in stores]

    for store in stores:
        store.close()
    assert versions == [migration.HEAD] * 4
