"""Logs: appended without waiting, found by what they belong to, removed by age."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

from runner.executions.models import LogEntry
from runner.store import LogQuery, Store


def _entry(rows: Any, message: str, **fields: Any) -> LogEntry:
    values = {"execution_id": "e", "namespace": "team.data", "flow_id": "etl", "timestamp": rows.now, "level": "INFO"}
    return LogEntry(**(values | {"message": message} | fields))


def test_entries_come_back_in_order(store: Store, rows: Any) -> None:
    entries = [_entry(rows, f"line {number}", task_run_id="r", attempt=1) for number in range(1200)]
    store.logs.append(entries[:700])
    store.logs.append(entries[700:])

    store.logs.flush()

    assert store.logs.search(LogQuery(execution_id="e", size=2000)).items == entries
    assert store.metrics_snapshot()["logs_written"] == 1200


def test_output_of_any_kind_is_kept_as_text(store: Store, rows: Any) -> None:
    store.logs.append([_entry(rows, "a\x00b \ud83d \U0001f600 ü")])
    store.logs.flush()

    (found,) = store.logs.search(LogQuery()).items

    assert found.message == "a\ufffdb \ufffd \U0001f600 ü"


def test_a_search_finds_entries(store: Store, rows: Any) -> None:
    later = rows.now + timedelta(days=1)
    store.logs.append(
        [
            _entry(rows, "one", level="DEBUG"),
            _entry(rows, "TWO 100%", level="WARN", task_id="t", task_run_id="r", attempt=2),
            _entry(rows, "three", execution_id="f", namespace="other", level="ERROR", timestamp=later),
        ]
    )
    store.logs.flush()
    table = [
        (LogQuery(), ["one", "TWO 100%", "three"]),
        (LogQuery(newest_first=True, size=1), ["three"]),
        (LogQuery(min_level="WARN"), ["TWO 100%", "three"]),
        (LogQuery(namespace="team"), ["one", "TWO 100%"]),
        (LogQuery(task_run_id="r", attempt=2), ["TWO 100%"]),
        (LogQuery(q="two 100%"), ["TWO 100%"]),
        (LogQuery(q="100_"), []),
        (LogQuery(since=later), ["three"]),
        (LogQuery(until=later), ["one", "TWO 100%"]),
        (LogQuery(sort=("level:asc",)), ["one", "three", "TWO 100%"]),
    ]

    found = [[entry.message for entry in store.logs.search(query).items] for query, _ in table]

    assert found == [expected for _, expected in table]


def test_an_execution_is_followed_by_ids(store: Store, rows: Any) -> None:
    store.logs.append([_entry(rows, "a"), _entry(rows, "b"), _entry(rows, "other", execution_id="f")])
    store.logs.flush()
    first = store.logs.after("e", limit=1)
    store.logs.append([_entry(rows, "c")])
    store.logs.flush()

    rest = store.logs.after("e", first[-1][0])

    assert [entry.message for _, entry in (*first, *rest)] == ["a", "b", "c"]


def test_the_last_entries_come_in_order(store: Store, rows: Any) -> None:
    store.logs.append([_entry(rows, str(number), task_run_id="r") for number in range(50)])
    store.logs.flush()

    found = store.logs.last(LogQuery(task_run_id="r"), 3)

    assert [entry.message for entry in found] == ["47", "48", "49"]


def test_entries_are_removed_by_execution_by_question_and_by_age(store: Store, rows: Any) -> None:
    old = rows.now - timedelta(days=40)
    store.logs.append([_entry(rows, "old", timestamp=old), _entry(rows, "warn", level="WARN"), _entry(rows, "info")])
    store.logs.append([_entry(rows, "other", execution_id="f")])

    store.logs.prune(rows.now - timedelta(days=30))
    matching = store.logs.delete_matching(LogQuery(execution_id="e", min_level="WARN"))
    whole = store.logs.delete("f")

    assert (matching, whole) == (1, 1)
    assert [entry.message for entry in store.logs.search(LogQuery()).items] == ["info"]
    store.logs.append([_entry(rows, "old again", timestamp=old)])
    store.logs.flush()
    assert store.logs.search(LogQuery()).total == 2


def test_what_was_written_up_to_a_moment_is_removed_alone(store: Store, rows: Any) -> None:
    read, written_later = _entry(rows, "read"), _entry(rows, "later", timestamp=rows.now - timedelta(days=1))
    before = store.logs.last_id(LogQuery(execution_id="e"))
    store.logs.append([read])
    store.logs.flush()
    last = store.logs.last_id(LogQuery(execution_id="e"))
    store.logs.append([written_later])
    store.logs.flush()

    found = store.logs.search(LogQuery(execution_id="e", until_id=last)).items
    removed = store.logs.delete_matching(LogQuery(execution_id="e", until_id=last))

    assert (before, found, removed) == (0, [read], 1)
    assert store.logs.search(LogQuery()).items == [written_later]


def test_closing_writes_what_is_pending(store_url: str, rows: Any) -> None:
    store = Store.open(store_url)
    store.logs.append([_entry(rows, "last words")])

    store.close()

    again = Store.open(store_url)
    assert again.logs.search(LogQuery()).total == 1
    again.close()


def test_a_flush_waits_for_what_is_announced_by_others_and_not_by_itself(store: Store, rows: Any) -> None:
    announced, may_append = threading.Event(), threading.Event()

    def append_late() -> None:
        with store.logs.announced():
            announced.set()
            assert may_append.wait(60)
            store.logs.flush()
            store.logs.append([_entry(rows, "late")])

    thread = threading.Thread(target=append_late)
    thread.start()
    assert announced.wait(60)
    threading.Timer(0.1, may_append.set).start()

    store.logs.flush()

    assert [entry.message for entry in store.logs.search(LogQuery()).items] == ["late"]
    thread.join(60)


def test_who_has_written_its_own_lines_waits_for_nobody_s_announcement(store: Store, rows: Any) -> None:
    announced, may_end = threading.Event(), threading.Event()

    def announce() -> None:
        with store.logs.announced():
            announced.set()
            assert may_end.wait(60)

    thread = threading.Thread(target=announce)
    thread.start()
    assert announced.wait(60)
    store.logs.append([_entry(rows, "own")])

    store.logs.flush_appended()

    found = [entry.message for entry in store.logs.search(LogQuery()).items]
    may_end.set()
    thread.join(60)
    assert found == ["own"]


def test_a_follower_misses_nothing_that_several_processes_write(store_url: str, rows: Any) -> None:
    is_shared = store_url.startswith("postgresql")
    writers = [Store.open(store_url) for _ in range(3 if is_shared else 1)]
    reader = Store.open(store_url) if is_shared else writers[0]
    wanted = {f"{number}-{line}" for number in range(len(writers)) for line in range(300)}

    def write(number: int) -> None:
        for line in range(300):
            writers[number].logs.append([_entry(rows, f"{number}-{line}")])
            writers[number].logs.flush()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(len(writers))]
    for thread in threads:
        thread.start()
    position, seen = 0, []
    while any(thread.is_alive() for thread in threads) or reader.logs.after("e", position):
        found = reader.logs.after("e", position)
        seen += [entry.message for _, entry in found]
        position = found[-1][0] if found else position

    for each in {id(each): each for each in (*writers, reader)}.values():
        each.close()
    assert len(seen) == len(wanted)
    assert set(seen) == wanted


def test_lines_are_read_on_without_a_gap_while_others_are_written(store: Store, rows: Any) -> None:
    store.logs.append([_entry(rows, f"line {number}") for number in range(5)])
    store.logs.flush()

    first = store.logs.older(LogQuery(namespace="team"), None, 2)
    store.logs.append([_entry(rows, "newer", timestamp=rows.now + timedelta(seconds=1))])
    store.logs.flush()
    rest = store.logs.older(LogQuery(namespace="team"), first[-1][0], 9)

    assert [entry.message for _, entry in first] == ["line 4", "line 3"]
    assert [entry.message for _, entry in rest] == ["line 2", "line 1", "line 0"]


def test_a_batch_that_could_not_be_written_takes_no_others_of_its_day_with_it(store: Store, rows: Any) -> None:
    store.logs.append([_entry(rows, "cannot be kept", attempt=1 << 70)])
    store.logs.flush()

    store.logs.append([_entry(rows, "the next one")])
    store.logs.flush()

    assert [entry.message for entry in store.logs.search(LogQuery()).items] == ["the next one"]
    assert store.logs.dropped == 1
