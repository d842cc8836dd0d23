"""Backup and restore: taken under load, sound, and the work goes on from it."""

from __future__ import annotations

import io
import stat
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.errors import StoreError
from runner.executions.models import LogEntry, OutboxRow
from runner.store import LogQuery, Store
from runner.store.maintenance import backup, restore


def test_a_backup_under_load_restores_to_a_sound_store_that_goes_on(sqlite_url: str, tmp_path: Path, rows: Any) -> None:
    store = Store.open(sqlite_url, durability="normal")
    run = rows.submitted(store)
    store.logs.append([LogEntry(run.execution_id, "team.data", "etl", rows.now, "INFO", "line")])
    store.logs.flush()
    begun, stop = threading.Event(), threading.Event()

    def load() -> None:
        # Two rows in one unit: a copy that is not one moment would have an odd number of them.
        while not stop.is_set():
            store.write(lambda session: session.outbox.add([OutboxRow("k", "a"), OutboxRow("k", "b")]))
            begun.set()

    thread = threading.Thread(target=load)
    thread.start()
    assert begun.wait(60)
    archive = tmp_path / "backup.tar"
    backup(sqlite_url, archive)
    stop.set()
    thread.join(60)
    store.close()

    home = tmp_path / "home"
    restore(archive, home)

    again = Store.open(f"sqlite:///{home}/state.db", create=False)
    assert again.check() == []
    assert again.read(lambda session: session.outbox.counts()["k"][0]) % 2 == 0
    assert again.logs.search(LogQuery(execution_id=run.execution_id)).total == 1
    claimed = again.write(lambda session: session.claims.claim(run.id, 0, "w", rows.now))
    assert claimed is not None
    again.close()
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    assert stat.S_IMODE((home / "state.db").stat().st_mode) == 0o600


def test_a_home_with_a_store_is_not_restored_into(sqlite_url: str, tmp_path: Path) -> None:
    Store.open(sqlite_url).close()
    backup(sqlite_url, tmp_path / "backup.tar")

    with pytest.raises(StoreError) as caught:
        restore(tmp_path / "backup.tar", tmp_path)
    with pytest.raises(StoreError) as exists:
        backup(sqlite_url, tmp_path / "backup.tar")

    assert caught.value.code == "store.restore.occupied"
    assert exists.value.code == "store.backup.exists"


def _archive(path: Path, members: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.size, entry.linkname = kind, len(content) if kind == tarfile.REGTYPE else 0, "/etc/passwd"
            tar.addfile(entry, io.BytesIO(content))


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b"no archive at all" * 100),
        lambda path: path.write_bytes(b""),
        lambda path: _archive(path, {"../state.db": b"x"}),
        lambda path: _archive(path, {"/etc/state.db": b"x"}),
        lambda path: _archive(path, {"state.db": b"x"}, tarfile.SYMTYPE),
        lambda path: _archive(path, {"git/../../state.db": b"x"}),
        lambda path: _archive(path, {"storage//x": b"x"}),
        lambda path: _archive(path, {"storage/./x": b"x"}),
        lambda path: _archive(path, {"lock": b"x"}),
        lambda path: _archive(path, {"git": b"x"}),
        lambda path: _archive(path, {"git/flows.git/HEAD": b"x"}, tarfile.SYMTYPE),
        lambda path: _archive(path, {"git/a": b"x", "git/a/b": b"x"}),
        lambda path: _archive(path, {"token": b"x", "backup.json": b'{"schema": "0001"}'}),
        lambda path: _archive(path, {"backup.json": b"[]", "state.db": b"x"}),
        lambda path: _archive(path, {"backup.json": b"{", "state.db": b"x"}),
        lambda path: _archive(path, {"backup.json": b'{"schema": "0001"}'}),
    ],
)
def test_an_archive_that_is_no_backup_is_refused(make: Callable[[Path], Any], tmp_path: Path) -> None:
    make(tmp_path / "bad.tar")

    with pytest.raises(StoreError) as caught:
        restore(tmp_path / "bad.tar", tmp_path / "home")

    assert caught.value.code == "store.restore.invalid"
    assert list((tmp_path / "home").iterdir()) == []


def test_a_damaged_copy_is_refused(tmp_path: Path) -> None:
    _archive(
        tmp_path / "bad.tar", {"backup.json": b'{"schema": "0001"}', "state.db": b"SQLite format 3\x00" + b"x" * 99}
    )

    with pytest.raises(StoreError) as caught:
        restore(tmp_path / "bad.tar", tmp_path / "home")

    assert caught.value.code == "store.file.corrupt"
    assert list((tmp_path / "home").iterdir()) == []


def test_postgresql_names_its_own_tool(postgres_url: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        backup(postgres_url, tmp_path / "backup.tar")

    assert caught.value.code == "store.backup.postgresql"
    assert "pg_dump" in str(caught.value.hint)
