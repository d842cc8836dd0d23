"""Filters on dates: text, epoch seconds or date values."""

from __future__ import annotations

import calendar
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from runner.errors import ExpressionError
from runner.expressions.frame import Frame
from runner.expressions.moments import formatted, moment_of
from runner.expressions.registry import filter_, nearest

_FIXED: Final = {
    "MICROS": timedelta(microseconds=1),
    "MILLIS": timedelta(milliseconds=1),
    "SECONDS": timedelta(seconds=1),
    "MINUTES": timedelta(minutes=1),
    "HOURS": timedelta(hours=1),
    "HALF_DAYS": timedelta(hours=12),
}
_CALENDAR_DAYS: Final = {"DAYS": 1, "WEEKS": 7}
_MONTHS: Final = {"MONTHS": 1, "YEARS": 12, "DECADES": 120, "CENTURIES": 1200}


@filter_()
def date(
    frame: Frame,
    value: Any,
    format: str | None = None,  # noqa: A002 - the name used in templates
    time_zone: str | None = None,
    existing_format: str | None = None,
    locale: str | None = None,
) -> str:
    """Return the date as text in a named format (`iso` by default) or a pattern of Java's DateTimeFormatter.

    Numbers are epoch seconds; text is ISO 8601 or in `existingFormat`.

    Example:
        {{ '2013-09-08T17:19:12' | date('dd MMM yyyy', timeZone='Europe/Paris') }} -> 08 Sep 2013
    """
    return formatted(moment_of(frame, value, time_zone, existing_format, locale), format, locale)


@filter_("dateAdd")
def date_add(
    frame: Frame,
    value: Any,
    amount: int,
    unit: str,
    format: str | None = None,  # noqa: A002 - the name used in templates
    time_zone: str | None = None,
    existing_format: str | None = None,
    locale: str | None = None,
) -> str:
    """Return the date moved by `amount` units (`NANOS` to `YEARS`, Java's ChronoUnit), as text.

    Days and longer units keep the time of day; shorter ones count real time.

    Example:
        {{ '2024-01-31T10:00:00Z' | dateAdd(1, 'MONTHS', 'yyyy-MM-dd') }} -> 2024-02-29
    """
    moment = moment_of(frame, value, time_zone, existing_format, locale)
    try:
        moved = moved_by(moment, amount, unit)
    except OverflowError:
        raise ExpressionError("expression.date", f"{amount} {unit} leave the calendar") from None
    return formatted(moved, format, locale)


def moved_by(moment: datetime, amount: int, unit: str) -> datetime:
    """Return `moment` moved by `amount` of a ChronoUnit."""
    name = str(unit).upper()
    if name in _CALENDAR_DAYS:
        return moment + timedelta(days=amount * _CALENDAR_DAYS[name])
    if name in _MONTHS:
        return _months_later(moment, amount * _MONTHS[name])
    if name == "NANOS":
        length = timedelta(microseconds=amount // 1000)
    elif name in _FIXED:
        length = amount * _FIXED[name]
    else:
        hint = nearest(name, ["NANOS", *_FIXED, *_CALENDAR_DAYS, *_MONTHS])
        raise ExpressionError("expression.argument", f"{unit!r} is no unit of time", hint=hint or "use DAYS, HOURS …")
    offset = moment.utcoffset()
    if offset is None:
        return moment + length

    return (moment.astimezone(UTC) + length).astimezone(moment.tzinfo)


def _months_later(moment: datetime, months: int) -> datetime:
    index = moment.year * 12 + moment.month - 1 + months
    year, month = divmod(index, 12)
    if not 1 <= year <= 9999:
        raise OverflowError
    day = min(moment.day, calendar.monthrange(year, month + 1)[1])
    return moment.replace(year=year, month=month + 1, day=day)


def _micros(frame: Frame, value: Any, time_zone: str | None, existing_format: str | None) -> int:
    moment = moment_of(frame, value, time_zone, existing_format)

    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@filter_()
def timestamp(frame: Frame, value: Any, time_zone: str | None = None, existing_format: str | None = None) -> int:
    """Return the date in whole seconds since 1970.

    Example:
        {{ '2013-09-08T16:19:12.123456+01:00' | timestamp }} -> 1378653552
    """
    return _micros(frame, value, time_zone, existing_format) // 10**6


@filter_("timestampMilli")
def timestamp_milli(frame: Frame, value: Any, time_zone: str | None = None, existing_format: str | None = None) -> int:
    """Return the date in milliseconds since 1970.

    Example:
        {{ '2013-09-08T16:19:12.123456+01:00' | timestampMilli }} -> 1378653552123
    """
    return _micros(frame, value, time_zone, existing_format) // 1000


@filter_("timestampMicro")
def timestamp_micro(frame: Frame, value: Any, time_zone: str | None = None, existing_format: str | None = None) -> str:
    """Return the date in microseconds since 1970, as text.

    Example:
        {{ '2013-09-08T16:19:12.123456+01:00' | timestampMicro }} -> 1378653552123456
    """
    return str(_micros(frame, value, time_zone, existing_format))


@filter_("timestampNano")
def timestamp_nano(frame: Frame, value: Any, time_zone: str | None = None, existing_format: str | None = None) -> str:
    """Return the date in nanoseconds since 1970, as text.

    Example:
        {{ '2013-09-08T16:19:12.123456+01:00' | timestampNano }} -> 1378653552123456000
    """
    return str(_micros(frame, value, time_zone, existing_format) * 1000)
