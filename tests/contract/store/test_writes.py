"""Writes: durable when they return, in order, each whole, and none harmed by its neighbour."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import psycopg
import pytest

from runner.errors import ConflictError, InvalidError, StoreError
from runner.executions.models import OutboxRow
from runner.store import Session, Store


def _add(key: str) -> Callable[[Session], list[int]]:
    return lambda session: session.outbox.add([OutboxRow("k", key)])


def _rows(store: Store) -> list[str]:
    return [
        row.key for row in store.read(lambda session: session.outbox.take(("k",), 10_000, session.connection.clock()))
    ]


def test_eight_threads_write_at_once_and_lose_nothing(store: Store, at_once: Any) -> None:
    def writer(name: int) -> None:
        for number in range(50):
            store.write(_add(f"{name}-{number}"))

    at_once([lambda name=name: writer(name) for name in range(8)])

    assert sorted(_rows(store)) == sorted(f"{name}-{number}" for name in range(8) for number in range(50))
    assert store.metrics_snapshot()["units"] >= 400


def test_a_write_is_seen_by_the_next_read(store: Store) -> None:
    seen = []
    for number in range(20):
        store.write(_add(str(number)))
        seen.append(len(_rows(store)))

    assert seen == list(range(1, 21))


def test_a_failing_unit_takes_back_only_its_own_rows(store: Store) -> None:
    def failing(session: Any) -> None:
        session.outbox.add([OutboxRow("k", "mine")])
        raise ConflictError("test.refused", "no")

    before = store.submit(_add("before"))
    failed = store.submit(failing)
    after = store.submit(_add("after"))

    assert before.result(60)
    assert after.result(60)
    with pytest.raises(ConflictError, match="no"):
        failed.result(60)
    assert sorted(_rows(store)) == ["after", "before"]


def test_a_statement_that_contradicts_a_row_harms_no_other_unit(store: Store, rows: Any) -> None:
    execution = rows.started(store)
    futures: list[Future[Any]] = [
        store.submit(_add("one")),
        store.submit(lambda session: session.executions.insert(execution)),
        store.submit(_add("two")),
    ]

    errors = [future.exception(60) for future in futures]

    assert isinstance(errors[1], StoreError)
    assert (errors[0], errors[1].code, errors[2]) == (None, "store.row.conflict", None)
    assert sorted(_rows(store)) == ["one", "two"]


def test_units_of_one_writer_run_in_order_and_share_commits(sqlite_url: str) -> None:
    store = Store.open(sqlite_url)
    gate = threading.Event()
    store.submit(lambda _: gate.wait(60))
    futures = [store.submit(_add(str(number))) for number in range(200)]
    before = store.metrics_snapshot()["commits"]

    gate.set()
    ids = [future.result(60)[0] for future in futures]

    commits = store.metrics_snapshot()["commits"] - before
    assert ids == sorted(ids)
    assert _rows(store) == [str(number) for number in range(200)]
    assert commits <= 3
    store.close()


def test_a_read_sees_one_moment(store: Store) -> None:
    store.write(lambda session: session.reports.put("e", "k", 1))

    def unit(session: Any) -> Any:
        first = session.reports.get("e", "k")
        thread = threading.Thread(target=lambda: store.write(lambda other: other.reports.put("e", "k", 2)))
        thread.start()
        thread.join(60)
        return first, session.reports.get("e", "k")

    assert store.read(unit) == (1, 1)
    assert store.read(lambda session: session.reports.get("e", "k")) == 2


def test_a_read_cannot_write(store: Store) -> None:
    with pytest.raises(StoreError) as caught:
        store.read(lambda session: session.outbox.add([OutboxRow("k", "x")]))

    assert caught.value.code == "store.statement.failed"
    assert _rows(store) == []


def test_closing_finishes_what_was_submitted(store_url: str) -> None:
    store = Store.open(store_url)
    futures = [store.submit(_add(str(number))) for number in range(50)]

    store.close()

    assert all(future.done() and future.exception() is None for future in futures)
    for use in (store.write, store.submit, store.read):
        with pytest.raises(StoreError) as caught:
            use(lambda session: session.outbox.counts())
        assert caught.value.code == "store.closed"
    again = Store.open(store_url)
    assert len(_rows(again)) == 50
    again.close()
    store.close()


def test_an_id_of_the_outbox_is_never_given_twice(store: Store) -> None:
    (first,) = store.write(lambda session: session.outbox.add([OutboxRow("k", "a")]))
    store.write(lambda session: session.outbox.delete([first]))

    (second,) = store.write(lambda session: session.outbox.add([OutboxRow("k", "b")]))

    assert second > first


def test_a_nul_in_a_question_finds_nothing_or_is_refused(store: Store) -> None:
    outcomes: list[Any] = []
    try:
        outcomes.append(store.read(lambda session: session.executions.get("a\x00b")))
    except InvalidError as error:
        outcomes.append(error.code)

    expected = [None] if store.dialect == "sqlite" else ["store.value.invalid"]
    assert outcomes == expected


def test_a_write_that_met_a_deadlock_runs_again(postgres_url: str, at_once: Any) -> None:
    store = Store.open(postgres_url)
    meet = threading.Barrier(2, timeout=60)
    tries: list[str] = []

    def unit(first: str, second: str) -> Any:
        def work(session: Any) -> None:
            tries.append(first)
            session.connection.lock(first)
            if len(tries) <= 2:
                meet.wait()
            session.connection.lock(second)
            session.outbox.add([OutboxRow("k", first)])

        return lambda: store.write(work)

    at_once([unit("a", "b"), unit("b", "a")])

    assert sorted(_rows(store)) == ["a", "b"]
    assert len(tries) == 3
    store.close()


def test_a_write_whose_connection_was_cut_runs_again(postgres_url: str) -> None:
    store = Store.open(postgres_url)
    tries = []

    def unit(session: Any) -> None:
        tries.append(1)
        session.outbox.add([OutboxRow("k", "x")])
        if len(tries) == 1:
            pid = session.connection.driver.info.backend_pid
            store.read(lambda other: other.connection.driver.execute("SELECT pg_terminate_backend(%s)", (pid,)))
            session.outbox.counts()

    store.write(unit)

    assert len(tries) == 2
    assert _rows(store) == ["x"]
    store.close()


def test_a_writer_that_stands_still_lets_the_others_go_on_and_runs_again(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.store.postgres._IDLE_MS", 200)
    frozen, other = Store.open(postgres_url), Store.open(postgres_url)
    has_lock, thaw = threading.Event(), threading.Event()
    tries = []

    def stand_still(session: Session) -> None:
        session.connection.lock("the one")
        tries.append("")
        monkeypatch.undo()  # whoever connects again may be slow
        has_lock.set()
        thaw.wait(60)
        session.outbox.add([OutboxRow("k", "frozen")])

    def lock(session: Session) -> None:
        session.connection.lock("the one")
        session.outbox.add([OutboxRow("k", "other")])

    waiting = frozen.submit(stand_still)
    assert has_lock.wait(60)
    other.write(lock)
    thaw.set()
    waiting.result(60)

    rows = _rows(other)
    frozen.close()
    other.close()
    assert sorted(rows) == ["frozen", "other"]
    assert len(tries) == 2


def test_connections_that_were_cut_while_idle_do_not_use_up_the_tries(
    postgres_url: str, at_once: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.store.postgres._TRIES", 2)  # the second one must meet a fresh connection
    store = Store.open(postgres_url)
    meet = threading.Barrier(8, timeout=20)
    at_once([lambda: store.read(lambda _session: meet.wait())] * 8)
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as admin:
        ours = "datname = current_database() AND pid <> pg_backend_pid()"
        cut = admin.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}").rowcount

    store.write(_add("x"))

    assert cut >= 8
    assert _rows(store) == ["x"]
    store.close()
