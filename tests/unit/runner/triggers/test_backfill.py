"""Backfills: every date of the past once, then the schedule goes on; through the scheduler and as rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from runner.errors import ConflictError, InvalidError
from runner.store.records import TriggerState
from runner.triggers.backfill import Backfill, backfill_of, begun, ended, paused, unpaused
from runner.triggers.models import Schedule
from tests.unit.runner.test_scheduler import FREE, World, schedule, world

__all__ = ["world"]

NOW = datetime(2024, 3, 10, 12, 30, tzinfo=UTC)
NEXT = datetime(2024, 3, 11, tzinfo=UTC)
UTC_ZONE = ZoneInfo("UTC")
DAILY = Schedule(id="s", type="core.trigger.Schedule", cron="0 0 * * *")
ROW = TriggerState("a.b", "f", "s", next_at=NEXT)


def asked(start: str, end: str = "2024-03-10T12:00:00+00:00", **fields: Any) -> Backfill:
    begin = datetime.fromisoformat(start)
    return Backfill("one", begin, datetime.fromisoformat(end), begin, None, **fields)


def plain(template: str, _variables: Any = None, /) -> str:
    return template


def begin(backfill: Backfill, row: TriggerState = ROW, trigger: Schedule = DAILY) -> TriggerState:
    return begun(row, trigger, backfill, NOW, UTC_ZONE, plain)


@pytest.fixture
def daily(world: World) -> World:
    world.now = NOW
    world.deploy(schedule("0 0 * * *", FREE))
    return world


def put(world: World, change: Callable[[TriggerState], TriggerState]) -> None:
    row = change(world.row())
    world.store.write(lambda db: db.triggers.put(row))


def test_every_date_from_start_to_end_runs_once_and_the_schedule_goes_on(daily: World) -> None:
    put(daily, lambda row: begin(asked("2024-03-07T00:00:00+00:00", "2024-03-09T00:00:00+00:00"), row))

    daily.pass_time(daily.scheduler(), "2024-03-11T00:00:30+00:00")

    assert [date[:10] for date in daily.dates()] == ["2024-03-07", "2024-03-08", "2024-03-09", "2024-03-11"]
    assert backfill_of(daily.row()) is None
    assert daily.row().next_at == datetime(2024, 3, 12, tzinfo=UTC)


def test_dates_that_the_schedule_had_already_run_again(daily: World) -> None:
    scheduler = daily.scheduler()
    daily.pass_time(scheduler, "2024-03-12T01:00:00+00:00")
    for number in ("one", "two"):
        again = replace(asked("2024-03-11T00:00:00+00:00", "2024-03-11T00:00:00+00:00"), id=number)
        put(daily, lambda row, again=again: begun(row, DAILY, again, daily.now, UTC_ZONE, plain))  # type: ignore[misc]
        daily.pass_time(scheduler, "2024-03-12T01:00:00+00:00")

    assert [date[:10] for date in daily.dates()] == ["2024-03-11", "2024-03-11", "2024-03-11", "2024-03-12"]


def test_its_inputs_and_labels_are_added_as_they_are(world: World) -> None:
    world.now = NOW
    world.deploy(
        schedule("0 0 * * *", FREE + ", inputs: {who: schedule, what: kept}"),
        more="inputs: [{id: who, type: STRING}, {id: what, type: STRING}]\n",
    )
    own = asked("2024-03-10T00:00:00+00:00", inputs={"who": "{{ secret('X') }}"}, labels={"why": "{{ 1 + 1 }}"})
    put(world, lambda row: begin(own, row))

    world.pass_time(world.scheduler(), "2024-03-10T12:31:00+00:00")

    (execution,) = world.executions()
    assert execution.inputs == {"who": "{{ secret('X') }}", "what": "kept"}
    assert execution.labels["why"] == "{{ 1 + 1 }}"


def test_it_waits_for_each_execution_as_the_schedule_does(world: World) -> None:
    world.now = NOW
    world.deploy(schedule("0 0 * * *"))
    put(world, lambda row: begin(asked("2024-03-08T00:00:00+00:00"), row))
    scheduler = world.scheduler()

    world.pass_time(scheduler, "2024-03-10T12:31:00+00:00")
    first = world.dates()
    world.end(world.executions()[0])
    world.pass_time(scheduler, "2024-03-10T12:32:00+00:00")

    assert (len(first), len(world.dates())) == (1, 1)
    assert world.dates()[0].startswith("2024-03-09")


def test_lateness_and_a_rule_for_missed_dates_do_not_concern_it(world: World) -> None:
    world.now = NOW
    world.deploy(schedule("0 0 * * *", FREE + ", lateMaximumDelay: PT1M, recoverMissedSchedules: NONE"))
    put(world, lambda row: begin(asked("2024-03-08T00:00:00+00:00"), row))
    scheduler = world.scheduler()

    scheduler.recover(world.now)
    world.pass_time(scheduler, "2024-03-10T12:31:00+00:00")

    assert [date[:10] for date in world.dates()] == ["2024-03-08", "2024-03-09", "2024-03-10"]


def test_conditions_on_the_date_concern_it(world: World) -> None:
    world.now = NOW
    weekend = "conditions: [{type: core.condition.Weekend}]"
    world.deploy(schedule("0 0 * * *", f"{FREE}, {weekend}"))
    trigger = world.engine.catalogue.get("a.b", "f").triggers[0]
    assert isinstance(trigger, Schedule)
    put(world, lambda row: begin(asked("2024-03-01T00:00:00+00:00", "2024-03-04T00:00:00+00:00"), row, trigger))

    world.pass_time(world.scheduler(), "2024-03-10T12:31:00+00:00")

    assert [date[:10] for date in world.dates()] == ["2024-03-02", "2024-03-03"]


def test_while_it_is_paused_the_schedule_goes_on(daily: World) -> None:
    put(daily, lambda row: paused(begin(asked("2024-03-08T00:00:00+00:00"), row), NOW))
    scheduler = daily.scheduler()

    daily.pass_time(scheduler, "2024-03-11T06:00:00+00:00")
    meanwhile = [date[:10] for date in daily.dates()]
    put(daily, lambda row: unpaused(row, daily.now))
    daily.pass_time(scheduler, "2024-03-11T06:01:00+00:00")

    assert meanwhile == ["2024-03-11"]
    assert [date[:10] for date in daily.dates()] == ["2024-03-08", "2024-03-09", "2024-03-10", "2024-03-11"]
    assert daily.row().next_at == datetime(2024, 3, 12, tzinfo=UTC)


def test_a_new_revision_keeps_it_on_the_dates_of_the_new_schedule(daily: World) -> None:
    put(daily, lambda row: begin(asked("2024-03-09T00:00:00+00:00"), row))

    daily.deploy(schedule("0 6 * * *", FREE))
    daily.pass_time(daily.scheduler(), "2024-03-11T07:00:00+00:00")

    assert [date[:13] for date in daily.dates()] == ["2024-03-09T06", "2024-03-10T06", "2024-03-11T06"]


def test_dates_that_came_meanwhile_run_after_it(world: World) -> None:
    world.now = NOW
    world.deploy(schedule("0 0 * * *"))
    put(world, lambda row: begin(asked("2024-03-10T00:00:00+00:00"), row))
    scheduler = world.scheduler()

    world.pass_time(scheduler, "2024-03-12T12:00:00+00:00")
    world.end(world.executions()[0])
    world.pass_time(scheduler, "2024-03-12T12:01:00+00:00")

    assert [date[:10] for date in world.dates()] == ["2024-03-11"]


def test_its_end_is_now_at_the_latest() -> None:
    row = begin(asked("2024-03-09T00:00:00+00:00", "2030-01-01T00:00:00+00:00"))

    backfill = backfill_of(row)

    assert backfill is not None
    assert (backfill.at, backfill.end) == (datetime(2024, 3, 9, tzinfo=UTC), NOW)
    assert (row.next_at, backfill.resume_at) == (backfill.at, NEXT)


@pytest.mark.parametrize(
    ("row", "start", "end", "code"),
    [
        (begin(asked("2024-03-09T00:00:00+00:00")), "2024-03-09T00:00:00+00:00", NOW.isoformat(), "present"),
        (replace(ROW, disabled=True), "2024-03-09T00:00:00+00:00", NOW.isoformat(), "off"),
        (replace(ROW, next_at=None), "2024-03-09T00:00:00+00:00", NOW.isoformat(), "off"),
        (ROW, "2024-03-09T00:00:00+00:00", "2024-03-08T00:00:00+00:00", "invalid"),
        (ROW, "2024-03-09T01:00:00+00:00", "2024-03-09T23:00:00+00:00", "invalid"),
        (ROW, "2025-01-01T00:00:00+00:00", "2025-02-01T00:00:00+00:00", "invalid"),
    ],
)
def test_a_backfill_that_cannot_be_is_refused(row: TriggerState, start: str, end: str, code: str) -> None:
    with pytest.raises((ConflictError, InvalidError)) as caught:
        begin(asked(start, end), row)

    assert caught.value.code == f"trigger.backfill.{code}"


@pytest.mark.parametrize(
    ("change", "row", "code"),
    [
        (paused, ROW, "missing"),
        (unpaused, ROW, "missing"),
        (ended, ROW, "missing"),
        (paused, paused(begin(asked("2024-03-09T00:00:00+00:00")), NOW), "paused"),
        (unpaused, begin(asked("2024-03-09T00:00:00+00:00")), "running"),
    ],
)
def test_a_verb_that_does_not_fit_is_refused(change: Any, row: TriggerState, code: str) -> None:
    with pytest.raises(ConflictError) as caught:
        change(row, NOW)

    assert caught.value.code == f"trigger.backfill.{code}"


@pytest.mark.parametrize("is_paused", [False, True])
def test_one_that_is_ended_leaves_the_schedule_where_it_was(is_paused: bool) -> None:  # noqa: FBT001 - a column of the table
    row = begin(asked("2024-03-09T00:00:00+00:00"))

    after = ended(paused(row, NOW) if is_paused else row, NOW)

    assert backfill_of(after) is None
    assert after.next_at == NEXT
