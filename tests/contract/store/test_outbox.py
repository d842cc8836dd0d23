"""The outbox: rows wait until they are answered, and may be put off."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from runner.executions.models import OUTBOX_RUN, Commit, OutboxRow
from runner.store import Store


def test_rows_are_taken_oldest_first_and_stay(store: Store, rows: Any) -> None:
    made = [OutboxRow("run", str(number), {"epoch": number}) for number in range(3)]
    ids = store.write(lambda session: session.outbox.add([*made, OutboxRow("sync", "repo")]))

    taken = store.read(lambda session: session.outbox.take(("run", "advance"), 2, rows.now))
    again = store.read(lambda session: session.outbox.take(("run", "sync"), 10, rows.now))

    assert [(row.id, row.key, row.payload) for row in taken] == [
        (ids[0], "0", {"epoch": 0}),
        (ids[1], "1", {"epoch": 1}),
    ]
    assert len(again) == 4


def test_a_row_is_hidden_until_it_is_available(store: Store, rows: Any) -> None:
    later = rows.now + timedelta(seconds=5)
    (planned,) = store.write(lambda session: session.outbox.add([OutboxRow("run", "planned", {}, later)]))
    (now,) = store.write(lambda session: session.outbox.add([OutboxRow("run", "now")]))
    store.write(lambda session: session.outbox.defer(now, later))

    early = store.read(lambda session: session.outbox.take(("run",), 10, rows.now))
    late = store.read(lambda session: session.outbox.take(("run",), 10, later))

    assert early == []
    assert [(row.id, row.available_at) for row in late] == [(planned, later), (now, later)]


def test_old_rows_are_found_by_their_age(store: Store, rows: Any) -> None:
    ids = store.write(lambda session: session.outbox.add([OutboxRow("run", "a"), OutboxRow("run", "b")]))

    young = store.read(lambda session: session.outbox.older_than(("run",), 5, rows.now, 10))
    old = store.read(lambda session: session.outbox.older_than(("run",), 5, rows.now + timedelta(seconds=5), 10))

    assert young == []
    assert [row.id for row in old] == ids


def test_counts_give_number_and_oldest(store: Store, rows: Any) -> None:
    store.write(lambda session: session.outbox.add([OutboxRow("run", "a"), OutboxRow("run", "b"), OutboxRow("x", "c")]))

    counts = store.read(lambda session: session.outbox.counts())

    assert counts == {"run": (2, rows.now), "x": (1, rows.now)}


def test_deleting_tells_how_many_were_there(store: Store) -> None:
    ids = store.write(lambda session: session.outbox.add([OutboxRow("run", "a"), OutboxRow("run", "b")]))

    removed = [store.write(lambda session: session.outbox.delete([*ids, 999_999])) for _ in range(2)]

    assert removed == [2, 0]
    assert store.write(lambda session: session.outbox.delete([])) == 0


def test_task_runs_that_wait_are_counted_by_their_queue(store: Store, rows: Any) -> None:
    execution = rows.started(store)
    queues = ("tasks", "gpu", "gpu")
    runs = tuple(rows.run(execution, seq=number, queue=queue) for number, queue in enumerate(queues))
    waiting = tuple(OutboxRow(OUTBOX_RUN, run.id, {"epoch": 0, "queue": run.queue}) for run in runs)
    rows.commit(store, Commit(replace(execution, version=2), 1, new_runs=runs, outbox=waiting))

    counted = store.read(lambda session: session.outbox.runs_by_queue())

    assert {queue: count for queue, (count, _) in counted.items()} == {"tasks": 1, "gpu": 2}
    assert {oldest for _, oldest in counted.values()} == {rows.now}
