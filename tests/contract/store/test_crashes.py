"""Crashes of SQLite's process and disk: what was acknowledged is there, what was not is gone as a whole."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.errors import StoreError
from runner.executions.models import OutboxRow
from runner.store import Session, Store

WRITER = """
import sys
from runner.executions.models import OutboxRow
from runner.store import Store

store = Store.open(sys.argv[1])
for number in range(100_000):
    store.write(lambda session: session.outbox.add([OutboxRow("k", str(number)), OutboxRow("pair", str(number))]))
    print(number, flush=True)
"""


def _keys(store: Store, kind: str) -> list[str]:
    return [
        row.key for row in store.read(lambda session: session.outbox.take((kind,), 10_000, session.connection.clock()))
    ]


def test_every_acknowledged_write_outlives_a_killed_process(sqlite_url: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", WRITER, sqlite_url], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = [process.stdout.readline().strip() for _ in range(40)]
    process.kill()
    acknowledged += process.stdout.read().split()
    process.stdout.close()
    process.wait(60)

    store = Store.open(sqlite_url)

    keys = _keys(store, "k")
    assert keys[: len(acknowledged)] == acknowledged
    assert len(keys) <= len(acknowledged) + 1  # the last one may have been committed and not told
    assert _keys(store, "pair") == keys
    assert store.check() == []
    store.close()


def test_a_torn_journal_leaves_a_whole_prefix(sqlite_url: str, tmp_path: Path) -> None:
    store = Store.open(sqlite_url, durability="normal")

    def add(session: Session, number: int) -> None:
        session.outbox.add([OutboxRow("k", str(number)), OutboxRow("pair", str(number))])

    for number in range(30):
        store.write(lambda session, number=number: add(session, number))  # type: ignore[misc]  # mypy and defaults
    journal = (tmp_path / "state.db-wal").read_bytes()
    source = random.Random(7)
    lengths = set()
    for turn in range(12):
        home = tmp_path / f"torn{turn}"
        home.mkdir()
        shutil.copy(tmp_path / "state.db", home / "state.db")
        (home / "state.db-wal").write_bytes(journal[: source.randrange(len(journal))])
        torn = Store.open(f"sqlite:///{home}/state.db")
        keys = _keys(torn, "k")
        lengths.add(len(keys))
        assert keys == [str(number) for number in range(len(keys))] == _keys(torn, "pair")
        assert torn.check() == []
        torn.close()
    store.close()

    assert len(lengths) > 3


def test_a_full_disk_refuses_writes_and_heals(sqlite_url: str) -> None:
    store = Store.open(sqlite_url)

    def limit(pages: int) -> Any:
        return store.write(
            lambda session: session.connection.driver.execute(f"PRAGMA max_page_count={pages}").fetchall()
        )

    used = store.read(lambda session: session.connection.driver.execute("PRAGMA page_count").fetchone()[0])
    limit(used)
    futures = [
        store.submit(lambda session: session.reports.put("e", "small", 1)),
        store.submit(lambda session: session.reports.put("e", "large", "x" * 100_000)),
        store.submit(lambda session: session.reports.put("e", "after", 1)),
    ]

    with pytest.raises(StoreError) as caught:
        futures[1].result(60)
    refused = [future.exception(60) is not None for future in futures]
    limit(1_000_000)
    store.write(lambda session: session.reports.put("e", "large", "x" * 100_000))

    assert caught.value.code == "store.disk.full"
    found = {key: json.loads(text) for key, text in store.read(lambda session: session.reports.texts("e"))}
    assert found["large"] == "x" * 100_000
    # Who was told that it is written finds it, who was refused does not.
    assert [name not in found for name in ("small", "after")] == [refused[0], refused[2]]
    store.close()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        Store.open(f"sqlite:///{tmp_path}/none/state.db")

    assert caught.value.code == "store.file.denied"
    assert str(tmp_path) in caught.value.message
