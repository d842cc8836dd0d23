"""ISO-8601 durations as Java's `Duration` reads them: days and time, no months or years."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from runner.errors import InvalidError

_PATTERN = re.compile(
    r"(?P<sign>[+-])?P(?:(?P<weeks>[+-]?\d+)W)?(?:(?P<days>[+-]?\d+)D)?"
    r"(?:T(?:(?P<hours>[+-]?\d+)H)?(?:(?P<minutes>[+-]?\d+)M)?(?:(?P<seconds>[+-]?\d+(?:[.,]\d{1,9})?)S)?)?",
    re.IGNORECASE,
)


def parse_duration(text: str) -> timedelta:
    """Return the duration that `text` names, such as `PT30S`, `P1DT2H`, `PT0.25s`.

    Raises:
        InvalidError: `duration.invalid` when it is no ISO-8601 duration of weeks, days, hours, minutes, seconds.
    """
    match = _PATTERN.fullmatch(text.strip())
    parts = {key: value for key, value in match.groupdict().items() if value and key != "sign"} if match else {}
    if match is None or not parts:
        raise InvalidError(
            "duration.invalid", f"{text!r} is not an ISO-8601 duration", hint="write it like PT30S, PT5M or P1DT2H"
        )
    try:
        length = timedelta(**{unit: float(number.replace(",", ".")) for unit, number in parts.items()})
    except OverflowError:
        raise InvalidError("duration.invalid", f"the duration {text!r} is too long") from None
    return -length if match["sign"] == "-" else length


def format_duration(length: timedelta) -> str:
    """Return `length` in ISO-8601, in hours, minutes and seconds as Java prints it (`PT26H3M4.5S`)."""
    micros = round(length / timedelta(microseconds=1))
    sign, micros = ("-", -micros) if micros < 0 else ("", micros)
    seconds, micros = divmod(micros, 1_000_000)
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    text = (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "")
    if seconds or micros or not text:
        fraction = f".{micros:06d}".rstrip("0") if micros else ""
        text += f"{seconds}{fraction}S"
    return f"{sign}PT{text}"


def _validate(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return parse_duration(value)
        except InvalidError as error:
            raise ValueError(error.message) from None
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return timedelta(seconds=value)
        except (OverflowError, ValueError):
            raise ValueError(f"{value} seconds are too long for a duration") from None
    return value


Duration = Annotated[
    timedelta, BeforeValidator(_validate), PlainSerializer(format_duration, return_type=str, when_used="json")
]
