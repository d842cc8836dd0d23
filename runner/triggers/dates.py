"""Dates and times as conditions and schedules write them, and the one way trigger variables show them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from runner.errors import InvalidError

_FRACTION = re.compile(r"(\.\d{6})\d+")
_ZONE_NAME = re.compile(r"\[[A-Za-z0-9_/+-]+\]$")


def parse_date(text: str, zone: ZoneInfo | None = None) -> datetime:
    """Return the aware time that `text` names: ISO-8601, a day alone means its midnight.

    Where the text has no offset, `zone` counts, or UTC.

    Raises:
        InvalidError: `condition.date.invalid` when it is no date.
    """
    plain = _ZONE_NAME.sub("", _FRACTION.sub(r"\1", text.strip()))
    try:
        moment = datetime.fromisoformat(plain)
    except ValueError:
        raise InvalidError(
            "condition.date.invalid", f"{text!r} is no date", hint="write it like 2024-01-31T12:00:00+01:00"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=zone or UTC)


def parse_time(text: str) -> time:
    """Return the time of day that `text` names, with its offset if it has one.

    Raises:
        InvalidError: `condition.time.invalid` when it is none.
    """
    try:
        return time.fromisoformat(_FRACTION.sub(r"\1", text.strip()))
    except ValueError:
        raise InvalidError(
            "condition.time.invalid", f"{text!r} is no time of day", hint="write it like 16:19:12+02:00"
        ) from None


def parse_zone(name: str) -> ZoneInfo:
    """Return the time zone called `name`.

    Raises:
        InvalidError: `zone.unknown` when there is none.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidError(
            "zone.unknown",
            f"timezone '({name})' is not a valid time-zone ID",
            hint="use a name of the IANA list, such as Europe/Paris",
        ) from None


def iso(moment: datetime) -> str:
    """Return a time as trigger variables show it: to the second where it is full, `Z` for UTC, else the offset."""
    text = moment.isoformat()
    return text.removesuffix("+00:00") + "Z" if text.endswith("+00:00") else text


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return the start of a day in a zone."""
    return datetime.combine(day, time(), tzinfo=zone)
