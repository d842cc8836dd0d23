"""The log of deliveries over a real store."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runner.store import Session, Store
from runner.store.records import Delivery
from sync import deliveries
from sync.deliveries import DeliveryLog
from tests.servers.store import fresh_store

NOW = datetime(2026, 11, 2, 9, 15, 30, tzinfo=UTC)
MAIN, SHA, OTHER = "refs/heads/main", "a" * 40, "b" * 40
PUSH = Delivery("team", "d-1", "push", NOW, "ACCEPTED", ref=MAIN, after=SHA)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = fresh_store(f"sqlite:///{tmp_path / 'state.db'}")
    yield opened
    opened.close()


def add(written: DeliveryLog, delivery: Delivery) -> Delivery:
    return written.add(delivery).result(60)


def rows(store: Store) -> list[Delivery]:
    return store.read(lambda db: db.deliveries.list())


def test_a_delivery_is_written_with_a_number_of_its_own(store: Store) -> None:
    written = add(DeliveryLog(store), PUSH)

    assert written == replace(PUSH, id=written.id)
    assert rows(store) == [written]


def test_a_delivery_that_comes_again_is_a_duplicate_and_leaves_no_second_row(store: Store) -> None:
    log = DeliveryLog(store)
    first = add(log, PUSH)

    again = [add(log, replace(PUSH, received_at=NOW + timedelta(days=1))) for _ in range(3)]

    assert {(each.result, each.id) for each in again} == {("DUPLICATE", first.id)}
    assert rows(store) == [first]


def test_the_same_push_under_another_id_is_a_duplicate_for_ten_minutes(store: Store) -> None:
    log = DeliveryLog(store)
    add(log, PUSH)

    results = [
        add(log, replace(PUSH, delivery_id=f"d-{minutes}m", received_at=NOW + timedelta(minutes=minutes))).result
        for minutes in (9, 11)
    ]

    assert results == ["DUPLICATE", "ACCEPTED"]


def test_a_ref_that_goes_back_and_forth_is_looked_at_each_time(store: Store) -> None:
    log = DeliveryLog(store)
    afters = [SHA, OTHER, SHA, None, None, SHA]

    results = [
        add(log, replace(PUSH, delivery_id=f"d-{at}", after=after, received_at=NOW + timedelta(seconds=at))).result
        for at, after in enumerate(afters)
    ]

    assert results == ["ACCEPTED"] * 6


def test_a_delivery_that_was_of_no_use_counts_when_it_is_sent_again_and_has_become_of_use(store: Store) -> None:
    log = DeliveryLog(store)
    ignored = add(log, replace(PUSH, result="IGNORED", reason="no environment follows refs/heads/main"))

    again = add(log, replace(PUSH, result="IGNORED", reason="no environment follows refs/heads/main"))
    useful = add(log, PUSH)

    assert (again.result, useful.result, useful.reason, useful.id) == ("DUPLICATE", "ACCEPTED", None, ignored.id)


def test_two_repositories_do_not_share_delivery_ids(store: Store) -> None:
    log = DeliveryLog(store)
    add(log, PUSH)

    assert add(log, replace(PUSH, repository="other")).result == "ACCEPTED"


def test_refused_deliveries_of_an_hour_are_one_row_that_counts_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "_NOTE_EVERY_S", 0.0)
    log = DeliveryLog(store)

    for minute in range(45):
        log.refuse("team", "the signature in X-Hub-Signature-256 fits no secret", NOW + timedelta(minutes=minute))
    store.flush()

    kept = rows(store)
    assert [(row.result, row.delivery_id) for row in kept] == [("REFUSED", "refused:2026-11-02T09")]
    assert kept[0].reason == (
        "45 or more this hour, the last one since the signature in X-Hub-Signature-256 fits no secret"
    )
    log.refuse("team", "again", NOW + timedelta(hours=1))
    store.flush()
    assert [row.reason for row in rows(store)] == ["again", kept[0].reason]


def test_a_flood_of_refused_deliveries_writes_at_most_once_a_second(store: Store) -> None:
    log = DeliveryLog(store)
    before = store.metrics_snapshot()

    for _ in range(10_000):
        log.refuse("team", "no", NOW)
    store.flush()

    assert store.metrics_snapshot()["units"] - before["units"] < 10
    assert len(rows(store)) == 1


def test_rows_go_after_two_weeks(store: Store) -> None:
    add(DeliveryLog(store), PUSH)
    late = replace(PUSH, delivery_id="d-2", after=OTHER, received_at=NOW + timedelta(days=15))

    add(DeliveryLog(store), late)

    assert [row.delivery_id for row in rows(store)] == ["d-2"]


def test_a_delivery_costs_the_same_however_many_there_are(store: Store) -> None:
    log = DeliveryLog(store)
    add(log, PUSH)
    among_few = steps(store, log, replace(PUSH, delivery_id="few", after="1" * 40))
    store.write(fill)

    among_many = steps(store, log, replace(PUSH, delivery_id="many", after="2" * 40))

    assert 0 < among_many < 2 * among_few


def fill(db: Session) -> None:
    before = replace(PUSH, received_at=NOW - timedelta(seconds=1))
    for number in range(2_000):
        db.deliveries.put(replace(before, delivery_id=f"d-{number}", after=f"{number:040x}"))


def steps(store: Store, log: DeliveryLog, delivery: Delivery) -> int:
    """Return how many steps of its machine SQLite takes to write a delivery."""
    taken: list[int] = []
    writer = store.write(lambda db: db.connection.driver)
    assert isinstance(writer, sqlite3.Connection)
    writer.set_progress_handler(lambda: taken.append(1), 1)
    add(log, delivery)
    writer.set_progress_handler(None, 1)
    return len(taken)


def test_two_busy_repositories_are_both_trimmed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "MOST_ROWS", 5)
    monkeypatch.setattr(deliveries, "_TRIM_EVERY_ROWS", 2)
    log = DeliveryLog(store)

    for number in range(20):
        add(log, replace(PUSH, repository=("one", "two")[number % 2], delivery_id=f"d-{number}"))

    kept = Counter(row.repository for row in rows(store))
    assert all(5 <= kept[name] <= 7 for name in ("one", "two"))


def test_a_repository_keeps_its_newest_rows_only(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries, "MOST_ROWS", 5)
    monkeypatch.setattr(deliveries, "_TRIM_EVERY_ROWS", 10)
    log = DeliveryLog(store)
    add(log, replace(PUSH, repository="quiet"))

    for number in range(40):
        add(log, replace(PUSH, delivery_id=f"d-{number}", after=f"{number:040x}"))

    kept = rows(store)
    assert len([row for row in kept if row.repository == "team"]) <= 15
    assert kept[0].delivery_id == "d-39"
    assert kept[-1].repository == "quiet"
