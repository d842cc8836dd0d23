"""Functions on dates: the present, and the questions that `when` of a schedule asks."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from runner.errors import ExpressionError
from runner.expressions.frame import Frame
from runner.expressions.moments import formatted, iso_moment, moment_of, zone_for
from runner.expressions.registry import function, nearest

_DAYS: Final = ("MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY")
_POSITIONS: Final = {"FIRST": 1, "SECOND": 2, "THIRD": 3, "FOURTH": 4, "LAST": -1}
_WEEK: Final = 7
_SATURDAY: Final = 5


@function()
def now(
    frame: Frame,
    format: str | None = None,  # noqa: A002 - the name used in templates
    time_zone: str | None = None,
    existing_format: str | None = None,  # noqa: ARG001 - Kestra takes it and has no use for it either
    locale: str | None = None,
) -> str:
    """Return the present as text, in a named format (`iso` by default) or a pattern, in the server's zone.

    Example:
        {{ now('yyyy-MM-dd HH:mm', timeZone='Asia/Tokyo') }} -> 2024-06-01 21:00
    """
    return formatted(frame.services.now().astimezone(zone_for(frame, time_zone)), format, locale)


def _day(frame: Frame, value: Any) -> datetime:
    """Return the date in the zone it is written in: a Saturday stays one whatever the server's zone is."""
    if isinstance(value, str):
        moment = iso_moment(value)
        return moment if moment.tzinfo else moment.replace(tzinfo=frame.services.zone)
    return moment_of(frame, value)


@function("isWeekend")
def is_weekend(frame: Frame, date: Any) -> bool:
    """Return whether the date is a Saturday or a Sunday.

    Example:
        {{ isWeekend('2024-06-01') }} -> true
    """
    return _day(frame, date).weekday() >= _SATURDAY


@function("isPublicHoliday")
def is_public_holiday(frame: Frame, date: Any, country: str, sub_division: str | None = None) -> bool:
    """Return whether the date is a public holiday of a country (ISO 3166 code), or of a part of it.

    Example:
        {{ isPublicHoliday('2024-07-14', 'FR') }} -> true
    """
    return _day(frame, date).date() in _holidays(country.upper(), sub_division)


@lru_cache(maxsize=100)
def _holidays(country: str, sub_division: str | None) -> Any:
    import holidays

    part = sub_division.rpartition("-")[2].upper() if sub_division else None
    try:
        return holidays.country_holidays(country, subdiv=part)
    except NotImplementedError:  # how the library says that it knows no such place
        raise ExpressionError(
            "expression.argument", f"no holidays are known for {country} {part or ''}".strip()
        ) from None


@function("isDayWeekInMonth")
def is_day_week_in_month(frame: Frame, date: Any, day_of_week: str, position: str) -> bool:
    """Return whether the date is the `FIRST`, `SECOND`, `THIRD`, `FOURTH` or `LAST` such day of its month.

    Example:
        {{ isDayWeekInMonth('2024-06-03', 'MONDAY', 'FIRST') }} -> true
    """
    moment = _day(frame, date)
    weekday = _index(day_of_week, _DAYS, "day of the week")
    place = str(position).upper()
    if place not in _POSITIONS:
        raise ExpressionError("expression.argument", f"no position in a month is named {position!r}")
    if moment.weekday() != weekday:
        return False
    if place == "LAST":
        return (moment + timedelta(days=_WEEK)).month != moment.month
    return (moment.day - 1) // _WEEK + 1 == _POSITIONS[place]


def _index(name: str, names: tuple[str, ...], what: str) -> int:
    if str(name).upper() not in names:
        raise ExpressionError(
            "expression.argument", f"no {what} is named {name!r}", hint=nearest(str(name).upper(), names)
        )
    return names.index(str(name).upper())


@function("isLastWorkingDay")
def is_last_working_day(frame: Frame, date: Any, days: list[str] | None = None) -> bool:
    """Return whether the date is the last of its month that falls on one of `days` (Monday to Friday by default).

    Example:
        {{ isLastWorkingDay('2024-06-28') }} -> true
    """
    moment = _day(frame, date)
    working = {_index(day, _DAYS, "day of the week") for day in days} if days else set(range(_SATURDAY))
    if moment.weekday() not in working:
        return False
    later = (moment + timedelta(days=ahead) for ahead in range(1, 32))
    return not any(other.month == moment.month and other.weekday() in working for other in later)


@function("dayOfWeek")
def day_of_week(frame: Frame, date: Any) -> str:
    """Return the day of the week in capitals.

    Example:
        {{ dayOfWeek('2024-06-03') }} -> MONDAY
    """
    return _DAYS[_day(frame, date).weekday()]


@function("dayOfMonth")
def day_of_month(frame: Frame, date: Any) -> int:
    """Return the day of the month, from 1.

    Example:
        {{ dayOfMonth('2024-06-03') }} -> 3
    """
    return _day(frame, date).day


@function("monthOfYear")
def month_of_year(frame: Frame, date: Any) -> int:
    """Return the month, from 1.

    Example:
        {{ monthOfYear('2024-06-03') }} -> 6
    """
    return _day(frame, date).month


@function("hourOfDay")
def hour_of_day(frame: Frame, date: Any) -> int:
    """Return the hour, 0 to 23.

    Example:
        {{ hourOfDay('2024-06-03T17:30:00') }} -> 17
    """
    return _day(frame, date).hour


@function("isDateBefore")
def is_date_before(frame: Frame, date: Any, before: Any) -> bool:
    """Return whether the date is earlier than `before`.

    Example:
        {{ isDateBefore('2024-06-03', '2024-06-04') }} -> true
    """
    return _day(frame, date) < _day(frame, before)


@function("isDateAfter")
def is_date_after(frame: Frame, date: Any, after: Any) -> bool:
    """Return whether the date is later than `after`.

    Example:
        {{ isDateAfter('2024-06-03', '2024-06-04') }} -> false
    """
    return _day(frame, date) > _day(frame, after)


@function("isDateBetween")
def is_date_between(frame: Frame, date: Any, after: Any, before: Any) -> bool:
    """Return whether the date is later than `after` and earlier than `before`.

    Example:
        {{ isDateBetween('2024-06-03', '2024-06-01', '2024-06-04') }} -> true
    """
    return _day(frame, after) < _day(frame, date) < _day(frame, before)
