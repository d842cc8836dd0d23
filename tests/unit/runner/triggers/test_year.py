"""Every kind of trigger over a whole year with both changes of the clock, on a clock that the test moves."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from runner.flows.models import Flow
from runner.flows.parse import parse_flow
from runner.triggers.matching import concerns
from runner.triggers.matching import match as matches
from runner.triggers.starting import renderer
from runner.triggers.webhook import accepts, match, variables
from tests.unit.runner.test_poller import Site, Watch, asking, site, watch
from tests.unit.runner.test_scheduler import FREE, World, schedule, world
from tests.unit.runner.triggers.test_matching import change, listener
from tests.unit.runner.triggers.test_matching import render as render_plain

__all__ = ["site", "watch", "world"]

PARIS = ZoneInfo("Europe/Paris")


def days_of(year: int, zone: ZoneInfo, hour: int, minute: int) -> list[datetime]:
    """Return that time of every day, the first one of two."""
    first = datetime(year, 1, 1, hour, minute, tzinfo=zone)
    return [first + timedelta(days=number) for number in range((datetime(year + 1, 1, 1) - datetime(year, 1, 1)).days)]  # noqa: DTZ001 - a count of days


@pytest.mark.parametrize(
    ("zone", "year", "hour", "minute", "gap"),
    [
        ("Europe/Paris", 2024, 2, 30, ("2024-03-31T02:30:00+01:00", "2024-03-31T03:00:00+02:00")),
        ("America/New_York", 2024, 2, 30, ("2024-03-10T02:30:00-05:00", "2024-03-10T03:00:00-04:00")),
        ("America/New_York", 2024, 1, 30, None),
        ("America/Sao_Paulo", 2018, 0, 0, ("2018-11-04T00:00:00-03:00", "2018-11-04T01:00:00-02:00")),
        ("America/Sao_Paulo", 2018, 23, 30, None),
        ("Australia/Lord_Howe", 2024, 2, 15, ("2024-10-06T02:15:00+10:30", "2024-10-06T02:30:00+11:00")),
    ],
)
def test_a_daily_schedule_fires_once_on_each_day_of_the_year(
    world: World, zone: str, year: int, hour: int, minute: int, gap: tuple[str, str] | None
) -> None:
    world.now = datetime(year, 1, 1, tzinfo=ZoneInfo(zone)).astimezone(UTC) - timedelta(seconds=1)
    world.deploy(schedule(f"{minute} {hour} * * *", f"{FREE}, timezone: {zone}"))
    expected = [date.isoformat() for date in days_of(year, ZoneInfo(zone), hour, minute)]
    if gap is not None:
        expected[expected.index(gap[0])] = gap[1]

    world.pass_time(world.scheduler(), datetime(year, 12, 31, 23, 59, 59, tzinfo=ZoneInfo(zone)).isoformat())

    assert world.dates() == expected


@pytest.mark.parametrize("zone", ["Europe/Paris", "America/New_York"])
def test_a_schedule_of_seconds_misses_and_repeats_nothing_around_a_change_of_the_clock(world: World, zone: str) -> None:
    changes = {"Europe/Paris": "2024-10-27T00:30:00+00:00", "America/New_York": "2024-11-03T05:30:00+00:00"}
    begin = datetime.fromisoformat(changes[zone])
    world.now = begin - timedelta(seconds=1)
    world.deploy(schedule("0,30 */15 * * * *", f"{FREE}, withSeconds: true, timezone: {zone}"))

    world.pass_time(world.scheduler(), (begin + timedelta(minutes=59)).isoformat())

    dates = [datetime.fromisoformat(date).astimezone(UTC) for date in world.dates()]
    assert sorted(dates) == [
        begin + timedelta(minutes=15 * quarter, seconds=30 * half) for quarter in range(4) for half in range(2)
    ]


def test_the_dates_of_a_list_fire_once_each_at_their_time_in_the_zone(world: World) -> None:
    listed = [f"2024-{month:02}-{day:02}T02:30:00" for month in range(1, 13) for day in (1, 27)]
    world.now = datetime(2023, 12, 31, tzinfo=UTC)
    dates = "[" + ", ".join(f"'{date}'" for date in listed) + "]"
    world.deploy(f"  - {{id: s, type: core.trigger.ScheduleOnDates, timezone: Europe/Paris, dates: {dates}{FREE}}}\n")

    world.pass_time(world.scheduler(), "2025-01-01T00:00:00+00:00")

    expected = [datetime.fromisoformat(date).replace(tzinfo=PARIS) for date in listed]
    assert [each.schedule_date for each in world.executions()] == [date.astimezone(UTC) for date in expected]
    assert world.row().next_at is None


def test_a_poll_keeps_its_interval_over_the_year(watch: Watch, site: Site) -> None:
    watch.clock[0] = datetime(2024, 1, 1, tzinfo=PARIS).astimezone(UTC)
    watch.deploy(asking(site).replace("PT1M", "P7D"))
    looked = []

    while watch.now.year < 2025:
        before = site.asked
        watch.look()
        if site.asked > before:
            looked.append(watch.now)
            watch.end()
        watch.wait(24 * 3600)

    assert len(looked) == 53
    assert {later - earlier for earlier, later in itertools.pairwise(looked)} == {timedelta(days=7)}


BOTH = """
    preconditions:
      id: both
      flows: [{{namespace: a.b, flowId: one}}, {{namespace: a.b, flowId: two}}]
      timeWindow: {window}
"""
DEADLINE = "{type: DAILY_TIME_DEADLINE, deadline: '09:00:00'}"
MORNING = "{type: DAILY_TIME_WINDOW, startTime: '06:00:00', endTime: '09:00:00'}"


def fires_on(days: int, zone: ZoneInfo, window: str, first: tuple[int, int], second: tuple[int, int]) -> list[str]:
    """Return the days of 2024 on which the second of two flows fires; each ends at a time of the day."""
    flow, trigger = listener(BOTH.format(window=window))
    memory: dict[str, Any] = {}
    fired = []
    for day in range(days):
        for flow_id, (hours, minutes) in (("one", first), ("two", second)):
            at = datetime(2024, 1, 1, tzinfo=zone) + timedelta(days=day, hours=hours, minutes=minutes)
            event = change(flow_id, at=at.astimezone(UTC).replace(tzinfo=None).isoformat())
            assert concerns(flow, trigger, event)
            found = matches(trigger, event, memory, zone, render_plain)
            memory = found.memory
            fired += [f"{datetime(2024, 1, 1) + timedelta(days=day):%m-%d}"] if found.fires else []  # noqa: DTZ001 - a day, no moment
    return fired


@pytest.mark.parametrize(
    ("window", "first", "second", "count"),
    [
        ("{}", (0, 10), (23, 50), 366),
        ("{windowAdvance: PT4H}", (4, 10), (27, 50), 366),
        ("{window: P2D}", (0, 10), (23, 50), 366),
        (DEADLINE, (1, 0), (8, 59), 366),
        (DEADLINE, (1, 0), (9, 1), 0),
        (MORNING, (6, 0), (9, 0), 366),
        (MORNING, (5, 59), (7, 0), 0),
    ],
)
@pytest.mark.parametrize("zone", ["Europe/Paris", "America/New_York"])
def test_a_flow_trigger_counts_by_the_days_of_the_zone(
    zone: str, window: str, first: tuple[int, int], second: tuple[int, int], count: int
) -> None:
    assert len(fires_on(366, ZoneInfo(zone), window, first, second)) == count


@pytest.mark.parametrize(("zone", "long_day"), [("Europe/Paris", "10-27"), ("America/New_York", "11-03")])
def test_a_sliding_window_goes_by_real_time(zone: str, long_day: str) -> None:
    sliding = "{type: SLIDING_WINDOW, window: PT23H}"

    fired = fires_on(366, ZoneInfo(zone), sliding, (0, 30), (23, 30))

    # On the long day 24 hours lie between them. The next first one comes an hour after the second and fires instead.
    every_day = {f"{date:%m-%d}" for date in days_of(2024, PARIS, 12, 0)}
    assert every_day - set(fired) == {long_day}


HOOKED = """
id: hooked
namespace: a.b
tasks: [{id: t, type: core.debug.Return}]
triggers:
  - id: on
    type: core.trigger.Webhook
    key: k
    conditions: [{type: core.condition.Weekend, date: "{{ trigger.body.at }}"}]
    when: "{{ not isDayWeekInMonth(trigger.body.at, 'SUNDAY', 'LAST') and hourOfDay(trigger.body.at) == 2 }}"
"""


def test_a_webhook_is_judged_by_the_day_of_its_request(world: World) -> None:
    flow = _flow(HOOKED)
    draft_now = datetime(2024, 1, 1, tzinfo=UTC)
    world.deploy("  - {id: s, type: core.trigger.Webhook, key: k}\n")
    version = world.engine.catalogue.version("a.b", "f")
    render = renderer(world.engine.host, flow, version, draft_now)
    trigger = match(flow, "k", render)
    assert trigger is not None
    months: Counter[int] = Counter()

    for date in days_of(2024, PARIS, 2, 30):
        seen = variables(f'{{"at": "{date.isoformat()}"}}'.encode(), [], [])
        months[date.month] += accepts(flow, trigger, seen, render)

    weekends = Counter(date.month for date in days_of(2024, PARIS, 2, 30) if date.isoweekday() > 5)
    assert months == {month: count - 1 for month, count in weekends.items()}


def _flow(source: str) -> Flow:
    found = parse_flow(source).flow
    assert found is not None
    return found
