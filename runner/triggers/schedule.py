"""When a schedule fires next, and what an execution it starts knows about its date.

Dates that a condition on the date refuses are skipped, ahead and behind; conditions that depend on more than the date
(an expression on a key-value pair, say) are asked when the date has come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from runner.errors import MainstemError
from runner.triggers.conditions import ConditionContext, PureCondition, RenderText, all_hold
from runner.triggers.cron import check_cron, next_fire, previous_fire
from runner.triggers.dates import iso, parse_date, parse_zone
from runner.triggers.models import Schedule, ScheduleOnDates

__all__ = [
    "Tick",
    "check_cron",
    "date_variables",
    "dates_between",
    "following",
    "latest",
    "next_fire",
    "plan",
    "preceding",
    "previous_fire",
    "tick_at",
    "zone_of",
]

Scheduled = Schedule | ScheduleOnDates
SEARCH: Final = timedelta(days=3653)
"""How far ahead and behind a date is searched for which the conditions hold: ten years, as Kestra does."""
_MAX_CANDIDATES: Final = 5_000  # dates that are tested one by one, about a second; ranges that cannot hold are skipped


@dataclass(frozen=True, slots=True)
class Tick:
    """A date of a schedule, in the schedule's zone, and what expressions see as `trigger`."""

    date: datetime
    variables: dict[str, Any]


def zone_of(trigger: Scheduled, default: ZoneInfo) -> ZoneInfo:
    """Return the schedule's zone, the server's where it names none. Raises `InvalidError` `zone.unknown`."""
    return parse_zone(trigger.timezone) if trigger.timezone else default


def following(trigger: Scheduled, after: datetime, zone: ZoneInfo) -> datetime | None:
    """Return the schedule's first date strictly later than `after`, conditions aside; None when there is none."""
    zone = zone_of(trigger, zone)
    if isinstance(trigger, Schedule):
        return next_fire(trigger.cron, after, zone, with_seconds=trigger.with_seconds)
    return next((date for date in _listed(trigger, zone) if date > after), None)


def preceding(trigger: Scheduled, before: datetime, zone: ZoneInfo) -> datetime | None:
    """Return the schedule's last date strictly earlier than `before`, conditions aside; None when there is none."""
    zone = zone_of(trigger, zone)
    if isinstance(trigger, Schedule):
        return previous_fire(trigger.cron, before, zone, with_seconds=trigger.with_seconds)
    return next((date for date in reversed(_listed(trigger, zone)) if date < before), None)


def plan(trigger: Scheduled, after: datetime, zone: ZoneInfo, render: RenderText) -> datetime | None:
    """Return when the schedule must be looked at next after `after`, in UTC; None when it never fires again.

    Only conditions on the date count here. When they fail to be decided, the plain date is returned, so that the
    failure shows when the date has come.
    """
    conditions = [c for c in trigger.conditions if isinstance(c, PureCondition) and c.is_of_dates]
    candidate = None
    for candidate, is_last in _candidates(trigger, conditions, after, zone, render):
        if not is_last:
            return candidate.astimezone(UTC)
    return candidate.astimezone(UTC) if candidate is not None else None


def latest(trigger: Scheduled, since: datetime, now: datetime, zone: ZoneInfo, render: RenderText) -> datetime | None:
    """Return the last date later than `since`, up to `now`, for which the conditions on the date hold, in UTC."""
    at: datetime | None = now + timedelta(microseconds=1)
    while at is not None and (at := preceding(trigger, at, zone)) is not None and at > since:
        at = at.astimezone(UTC)
        if plan(trigger, at - timedelta(microseconds=1), zone, render) == at:
            return at
    return None


def dates_between(trigger: Scheduled, start: datetime, end: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    """Yield the schedule's dates from `start` to `end`, both counted in, in UTC, conditions aside."""
    at: datetime | None = start - timedelta(microseconds=1)
    while at is not None:
        at = following(trigger, at, zone)
        if at is None or at > end:
            return
        at = at.astimezone(UTC)
        yield at


def tick_at(
    trigger: Scheduled, date: datetime, now: datetime, zone: ZoneInfo, render: RenderText, when: Callable[[str], bool]
) -> Tick | None:
    """Return the tick for a planned date; None when it has not come yet or the conditions do not hold.

    A date that the schedule does not name (its cron was changed meanwhile) moves to the next one it names.

    Args:
        trigger: the schedule.
        date: the planned date.
        now: the current time.
        zone: the server's time zone.
        render: renders a template with the variables of the flow.
        when: tells whether the text that the trigger's `when` rendered to means yes.

    Raises:
        MainstemError: when a condition cannot be decided.
    """
    own = zone_of(trigger, zone)
    named = following(trigger, date - timedelta(microseconds=1), zone)
    if named is None or named.astimezone(UTC) > now:
        return None
    named = named.astimezone(own)
    if not all_hold(trigger.conditions, _context(named, render)):
        return None
    if trigger.when is not None and not when(render(trigger.when, {"trigger": {"date": iso(named)}})):
        return None
    return Tick(named, date_variables(trigger, named, zone, render))


def date_variables(trigger: Scheduled, date: datetime, zone: ZoneInfo, render: RenderText) -> dict[str, Any]:
    """Return `date`, `next` and `previous` of a tick, with the offset of the schedule's zone.

    `next` and `previous` are dates for which the conditions hold too, and absent when there are none within ten years.
    """
    if isinstance(trigger, ScheduleOnDates):
        return {"date": iso(date)}
    variables = {"date": iso(date)}
    conditions = [c for c in trigger.conditions if isinstance(c, PureCondition)]
    later = next((at for at, last in _candidates(trigger, conditions, date, zone, render) if not last), None)
    if later is not None:
        variables["next"] = iso(later)
    earlier = _earlier(trigger, conditions, date, zone, render)
    if earlier is not None:
        variables["previous"] = iso(earlier)
    return variables


def _candidates(
    trigger: Scheduled, conditions: list[PureCondition], after: datetime, zone: ZoneInfo, render: RenderText
) -> Iterator[tuple[datetime, bool]]:
    """Yield the next date for which the conditions hold, as (date, False).

    When the search is given up before it is decided, the date to go on from is yielded as (date, True).
    """
    own = zone_of(trigger, zone)
    limit = after.astimezone(UTC) + SEARCH if after < NEVER_AFTER else NEVER_AFTER
    at: datetime | None = after
    for _ in range(_MAX_CANDIDATES):
        assert at is not None
        at = following(trigger, at, zone)
        if at is None or (conditions and at > limit):
            return
        at = at.astimezone(own)
        try:
            failing = _failing(conditions, _context(at, render))
        except MainstemError:
            yield at, False
            return
        if failing is None:
            yield at, False
            return
        skip = failing.fails_until(at)
        if skip.astimezone(UTC) > limit:
            return
        if skip > at:
            at = skip.astimezone(UTC) - timedelta(microseconds=1)
    assert at is not None
    yield at.astimezone(own), True


NEVER_AFTER: Final = datetime(9000, 1, 1, tzinfo=UTC)
"""Beyond this no dates are searched."""


def _earlier(
    trigger: Schedule, conditions: list[PureCondition], before: datetime, zone: ZoneInfo, render: RenderText
) -> datetime | None:
    own = zone_of(trigger, zone)
    limit = before.astimezone(UTC) - SEARCH
    at: datetime | None = before
    for _ in range(_MAX_CANDIDATES if conditions else 1):
        assert at is not None
        at = preceding(trigger, at, zone)
        if at is None or at < limit:
            return None
        at = at.astimezone(own)
        try:
            if _failing(conditions, _context(at, render)) is None:
                return at
        except MainstemError:
            return at
    return None


def _failing(conditions: list[PureCondition], context: ConditionContext) -> PureCondition | None:
    return next((condition for condition in conditions if not condition.holds(context)), None)


def _context(date: datetime, render: RenderText) -> ConditionContext:
    variables = {"trigger": {"date": iso(date)}, "schedule": {"date": iso(date)}}
    return ConditionContext(_dated(iso(date), render), variables=variables)


def _dated(date: str, render: RenderText) -> RenderText:
    """Return a renderer that knows the one template nearly every condition uses, at a hundredth of the price."""

    def text(template: str, variables: Any = None, /) -> str:
        return date if template == "{{ trigger.date }}" else render(template, variables)

    return text


def _listed(trigger: ScheduleOnDates, zone: ZoneInfo) -> list[datetime]:
    """Return the dates of the list, sorted."""
    import json

    dates = trigger.dates
    if isinstance(dates, str):
        dates = tuple(json.loads(dates)) if dates.lstrip().startswith("[") else (dates,)
    return sorted(parse_date(text, zone).astimezone(zone) for text in dates)
