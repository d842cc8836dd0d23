"""Reads dates out of the values that date filters and functions are given."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, tzinfo
from typing import Any, Final

from runner.errors import ExpressionError
from runner.expressions.frame import Frame
from runner.expressions.locales import locale_named
from runner.expressions.patterns import UTC_FORMATS, format_moment, parse_moment, zone_named
from runner.expressions.values import is_number, kind_of

_ISO: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2})?)(?:[.,](\d{1,9}))?)?"
    r"\s?(Z|[+-]\d{2}(?::?\d{2})?)?(?:\[([^\]]+)\])?"
)


def zone_for(frame: Frame, time_zone: str | None) -> tzinfo:
    """Return the zone called `time_zone`, that of the server when none is named."""
    return zone_named(time_zone) if time_zone else frame.services.zone


def moment_of(
    frame: Frame,
    value: Any,
    time_zone: str | None = None,
    existing_format: str | None = None,
    locale: str | None = None,
) -> datetime:
    """Return the moment that `value` names, in the zone `time_zone`.

    Numbers are seconds since 1970, text is ISO 8601 or in `existing_format`, days without a time are midnight in text
    and noon as dates. Without `time_zone`, an offset that the value carries is kept; instants and values without one
    are in the server's zone.
    """
    zone = zone_for(frame, time_zone)
    moment = _read(value, existing_format, locale)
    if moment.tzinfo is None:
        return moment.replace(tzinfo=zone)
    if time_zone or moment.tzname() == "UTC":
        return moment.astimezone(zone)
    return moment


def _read(value: Any, existing_format: str | None, locale: str | None) -> datetime:
    if isinstance(value, str):
        return parse_moment(value, existing_format, locale_named(locale)) if existing_format else iso_moment(value)
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime.combine(value, time(12))
    if is_number(value):
        try:
            return datetime.fromtimestamp(float(value), UTC)
        except (OverflowError, ValueError, OSError):
            raise ExpressionError("expression.date", f"{value} seconds are no date") from None
    raise ExpressionError("expression.date", f"{kind_of(value)} is no date")


def iso_moment(text: str) -> datetime:
    """Return the date of an ISO 8601 text: with offset or region, without, or only a day."""
    match = _ISO.fullmatch(text.strip())
    if match is None:
        raise ExpressionError(
            "expression.date",
            f"Text '{text[:100]}' could not be parsed as a date",
            hint="name its form: existingFormat",
        )
    day, clock, fraction, offset, region = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock or '00:00'}")
    except ValueError as error:
        raise ExpressionError("expression.date", f"Text '{text[:100]}' is no date: {error}") from None
    if fraction:
        moment = moment.replace(microsecond=int(fraction.ljust(9, "0")) // 1000)
    if region:
        zone = zone_named(region)
        return moment.replace(tzinfo=zone_named(offset)).astimezone(zone) if offset else moment.replace(tzinfo=zone)
    return moment.replace(tzinfo=zone_named(offset)) if offset else moment


def formatted(moment: datetime, pattern: str | None, locale: str | None) -> str:
    """Return `moment` in a named format or a pattern of Java's `DateTimeFormatter`; `iso` when none is given."""
    if pattern is not None and pattern.lower() in UTC_FORMATS:
        utc = moment.astimezone(UTC)
        fraction = f".{utc.microsecond:06d}".removesuffix("000") if utc.microsecond else ""
        return f"{utc:%Y-%m-%dT%H:%M:%S}{fraction}Z"
    return format_moment(moment, pattern or "iso", locale_named(locale))
