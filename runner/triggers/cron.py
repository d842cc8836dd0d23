"""Cron expressions: checked strictly, then searched by croniter on the wall clock of a time zone.

Five fields (minute, hour, day of month, month, day of week), six with seconds first. A field is `*`, a number, a range
`a-b`, a step `*/n`, `a-b/n`, `a/n`, or a list of these; months and days have English names of three letters; Sunday is
0 or 7. When both the day of month and the day of week are given, a day that matches either counts (crontab(5)).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from runner.errors import FlowError

if TYPE_CHECKING:
    from croniter import croniter

ALIASES: Final[Mapping[str, str]] = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAY_NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_MONTHS = {name: number for number, name in enumerate(_MONTH_NAMES, 1)}
_DAYS = {name: number for number, name in enumerate(_DAY_NAMES)}
_FIELDS: Final[tuple[tuple[str, int, int, Mapping[str, int]], ...]] = (
    ("seconds", 0, 59, {}),
    ("minutes", 0, 59, {}),
    ("hours", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _DAYS),
)
_PART = re.compile(r"(?P<low>\*|[a-z0-9]+)(?:-(?P<high>[a-z0-9]+))?(?:/(?P<step>[0-9]+))?")
_MAX_CHANGES: Final = 200  # of the clock that a search passes: two a year in the fifty years that are searched
_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)


def check_cron(cron: str, *, with_seconds: bool = False) -> None:
    """Check a cron expression.

    Raises:
        FlowError: `cron.invalid`, with the field that failed.
    """
    _fields(cron, with_seconds)


def next_fire(cron: str, after: datetime, zone: ZoneInfo, *, with_seconds: bool = False) -> datetime | None:
    """Return the first instant strictly later than `after` that `cron` names in `zone`; None when there is none.

    When the clocks change, expressions that fire in every hour follow real time: they fire in both of two equal hours
    and simply have no times in a skipped one. Of all others, a local time that the clock skips in spring fires at the
    first instant after the gap, and one that occurs twice in autumn fires the first time only (as Vixie cron does).
    "None" means no such day within the fifty years that are searched, such as 30 February.

    Raises:
        FlowError: `cron.invalid`, with the field that failed, when `cron` cannot be parsed.
    """
    fields = _fields(cron, with_seconds)
    local = after.astimezone(zone)
    found = _next_hourly(fields, local, zone) if fields.hourly else _next_fixed(fields, local, zone)
    return found.astimezone(zone) if found is not None else None


def previous_fire(cron: str, before: datetime, zone: ZoneInfo, *, with_seconds: bool = False) -> datetime | None:
    """Return the last instant strictly earlier than `before` at which `cron` fires in `zone`, as `next_fire` counts.

    Raises:
        FlowError: `cron.invalid`, with the field that failed, when `cron` cannot be parsed.
    """
    fields = _fields(cron, with_seconds)
    start = fields.search(before.astimezone(zone).replace(tzinfo=None, fold=0), forward=False)
    start = fields.search(start, forward=False) if start is not None else None
    if start is None:
        return None
    # Two steps back on the wall clock and, where the clock was changed, a bit more; then forward by the one rule.
    # In UTC, since two local times of one zone compare by their wall clocks.
    before = before.astimezone(UTC)
    at = _existing(start, zone).astimezone(UTC) - _SECOND
    if _changes_near(before, zone):
        at -= timedelta(hours=2)
    last = None
    while (found := next_fire(cron, at, zone, with_seconds=with_seconds)) is not None:
        at = found.astimezone(UTC)
        if at >= before:
            break
        last = found
    return last


class _Fields:
    """A checked expression: the text that croniter searches, and whether it fires in every hour of its days."""

    __slots__ = ("_lock", "_rows", "hourly", "seconds", "text")

    def __init__(self, parts: list[str], *, hourly: bool, seconds: bool) -> None:
        self.text = " ".join(parts)
        self.hourly = hourly
        self.seconds = seconds
        self._rows: croniter | None = None
        self._lock = threading.Lock()  # building a croniter costs four times a search, so one is shared

    def search(self, local: datetime, *, forward: bool) -> datetime | None:
        """Return the next or previous match on a wall clock without time zone; None within fifty years is never."""
        from croniter import CroniterBadDateError, croniter

        with self._lock:
            if self._rows is None:
                self._rows = croniter(self.text, local, second_at_beginning=self.seconds)
            self._rows.set_current(local, force=True)
            try:
                found = self._rows.get_next(datetime) if forward else self._rows.get_prev(datetime)
            except (CroniterBadDateError, OverflowError):
                return None
        return found


@lru_cache(maxsize=10_000)
def _fields(cron: str, with_seconds: bool) -> _Fields:  # noqa: FBT001 - the key of the cache
    words = ALIASES.get(cron.strip().lower(), cron).lower().split()
    if with_seconds and cron.strip().lower() in ALIASES:
        words = ["0", *words]
    kinds = _FIELDS if with_seconds else _FIELDS[1:]
    if len(words) != len(kinds):
        raise _invalid(cron, f"{len(kinds)} fields are needed, {len(words)} found")
    sets = [_values(cron, word, *kind) for word, kind in zip(words, kinds, strict=True)]
    parts = []
    for word, values, (_, low, high, _names) in zip(words, sets, kinds, strict=True):
        # A star stays one: whether a day field is restricted decides between "and" and "or".
        is_star = word == "*" or (values == set(range(low, high + 1)) and (low, high) not in {(1, 31), (0, 7)})
        parts.append("*" if is_star else ",".join(str(number) for number in sorted(values)))
    hours = sets[2 if with_seconds else 1]
    return _Fields(parts, hourly=len(hours) == 24, seconds=with_seconds)


def _values(cron: str, word: str, name: str, low: int, high: int, names: Mapping[str, int]) -> set[int]:
    """Return the numbers that a field names; Sunday is 0."""
    values: set[int] = set()
    for part in word.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise _invalid(cron, f"'{part}' is no {name}")
        first, last = low, high
        if match["low"] != "*":
            first = _number(cron, match["low"], name, low, high, names)
            last = high if match["step"] else first
        if match["high"]:
            if match["low"] == "*":
                raise _invalid(cron, f"'{part}' is no {name}")
            last = _number(cron, match["high"], name, low, high, names)
        step = int(match["step"] or 1)
        if first > last or not 1 <= step <= high:
            raise _invalid(cron, f"'{part}' is no range of {name}")
        values.update(range(first, last + 1, step))
    if high == 7:
        values = {number % 7 for number in values}
    return values


def _number(cron: str, text: str, name: str, low: int, high: int, names: Mapping[str, int]) -> int:
    number = int(text) if text.isdecimal() else names.get(text, -1)
    if not low <= number <= high:
        raise _invalid(cron, f"'{text}' is no {name}, which goes from {low} to {high}")
    return number


def _invalid(cron: str, reason: str) -> FlowError:
    return FlowError(
        "cron.invalid",
        f"invalid cron expression '{cron}': {reason}",
        hint="write minute, hour, day of month, month and day of week, such as `0 9 * * 1-5`",
    )


def _next_fixed(fields: _Fields, after: datetime, zone: ZoneInfo) -> datetime | None:
    local: datetime | None = after.replace(tzinfo=None, fold=0)
    while local is not None:
        local = fields.search(local, forward=True)
        if local is None:
            return None
        at = _existing(local, zone)
        if at.astimezone(UTC) > after.astimezone(UTC):
            return at
    return None


def _next_hourly(fields: _Fields, after: datetime, zone: ZoneInfo) -> datetime | None:
    start, begin = after.replace(tzinfo=None, fold=0), after.astimezone(UTC)
    offset = after.utcoffset()
    for _ in range(_MAX_CHANGES):
        assert offset is not None
        local = fields.search(start, forward=True)
        if local is None:
            return None
        at = (local - offset).replace(tzinfo=UTC)
        change = _change(begin, min(at, begin + _DAY), zone)
        if change is not None:  # go on at the change, on the wall clock that counts from there
            offset = change.astimezone(zone).utcoffset()
            start, begin = change.astimezone(zone).replace(tzinfo=None, fold=0) - _SECOND, change
        elif at.astimezone(zone).replace(tzinfo=None) == local:
            return at
        else:  # more than a day ahead, where another offset counts; the time itself may be skipped
            at = local.replace(tzinfo=zone).astimezone(UTC)
            if at.astimezone(zone).replace(tzinfo=None) == local:
                return at
            begin = _change(at - _DAY, at, zone) or at
            offset = begin.astimezone(zone).utcoffset()
            start = begin.astimezone(zone).replace(tzinfo=None, fold=0) - _SECOND
    return None


def _existing(local: datetime, zone: ZoneInfo) -> datetime:
    """Return the instant of a local time: the first of two, or the first after the gap in which it would be."""
    at = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if at.astimezone(zone).replace(tzinfo=None) == local:
        return at.astimezone(zone)
    change = _change(at - _DAY, at + _DAY, zone)
    return (change or at).astimezone(zone)


def _change(low: datetime, high: datetime, zone: ZoneInfo) -> datetime | None:
    """Return the first second with another UTC offset than `low` has, when `high` has another."""
    offset = low.astimezone(zone).utcoffset()
    if high.astimezone(zone).utcoffset() == offset:
        return None
    while high - low > _SECOND:
        middle = low + (high - low) / 2
        if middle.astimezone(zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)


def _changes_near(at: datetime, zone: ZoneInfo) -> bool:
    at = at.astimezone(UTC)
    near = timedelta(hours=3)
    return (at - near).astimezone(zone).utcoffset() != (at + near).astimezone(zone).utcoffset()
