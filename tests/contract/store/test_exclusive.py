"""A right that one process has at a time, among all that share a database."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from runner.errors import StoreError
from runner.store import Store
from runner.store.postgres import PostgresEngine


def test_of_two_processes_one_has_the_right_until_its_block_ends(postgres_url: str) -> None:
    one, two = Store.open(postgres_url), Store.open(postgres_url)

    with one.exclusive("reports") as first, two.exclusive("reports") as second, two.exclusive("other") as other:
        during = (first, second, other)
    with two.exclusive("reports") as after:
        pass

    one.close()
    two.close()
    assert during == (True, False, True)
    assert after


def test_a_database_of_one_process_has_nobody_to_exclude(sqlite_url: str) -> None:
    store = Store.open(sqlite_url, durability="off")

    with store.exclusive("reports") as is_ours:
        store.close()

    assert is_ours


def test_a_database_whose_connections_are_all_in_use_is_busy(postgres_url: str) -> None:
    engine = PostgresEngine(postgres_url, lambda: datetime.now(UTC))
    engine._pool._timeout = 0.1  # type: ignore[attr-defined]  # half a minute else
    held = [engine._pool.connect() for _ in range(16)]

    with pytest.raises(StoreError) as caught:
        engine.read(lambda connection: connection)
    for each in held:
        each.close()
    engine.close()

    assert caught.value.code == "store.busy"


def test_the_server_ends_the_connection_and_with_it_the_right_of_a_machine_that_is_gone(postgres_url: str) -> None:
    engine = PostgresEngine(postgres_url, lambda: datetime.now(UTC))

    driver = engine._connect()

    names = ("tcp_keepalives_idle", "tcp_keepalives_interval", "tcp_keepalives_count")
    found = [driver.execute(f"SHOW {name}").fetchone()[0] for name in names]
    driver.close()
    engine.close()
    assert found == ["10", "5", "2"]  # and not two hours
