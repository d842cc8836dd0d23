"""The scheduler over a real store and engine, on a clock that the test moves."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from runner.executions.creation import NewExecution
from runner.executions.engine import Engine
from runner.executions.models import Commit, Execution
from runner.flows.catalogue import Catalogue
from runner.key_values import MemoryKeyValues
from runner.periodic import Periodic
from runner.scheduler import Scheduler
from runner.services import Host
from runner.settings import Settings
from runner.states import State
from runner.store import Store
from runner.store.records import FlowDraft, TriggerState
from runner.triggers.activation import activated
from runner.triggers.control import switched
from runner.triggers.models import Schedule
from runner.triggers.schedule import dates_between
from tests.servers.store import fresh_store

UTC_ZONE = ZoneInfo("UTC")


@dataclass
class Bell:
    """A doorbell that remembers whom it rang; nobody answers."""

    rung: list[str] = field(default_factory=list)

    def ring_executions(self, execution_ids: Iterable[str]) -> None:
        self.rung.extend(execution_ids)

    def ring_runs(self, runs: Sequence[tuple[str, int, str]]) -> None: ...

    def ring_effects(self) -> None: ...

    def ring_timers(self) -> None: ...

    def stop_runs(self, task_run_ids: Iterable[str]) -> None: ...

    def kill_children(self, execution_id: str) -> None: ...


@dataclass
class World:
    """A server's parts, and what a test does with them."""

    store: Store
    engine: Engine
    bell: Bell
    settings: Settings
    now: datetime = datetime(2024, 3, 1, tzinfo=UTC)

    def scheduler(self, **options: Any) -> Scheduler:
        settings = self.settings.model_copy(update=options)
        return Scheduler(self.engine, self.store, self.engine.catalogue, settings, lambda: self.now)

    def deploy(self, triggers: str, flow_id: str = "f", more: str = "") -> None:
        tasks = "tasks:\n  - {id: one, type: core.debug.Return, format: x}\n"
        source = f"id: {flow_id}\nnamespace: a.b\n{more}{tasks}triggers:\n{triggers}"
        draft = FlowDraft("a.b", flow_id, hashlib.sha1(source.encode()).hexdigest(), source, self.now)
        self.store.write(lambda db: db.flows.put(draft))
        flow = self.engine.catalogue.get("a.b", flow_id)
        self.store.write(lambda db: activated(db, [flow], [], self.now, UTC_ZONE))

    def switch(self, *, disabled: bool, **options: Any) -> None:
        row = switched(self.row(), self.now, disabled=disabled, **options)
        self.store.write(lambda db: db.triggers.put(row))

    def row(self, flow_id: str = "f", trigger_id: str = "s") -> TriggerState:
        found = self.store.read(lambda db: db.triggers.get("a.b", flow_id, trigger_id))
        assert found is not None
        return found

    def executions(self) -> list[Execution]:
        ids = self.store.read(lambda db: db.executions.open_ids())
        found = [self.engine.get(key) for key in ids]
        return sorted(found, key=lambda each: str(each.trigger and each.trigger.variables["date"]))

    def dates(self) -> list[str]:
        return [each.trigger.variables["date"] for each in self.executions() if each.trigger]

    def end(self, execution: Execution) -> None:
        loaded = self.store.read(lambda db: db.executions.load(execution.id))
        assert loaded is not None
        ended = replace(loaded.execution.enter(State.SUCCESS, self.now), due_at=None)
        assert self.store.write(lambda db: db.executions.commit(Commit(ended, loaded.execution.version)))

    def pass_time(self, scheduler: Scheduler, until: str) -> list[str]:
        """Let a scheduler run at every moment that something is due, up to a time."""
        end, created = datetime.fromisoformat(until), []
        while (due := self.store.read(lambda db: db.triggers.next_due())) is not None and due <= end:
            self.now = max(self.now, due)
            made = scheduler.run_due(self.now)
            created += made
            if not made and self.store.read(lambda db: db.triggers.next_due()) == due:
                break  # it waits for its last execution
        self.now = end
        return created


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    settings = Settings(home=tmp_path / "home", work=tmp_path / "work", url="http://127.0.0.1:1")
    settings.home.mkdir()
    store = fresh_store(settings.database_url, durability="off")
    made: list[World] = []
    host = Host.open(settings, MemoryKeyValues(), environment={}, clock=lambda: made[0].now)
    bell = Bell()
    made.append(World(store, Engine(store, Catalogue(store), host, bell), bell, settings))
    yield made[0]
    store.close()


def schedule(cron: str, more: str = "", trigger_id: str = "s") -> str:
    return f"  - {{id: {trigger_id}, type: core.trigger.Schedule, cron: '{cron}'{more}}}\n"


FREE = ", allowConcurrent: true"


def test_a_schedule_fires_at_its_date_once_and_plans_the_next(world: World) -> None:
    world.deploy(schedule("*/5 * * * *", ", labels: {from: clock}"), more="labels: {team: x}\n")
    scheduler = world.scheduler()

    early = scheduler.run_due(datetime(2024, 3, 1, 0, 4, 59, tzinfo=UTC))
    fired = scheduler.run_due(datetime(2024, 3, 1, 0, 5, tzinfo=UTC))
    again = scheduler.run_due(datetime(2024, 3, 1, 0, 5, tzinfo=UTC))

    assert (len(early), len(fired), len(again)) == (0, 1, 0)
    assert world.bell.rung[-1:] == fired
    execution = world.engine.get(fired[0])
    assert execution.trigger is not None
    assert execution.trigger.type == "io.kestra.plugin.core.trigger.Schedule"
    assert execution.trigger.variables == {
        "date": "2024-03-01T00:05:00Z",
        "next": "2024-03-01T00:10:00Z",
        "previous": "2024-03-01T00:00:00Z",
    }
    assert execution.labels == {"team": "x", "from": "clock", "system.correlationId": execution.id}
    assert world.row().next_at == datetime(2024, 3, 1, 0, 10, tzinfo=UTC)
    assert world.row().execution_id == execution.id


def test_the_next_date_waits_while_the_last_execution_runs(world: World) -> None:
    world.deploy(schedule("* * * * *"))
    scheduler = world.scheduler()

    world.pass_time(scheduler, "2024-03-01T00:05:00+00:00")
    while_running = world.dates()
    world.end(world.executions()[0])
    world.now = datetime(2024, 3, 1, 0, 5, 30, tzinfo=UTC)
    scheduler.run_due(world.now)

    assert while_running == ["2024-03-01T00:01:00Z"]
    assert world.dates() == ["2024-03-01T00:02:00Z"]


def test_a_schedule_may_overlap_when_it_says_so(world: World) -> None:
    world.deploy(schedule("* * * * *", FREE))

    world.pass_time(world.scheduler(), "2024-03-01T00:03:00+00:00")

    assert world.dates() == ["2024-03-01T00:01:00Z", "2024-03-01T00:02:00Z", "2024-03-01T00:03:00Z"]


def test_a_schedule_stops_after_an_end_it_names(world: World) -> None:
    world.deploy(schedule("* * * * *", ", stopAfter: [SUCCESS]"))
    scheduler = world.scheduler()

    world.pass_time(scheduler, "2024-03-01T00:01:00+00:00")
    world.end(world.executions()[0])
    world.now = datetime(2024, 3, 1, 0, 2, tzinfo=UTC)
    created = scheduler.run_due(world.now)

    assert created == []
    assert world.row().disabled


def test_inputs_of_a_schedule_are_rendered_and_typed(world: World) -> None:
    inputs = "inputs:\n  - {id: day, type: STRING}\n  - {id: n, type: INT, defaults: 3}\n"
    world.deploy(schedule("@daily", ", inputs: {day: \"{{ trigger.date | date('yyyy-MM-dd') }}\"}"), more=inputs)

    world.pass_time(world.scheduler(), "2024-03-02T00:00:00+00:00")

    assert [each.inputs for each in world.executions()] == [{"day": "2024-03-02", "n": 3}]


@pytest.mark.parametrize(
    ("more", "inputs", "message"),
    [
        (', conditions: [{type: core.condition.Expression, expression: "{{ nothing.here }}"}]', "", "nothing"),
        ("", "inputs:\n  - {id: day, type: STRING}\n", "missing required input"),
        (", inputs: {day: '{{ nowhere }}'}", "inputs:\n  - {id: day, type: STRING}\n", "nowhere"),
    ],
)
def test_what_cannot_start_leaves_a_failed_execution_and_goes_on(
    world: World, more: str, inputs: str, message: str
) -> None:
    world.deploy(schedule("0 * * * *", more), more=inputs)

    created = world.pass_time(world.scheduler(), "2024-03-01T02:00:00+00:00")

    failed = [world.engine.get(key) for key in created]
    assert [each.state for each in failed] == [State.FAILED, State.FAILED]
    assert message in str(failed[0].error)
    assert world.row().next_at == datetime(2024, 3, 1, 3, tzinfo=UTC)


def test_dates_that_a_condition_refuses_are_skipped(world: World) -> None:
    world.deploy(schedule("0 12 * * *", f"{FREE}, conditions: [{{type: core.condition.Weekend}}]"))

    world.pass_time(world.scheduler(), "2024-03-11T00:00:00+00:00")

    assert [date[:10] for date in world.dates()] == ["2024-03-02", "2024-03-03", "2024-03-09", "2024-03-10"]


def test_a_date_that_is_too_late_is_skipped(world: World) -> None:
    world.deploy(schedule("0 * * * *", f"{FREE}, lateMaximumDelay: PT30M"))
    scheduler = world.scheduler()
    world.now = datetime(2024, 3, 1, 5, 20, tzinfo=UTC)

    scheduler.run_due(world.now)
    scheduler.run_due(world.now)

    assert world.dates() == ["2024-03-01T05:00:00Z"]


@pytest.mark.parametrize(
    ("rule", "own", "expected"),
    [
        ("ALL", "", ["01:00", "02:00", "03:00", "04:00"]),
        ("LAST", "", ["04:00"]),
        ("NONE", "", []),
        ("ALL", ", recoverMissedSchedules: LAST", ["04:00"]),
        ("NONE", ", recoverMissedSchedules: ALL", ["01:00", "02:00", "03:00", "04:00"]),
    ],
)
def test_dates_missed_in_a_downtime_follow_the_rule(world: World, rule: str, own: str, expected: list[str]) -> None:
    world.deploy(schedule("0 * * * *", FREE + own))
    world.now = datetime(2024, 3, 1, 4, 30, tzinfo=UTC)
    scheduler = world.scheduler(recover_missed_schedules=rule)

    scheduler.recover(world.now)
    world.pass_time(scheduler, "2024-03-01T04:30:00+00:00")

    assert [date[11:16] for date in world.dates()] == expected
    assert world.row().next_at == datetime(2024, 3, 1, 5, tzinfo=UTC)


def test_the_last_missed_date_is_one_that_the_conditions_allow(world: World) -> None:
    world.deploy(schedule("0 12 * * *", f"{FREE}, conditions: [{{type: core.condition.Weekend}}]"))
    world.now = datetime(2024, 3, 14, tzinfo=UTC)
    scheduler = world.scheduler(recover_missed_schedules="LAST")

    scheduler.recover(world.now)
    scheduler.run_due(world.now)

    assert world.dates() == ["2024-03-10T12:00:00Z"]


def test_dates_of_a_list_become_the_schedule_date_of_their_executions(world: World) -> None:
    dates = "['2024-03-01T10:00:00Z', '2024-03-02T10:00:00+01:00']"
    world.deploy(f"  - {{id: s, type: core.trigger.ScheduleOnDates, dates: {dates}{FREE}}}\n")

    world.pass_time(world.scheduler(), "2024-04-01T00:00:00+00:00")

    found = sorted(each.schedule_date for each in world.executions() if each.schedule_date)
    assert [date.isoformat() for date in found] == ["2024-03-01T10:00:00+00:00", "2024-03-02T09:00:00+00:00"]
    assert world.row().next_at is None


def test_a_schedule_of_a_flow_that_is_gone_is_put_to_rest(world: World) -> None:
    world.deploy(schedule("0 * * * *"))
    world.store.write(lambda db: db.flows.remove("a.b", "f", world.now, None))
    world.engine.catalogue.invalidate()

    created = world.scheduler().run_due(datetime(2024, 3, 1, 1, tzinfo=UTC))

    assert created == []
    assert world.row().next_at is None


def test_being_switched_off_survives_a_new_revision_and_makes_up_no_dates(world: World) -> None:
    world.deploy(schedule("0 * * * *"))
    world.switch(disabled=True)
    world.now = datetime(2024, 3, 1, 3, 30, tzinfo=UTC)
    world.deploy(schedule("30 * * * *"))

    created = world.scheduler().run_due(world.now)
    off = world.row()
    world.now = datetime(2024, 3, 1, 4, 10, tzinfo=UTC)
    world.switch(disabled=False)
    on = world.scheduler().run_due(world.now)

    assert (created, on) == ([], [])
    assert off.disabled
    assert world.row().next_at == datetime(2024, 3, 1, 4, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("recover", "expected"),
    [
        ("NONE", ["01:00", "05:00", "06:00"]),
        ("LAST", ["01:00", "04:00", "05:00", "06:00"]),
        ("ALL", ["01:00", "02:00", "03:00", "04:00", "05:00", "06:00"]),
    ],
)
def test_dates_that_passed_while_a_schedule_was_off_are_made_up_as_told(
    world: World, recover: Any, expected: list[str]
) -> None:
    world.deploy(schedule("0 * * * *", FREE))
    scheduler = world.scheduler()
    world.pass_time(scheduler, "2024-03-01T01:30:00+00:00")
    world.switch(disabled=True)
    world.pass_time(scheduler, "2024-03-01T04:30:00+00:00")
    world.switch(disabled=False, recover=recover)

    world.pass_time(scheduler, "2024-03-01T06:30:00+00:00")

    assert [date[11:16] for date in world.dates()] == expected


def test_a_commit_that_leaves_a_schedule_alone_loses_no_date(world: World) -> None:
    world.deploy(schedule("0 * * * *"))
    world.now = datetime(2024, 3, 1, 1, 30, tzinfo=UTC)

    world.deploy(schedule("0 * * * *"), more="description: changed\n")
    kept = world.row().next_at
    world.deploy(schedule("15 * * * *"))

    assert kept == datetime(2024, 3, 1, 1, tzinfo=UTC)
    assert world.row().next_at == datetime(2024, 3, 1, 2, 15, tzinfo=UTC)


def test_rows_of_triggers_that_are_gone_are_removed(world: World) -> None:
    world.deploy(schedule("0 * * * *") + schedule("0 * * * *", trigger_id="t"))

    world.deploy(schedule("0 * * * *"))
    left = world.store.read(lambda db: [row.trigger_id for row in db.triggers.all()])
    world.store.write(lambda db: activated(db, [], [("a.b", "f")], world.now, UTC_ZONE))

    assert left == ["s"]
    assert world.store.read(lambda db: db.triggers.all()) == []


def test_an_execution_whose_time_has_come_is_rung_once_for_a_while(world: World) -> None:
    world.deploy(schedule("0 0 1 1 *"))
    at = datetime(2024, 3, 1, 0, 0, 10, tzinfo=UTC)
    execution = world.engine.create(NewExecution("a.b", "f", schedule_date=at))
    scheduler = world.scheduler()

    early = scheduler.ring_due(at - timedelta(seconds=1))
    rung = scheduler.ring_due(at)
    again = scheduler.ring_due(at)

    assert (early, rung, again) == ([], [execution.id], [])


def test_the_next_timer_of_an_execution_is_rung_for_at_once(world: World) -> None:
    world.deploy(schedule("0 0 1 1 *"))
    at = datetime(2024, 3, 1, 0, 0, 10, tzinfo=UTC)
    execution = world.engine.create(NewExecution("a.b", "f", schedule_date=at))
    scheduler = world.scheduler()
    first = scheduler.ring_due(at)
    later = replace(execution, due_at=at + timedelta(seconds=1), version=execution.version + 1)
    world.store.write(lambda db: db.executions.commit(Commit(later, execution.version)))

    second = scheduler.ring_due(at + timedelta(seconds=1))

    assert (first, second) == ([execution.id], [execution.id])


def test_the_scheduler_sleeps_until_something_is_due_but_no_longer_than_a_second(world: World) -> None:
    world.deploy(schedule("0 * * * *"))
    scheduler = world.scheduler()

    far = scheduler.seconds_to_next(datetime(2024, 3, 1, 0, 30, tzinfo=UTC))
    near = scheduler.seconds_to_next(datetime(2024, 3, 1, 0, 59, 59, 750_000, tzinfo=UTC))
    due = scheduler.seconds_to_next(datetime(2024, 3, 1, 1, tzinfo=UTC))

    assert (far, near, due) == (1.0, 0.25, 0.0)


CRONS = [
    ("* * * * *", "UTC"),
    ("*/7 * * * *", "Europe/Paris"),
    ("30 2 * * *", "Europe/Paris"),
    ("*/20 2,3 * * *", "Europe/Paris"),
    ("0 * * * *", "America/New_York"),
    ("15 1 * * *", "America/New_York"),
    ("@hourly", "Asia/Kolkata"),
    ("*/30 0-6 * * *", "Australia/Lord_Howe"),
]


@pytest.mark.parametrize("start", ["2024-03-30T22:00:00+00:00", "2024-10-26T22:00:00+00:00"])
def test_three_schedulers_start_one_execution_per_date_through_a_change_of_the_clock(world: World, start: str) -> None:
    world.now = begin = datetime.fromisoformat(start)
    end = begin + timedelta(hours=24)
    for number, (cron, zone) in enumerate(CRONS):
        world.deploy(schedule(cron, f"{FREE}, timezone: {zone}"), flow_id=f"f{number}")
    schedulers = [world.scheduler() for _ in range(3)]
    order = random.Random(start)

    while (due := world.store.read(lambda db: db.triggers.next_due())) is not None and due <= end:
        world.now = max(world.now, due) + timedelta(seconds=order.choice([0, 0, 0.5, 90]))
        if order.random() < 0.02:
            schedulers[order.randrange(3)] = world.scheduler()  # one was killed and came back
            schedulers[0].recover(world.now)
        threads = [threading.Thread(target=one.run_due, args=(world.now,)) for one in order.sample(schedulers, 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = Counter((each.flow_id, each.trigger.variables["date"]) for each in world.executions() if each.trigger)

    assert set(found.values()) == {1}
    for number in range(len(CRONS)):
        trigger = world.engine.catalogue.get("a.b", f"f{number}").triggers[0]
        assert isinstance(trigger, Schedule)
        expected = {date.isoformat() for date in dates_between(trigger, begin + timedelta(seconds=1), end, UTC_ZONE)}
        own = {
            datetime.fromisoformat(date).astimezone(UTC).isoformat()
            for flow_id, date in found
            if flow_id == f"f{number}" and datetime.fromisoformat(date) <= end
        }
        assert own == expected


def until(condition: Callable[[], bool], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.005)
    return False


@pytest.mark.alone("its thread must come up in time")
def test_the_thread_fires_in_time_wakes_when_told_and_stops_within_a_second(world: World) -> None:
    world.now = datetime(2024, 3, 1, 0, 0, 30, tzinfo=UTC)
    world.deploy(schedule("* * * * *", FREE))
    scheduler = world.scheduler()
    runs: list[float] = []
    scheduler.every(0.01, lambda: runs.append(time.monotonic()))

    scheduler.start()
    world.now = datetime(2024, 3, 1, 0, 1, tzinfo=UTC)
    scheduler.wake()
    fired = until(lambda: len(world.dates()) == 1, 10)  # unwoken it would sleep for half a minute
    ran = until(lambda: len(runs) >= 2, 10)
    began = time.monotonic()
    scheduler.stop()

    assert fired
    assert ran
    assert time.monotonic() - began < 1


def test_a_job_that_fails_runs_again_and_harms_no_other(caplog: pytest.LogCaptureFixture) -> None:
    jobs = Periodic()
    runs: list[str] = []

    def fail() -> None:
        runs.append("bad")
        raise OSError("disk")

    jobs.every(0.001, fail)
    jobs.every(0.001, lambda: runs.append("good"))
    jobs.start()
    went_on = until(lambda: runs.count("bad") >= 2 and runs.count("good") >= 2)
    jobs.stop()

    assert went_on
    assert "a periodic job failed" in caplog.text
