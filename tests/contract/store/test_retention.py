"""What leaves by itself, over both stores, on a clock that the test moves."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from runner.errors import StorageError
from runner.executions.models import OUTBOX_REPORT, Execution, LogEntry, Metric, OutboxRow
from runner.ids import new_id
from runner.key_values import MemoryKeyValues
from runner.retention import Retention, periods, without_needed
from runner.services import Host
from runner.settings import RetentionSettings, Settings
from runner.states import TERMINAL, State
from runner.storage.local import LocalStorage
from runner.storage.uris import execution_uri
from runner.store import LogQuery, Store
from runner.store.claims import Claims
from runner.store.expiry import Links
from runner.store.records import AuditEntry, KeyValue
from tests.contract.store.conftest import NOW, Rows

DAY = timedelta(days=1)


@dataclass
class World:
    """A store with a storage, and the moment that its clock shows."""

    store: Store
    host: Host
    home: Path
    now: datetime = NOW

    def retention(self, *, home: Path | None = None, **settings: Any) -> Retention:
        return Retention(self.store, self.host, RetentionSettings(**settings), home=home)

    def ended(self, age: timedelta, state: State = State.SUCCESS, **fields: Any) -> Execution:
        """An execution that ended so long ago, with a line of log and a file."""
        at = self.now - age
        execution = Rows().execution(
            state=state, created_at=at, ended_at=at, histories=((State.CREATED, at), (state, at)), **fields
        )
        self.store.write(lambda db: db.executions.insert(execution))
        self.leave(execution, at)
        return execution

    def open(self, age: timedelta, **fields: Any) -> Execution:
        execution = Rows().execution(state=State.PAUSED, created_at=self.now - age, **fields)
        self.store.write(lambda db: db.executions.insert(execution))
        self.leave(execution, self.now - age)
        return execution

    def leave(self, execution: Execution, at: datetime) -> None:
        self.host.storage.put(self.file(execution), io.BytesIO(b"x" * 1000))
        self.store.logs.append(
            [
                LogEntry(
                    execution_id=execution.id,
                    namespace=execution.namespace,
                    flow_id=execution.flow_id,
                    timestamp=at,
                    level="INFO",
                    message="hello",
                )
            ]
        )
        self.store.logs.flush()

    def file(self, execution: Execution) -> str:
        return execution_uri(execution.namespace, execution.flow_id, execution.id) + "inputs/a/file"

    def left(self, *executions: Execution) -> list[tuple[bool, bool, bool]]:
        """Whether the row, the file and the line of each execution are there."""
        return [
            (
                self.store.read(lambda db, each=each: db.executions.get(each.id)) is not None,  # type: ignore[misc]
                self.host.storage.exists(self.file(each)),
                bool(self.store.logs.search(LogQuery(execution_id=each.id)).items),
            )
            for each in executions
        ]


@pytest.fixture
def world(store: Store, tmp_path: Path) -> World:
    home = tmp_path / "home"
    home.mkdir()
    world: World
    host = Host.open(
        Settings(home=home),
        MemoryKeyValues(),
        environment={},
        log=lambda _entry: None,
        clock=lambda: world.now,
    )
    world = World(store, host, home)
    return world


ALL, NONE = (True, True, True), (False, False, False)


def test_by_default_every_execution_stays(world: World) -> None:
    old = world.ended(5000 * DAY)

    world.retention().run_once()

    assert world.left(old) == [ALL]


def test_executions_leave_by_age_and_state_with_logs_and_files(world: World) -> None:
    old, young = world.ended(31 * DAY), world.ended(29 * DAY)
    failed = world.ended(300 * DAY, State.FAILED)
    retention = world.retention(executions_days=30, state_days={"FAILED": 365})

    retention.run_once()
    first = world.left(old, young, failed)
    world.now += 2 * DAY
    retention.run_once()

    assert first == [NONE, ALL, ALL]
    assert world.left(young, failed) == [NONE, ALL]
    assert retention.figures()["retention_removed_executions"] == 2
    assert retention.figures()["retention_removed_files"] == 2


def test_a_file_that_the_storage_does_not_remove_keeps_nothing_else(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, other = world.ended(41 * DAY), world.ended(40 * DAY)
    delete = LocalStorage.delete

    def refuse(storage: LocalStorage, prefix: str) -> int:
        if stuck.id in prefix:
            raise PermissionError(prefix)
        return delete(storage, prefix)

    with monkeypatch.context() as patched:
        patched.setattr(LocalStorage, "delete", refuse)
        world.retention(executions_days=30).run_once()
    first = world.left(stuck, other)
    world.now += DAY
    world.retention(executions_days=30).run_once()

    assert first == [(False, True, True), NONE]
    assert world.left(stuck) == [NONE]


def test_a_storage_that_is_away_is_not_asked_for_everything_that_is_old(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    executions = [world.ended(40 * DAY + timedelta(seconds=number)) for number in range(60)]
    asked: list[str] = []

    def away(_storage: LocalStorage, prefix: str) -> int:
        asked.append(prefix)
        raise StorageError("storage.unreachable", "the storage does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(LocalStorage, "delete", away)
        world.retention(executions_days=30).run_once()
    world.now += DAY
    world.retention(executions_days=30).run_once()

    assert len(asked) == 5
    assert world.left(*executions) == [NONE] * 60


def test_more_than_one_batch_leaves_in_one_go(world: World) -> None:
    executions = [world.ended(40 * DAY + timedelta(seconds=number // 3)) for number in range(130)]

    world.retention(executions_days=30).run_once()

    assert world.left(*executions) == [NONE] * 130


def test_open_executions_and_what_they_need_stay_however_old(world: World) -> None:
    source = world.ended(900 * DAY)
    origin = world.ended(800 * DAY)
    parent = world.open(700 * DAY)
    child = world.ended(600 * DAY, parent_execution_id=parent.id)
    grandchild = world.ended(500 * DAY, parent_execution_id=child.id)
    repeat = world.open(400 * DAY, original_id=origin.id)
    waiting = world.open(300 * DAY, parent_execution_id=source.id)

    world.retention(executions_days=1, logs_days=1).run_once()

    everything = (parent, repeat, waiting, source, origin, child, grandchild)
    assert [left[:2] for left in world.left(*everything)] == [(True, True)] * 7
    assert [left[2] for left in world.left(parent, repeat, waiting)] == [True] * 3


def test_an_execution_that_a_report_has_yet_to_tell_of_stays(world: World) -> None:
    execution = world.ended(60 * DAY)
    row = OutboxRow(OUTBOX_REPORT, execution.id, {"environment": "default"})
    ids = world.store.write(lambda db: db.outbox.add([row]))
    retention = world.retention(executions_days=30)

    retention.run_once()
    before = world.left(execution)
    world.store.write(lambda db: db.outbox.delete(ids))
    retention.run_once()

    assert (before, world.left(execution)) == ([ALL], [NONE])


def test_one_that_goes_on_again_meanwhile_is_not_removed(world: World) -> None:
    execution = world.ended(60 * DAY)
    removed = world.store.write(lambda db: db.expiry.remove([execution.id], NOW - 90 * DAY))

    assert removed == 0
    assert world.left(execution) == [ALL]


def test_an_interrupted_removal_is_finished_by_the_next_run(world: World) -> None:
    execution = world.ended(60 * DAY)
    world.store.write(lambda db: db.expiry.remove([execution.id], NOW))
    between = world.left(execution)

    world.retention().run_once()

    assert between == [(False, True, True)]
    assert world.left(execution) == [NONE]
    assert world.store.read(lambda db: db.outbox.counts()) == {}


def test_lines_and_metrics_leave_before_their_execution(world: World) -> None:
    old, young = world.ended(20 * DAY), world.ended(5 * DAY)
    metrics = [
        Metric(
            execution_id=each.id,
            namespace=each.namespace,
            flow_id=each.flow_id,
            task_id="work",
            task_run_id=new_id(),
            name="rows",
            kind="counter",
            value=1.0,
            timestamp=each.created_at,
            tags={},
        )
        for each in (old, young)
    ]
    world.store.write(lambda db: db.metrics.add(metrics))

    world.retention(logs_days=10, metrics_days=10).run_once()

    assert world.left(old, young) == [(True, True, False), ALL]
    counts = [world.store.read(lambda db, id_=each.id: db.metrics.of_execution(id_)).total for each in (old, young)]  # type: ignore[misc]
    assert counts == [0, 1]


def test_keys_leave_a_day_after_they_expired(world: World) -> None:
    for key, age in (("old", 25), ("fresh", 1)):
        ended = NOW - timedelta(hours=age)
        row = KeyValue("team", key, "NUMBER", 1, NOW - 9 * DAY, NOW - 9 * DAY, ended)
        world.store.write(lambda db, row=row: db.kv.put(row))  # type: ignore[misc]  # bound at once

    world.retention().run_once()

    expired = [world.store.read(lambda db, key=key: db.kv.expired("team", key, NOW)) for key in ("old", "fresh")]  # type: ignore[misc]
    assert expired == [False, True]


def test_old_rows_of_the_audit_log_leave_unless_they_stay_for_ever(world: World) -> None:
    for age in (400, 100):
        entry = AuditEntry(NOW - age * DAY, "ada", "token.create", f"{age} days old")
        world.store.write(lambda db, entry=entry: db.audit.add(entry))  # type: ignore[misc]  # bound now

    def left() -> list[str]:
        return [row.target for row in world.store.read(lambda db: db.audit.list())]

    world.retention(audit_days=None).run_once()
    before = left()
    world.retention().run_once()
    by_itself = left()
    world.retention(audit_days=50).run_once()

    assert before == ["100 days old", "400 days old"]
    assert by_itself == ["100 days old"]
    assert left() == []


def test_of_two_processes_one_removes(postgres_url: str, tmp_path: Path) -> None:
    one, two = Store.open(postgres_url), Store.open(postgres_url)
    host = Host.open(Settings(home=tmp_path), MemoryKeyValues(), environment={}, log=lambda _entry: None)
    settings = RetentionSettings(executions_days=1)

    with one.exclusive("retention"):
        refused = Retention(two, host, settings).run_once()
    done = Retention(two, host, settings).run_once()

    one.close()
    two.close()
    assert (refused, done) == (False, True)


def test_a_home_that_is_too_large_loses_its_oldest_ended_executions(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/state.db", durability="off")
    host = Host.open(Settings(home=tmp_path), MemoryKeyValues(), environment={}, log=lambda _e: None, clock=lambda: NOW)
    world = World(store, host, tmp_path)
    waits = world.open(500 * DAY)
    executions = [world.ended((400 - number) * DAY) for number in range(200)]
    size = store.used_bytes() + 201 * 1000
    room = (size - 60_000) / 1024**3

    world.retention(home=tmp_path).run_once()
    untouched = world.left(waits, executions[0])
    world.retention(home=tmp_path, home_gib=room).run_once()

    left = world.left(waits, executions[0], executions[-1])
    store.close()
    assert untouched == [ALL, ALL]
    assert left == [ALL, NONE, ALL]


def test_working_folders_of_ended_runs_leave_after_a_day(world: World, rows: Rows) -> None:
    running = rows.submitted(world.store)
    work = world.home / "work"
    names = {f"{new_id()}-1": True, f"{running.id}-1": False, "something-else": False}
    for name in names:
        (work / name / "inner").mkdir(parents=True)
        os.utime(work / name, (0, 0))
    fresh = work / f"{new_id()}-1"
    fresh.mkdir()

    removed = world.retention().sweep_work(work)

    assert removed == 1
    assert {name: not (work / name).exists() for name in names} == names
    assert fresh.exists()


def test_the_working_folder_of_an_attempt_that_ended_leaves_at_once(world: World, rows: Rows) -> None:
    lost, running = rows.submitted(world.store), rows.submitted(world.store)
    for run in (lost, running):
        world.store.write(lambda db, run=run: db.claims.claim(run.id, run.epoch, "w", NOW))  # type: ignore[misc]  # bound now
    world.store.write(lambda db: db.claims.release(lost.id, lost.epoch + 1, NOW, "the server was restarted"))
    work = world.home / "work"
    names = {f"{lost.id}-1": True, f"{lost.id}-1-1": True, f"{lost.id}-2": False, f"{running.id}-1": False}
    for name in names:
        (work / name / "inner").mkdir(parents=True)

    removed = world.retention().sweep_work(work)

    assert removed == 2
    assert {name: not (work / name).exists() for name in names} == names


def test_a_working_folder_that_its_worker_removes_meanwhile_keeps_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, ended_among = world.home / "work", Claims.ended_among
    old, gone = (work / f"{new_id()}-1" for _ in range(2))
    for path in (old, gone):
        path.mkdir(parents=True)
        os.utime(path, (0, 0))

    def removed_meanwhile(self: Claims, attempts: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
        gone.rmdir()
        return ended_among(self, attempts)

    monkeypatch.setattr(Claims, "ended_among", removed_meanwhile)
    removed = world.retention().sweep_work(work)

    assert removed == 1
    assert list(work.iterdir()) == []


def test_a_run_ends_after_the_batch_at_hand_when_it_is_told_to(world: World) -> None:
    executions = [world.ended(40 * DAY) for _ in range(3)]
    retention = world.retention(executions_days=30)
    retention.stop()

    thread = threading.Thread(target=retention.run_once)
    thread.start()
    thread.join(60)

    assert not thread.is_alive()
    assert world.left(*executions) == [ALL] * 3


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({}, []),
        ({"executions_days": 7}, [(7, sorted(TERMINAL))]),
        ({"state_days": {"FAILED": 7}}, [(7, [State.FAILED])]),
    ],
)
def test_periods_say_which_states_leave_when(settings: dict[str, Any], found: list[Any]) -> None:
    assert periods(RetentionSettings(**settings)) == found


def test_links_in_a_circle_are_followed_once() -> None:
    links = {name: Links(name, NOW, frozenset({other})) for name, other in (("a", "b"), ("b", "a"))}
    asked: Callable[..., Any] = lambda ids: [links[each] for each in ids]  # noqa: E731 - a name for one line

    assert without_needed(["a", "b"], [], asked) == ["a", "b"]
    assert without_needed(["a", "b"], [Links("c", NOW, frozenset({"a"}))], asked) == []
