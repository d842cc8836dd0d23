"""How a raw value becomes a value of an input's or output's type, and which rules of its declaration it must keep.

Results are values that JSON can hold: dates and durations are kept as text in the form that Java prints, because
expressions and reports show them so. The rules and texts are those of Kestra's inputs (language: Inputs).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

import orjson

from runner.durations import format_duration, parse_duration
from runner.errors import ExpressionError, InvalidError, MainstemError
from runner.expressions.ion import from_ion
from runner.expressions.regex import compile_pattern
from runner.flows.models import Input

_INTEGER_LIMIT: Final = 2**63  # what JSON and both databases keep exactly
_LONGEST_SHOWN: Final = 500  # characters of a refused value in a message
_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_EMAIL = re.compile(r"[^@\s]+@[^@\s.][^@\s]*")
_FRACTION = re.compile(r"(\.\d{6})\d+")


class CastError(ValueError):
    """A value is not acceptable; the text is the middle of the sentence that the caller makes of it."""


def cast(type_name: str, value: Any, item_type: str | None = None) -> Any:
    """Return `value` as a value of the input type `type_name`; FILE and SECRET values stay the text they are.

    Raises:
        CastError: with the reason, when the value cannot be read as this type.
    """
    if type_name in {"ARRAY", "MULTISELECT"}:
        return _items(type_name, value, item_type or "STRING")
    reader = _READERS.get(type_name)
    if reader is None:
        raise CastError(f"the type `{type_name}` is not known")
    try:
        return reader(value)
    except CastError:
        raise
    except (ValueError, OverflowError, MainstemError) as error:
        text = shown(value)
        if type_name == "URI":
            raise CastError(f"Expected `URI` but received `{text}`") from None
        raise CastError(f"Expected `{type_name}` but received `{text}` with errors: {error}") from None


def as_text(value: Any) -> str:
    """Return a value as text: JSON for maps and lists, `true` and `null` for what Java prints so."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def shown(value: Any) -> str:
    """Return a value as messages show it: its text, shortened where it is long."""
    text = as_text(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "..."


def check(declared: Input, value: Any) -> None:
    """Check a cast value against the limits of its declaration.

    Raises:
        CastError: naming the rule, when it is broken.
    """
    _check_pattern(declared, value)
    _check_limits(declared, value)


def listed(items: Sequence[Any]) -> str:
    """Return items the way messages list them, `[a, b]`."""
    return "[" + ", ".join(as_text(item) for item in items) + "]"


def _check_pattern(declared: Input, value: Any) -> None:
    if not declared.validator or not isinstance(value, str):
        return
    try:
        match = compile_pattern(declared.validator).fullmatch(value)
    except ExpressionError as error:
        raise CastError(f"its `validator` cannot be used: {error.message}") from None
    if match is None:
        raise CastError(f"it must match the pattern `{declared.validator}`")


def _check_limits(declared: Input, value: Any) -> None:
    if declared.type in {"INT", "FLOAT", "DURATION"}:
        low, high, words = declared.min, declared.max, ("more than", "less than")
    elif declared.type in {"DATE", "DATETIME", "TIME"}:
        low, high, words = declared.after, declared.before, ("after", "before")
    else:
        return
    start = "It" if declared.type == "DURATION" else "it"
    for limit, word, sign in ((low, words[0], 1), (high, words[1], -1)):
        if limit is None:
            continue
        bound = cast(declared.type, limit)
        if _comparable(declared.type, value) * sign < _comparable(declared.type, bound) * sign:
            raise CastError(f"{start} must be {word} `{as_text(bound)}`")


def _comparable(type_name: str, value: Any) -> float:
    """Return a number that orders values of the type."""
    match type_name:
        case "DURATION":
            return parse_duration(value).total_seconds()
        case "DATETIME":
            return _instant(value).timestamp()
        case "DATE":
            return date.fromisoformat(value).toordinal()
        case "TIME":
            at = time.fromisoformat(value)
            return timedelta(hours=at.hour, minutes=at.minute, seconds=at.second, microseconds=at.microsecond) / (
                timedelta(seconds=1)
            )
        case _:
            return float(value) if isinstance(value, float) else int(value)


def _items(type_name: str, value: Any, item_type: str) -> list[Any]:
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except ValueError as error:
            raise CastError(f"Expected `{type_name}` but received `{shown(value)}` with errors: {error}") from None
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise CastError(f"Expected `{type_name}` but received `{shown(value)}`")
    cast_items = []
    for item in value:
        try:
            cast_items.append(cast(item_type, item))
        except CastError:
            raise CastError(f"Unable to parse array element as `{item_type}` on `{shown(item)}`") from None
    return cast_items


def _integer(value: Any) -> int:
    is_number = isinstance(value, str | int | float) and not isinstance(value, bool)
    if not is_number or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(f"{as_text(value)} is not a whole number")
    number = int(value) if not isinstance(value, str) else _decimal(value)
    if not -_INTEGER_LIMIT <= number < _INTEGER_LIMIT:
        raise ValueError("it does not fit into 64 bits")
    return number


def _decimal(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,20}", text.strip()):
        raise ValueError(f'For input string: "{text}"')
    return int(text)


def _float(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError("a boolean is not a number")  # noqa: TRY004 - `cast` turns ValueError into its own error
    if not isinstance(value, str | int | float):
        raise ValueError(f"{as_text(value)} is not a number")  # noqa: TRY004 - same
    if isinstance(value, str) and "_" in value:
        raise ValueError(f'For input string: "{value}"')
    number = float(value)
    if number in {float("inf"), float("-inf")} or number != number:  # noqa: PLR0124 - only NaN differs from itself
        raise ValueError("it is not a finite number")
    return number


def _boolean(value: Any) -> bool:
    return value if isinstance(value, bool) else str(value).strip().lower() == "true"


def _json(value: Any) -> Any:
    return orjson.loads(value) if isinstance(value, str) else value


def _yaml(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    from runner.flows.loader import load

    return load(value).value


def _ion(value: Any) -> Any:
    """Return what Ion text holds: its one value, or the list of several."""
    if not isinstance(value, str):
        return value
    found = from_ion(value)
    return found[0] if len(found) == 1 else found


def _table(value: Any) -> list[Any]:
    """Return rows: a list of maps."""
    rows = orjson.loads(value) if isinstance(value, str) else value
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
        raise ValueError("a table is a list of maps, one for each row")
    return list(rows)


def _uri(value: Any) -> str:
    text = as_text(value)
    if not _URI.fullmatch(text):
        raise ValueError(text)
    return text


def _email(value: Any) -> str:
    text = as_text(value)
    if text and not _EMAIL.fullmatch(text):
        raise CastError("The input must be a valid email")
    return text


def _instant(value: Any) -> datetime:
    text = _FRACTION.sub(r"\1", as_text(value).strip())
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("it names no time zone; end it with Z or an offset")
    return moment.astimezone(UTC)


def _instant_text(value: Any) -> str:
    moment = _instant(value)
    return moment.strftime("%Y-%m-%dT%H:%M:%S") + _fraction_text(moment.microsecond) + "Z"


def _date_text(value: Any) -> str:
    return date.fromisoformat(as_text(value).strip()).isoformat()


def _time_text(value: Any) -> str:
    at = time.fromisoformat(_FRACTION.sub(r"\1", as_text(value).strip()))
    if at.tzinfo is not None:
        raise ValueError("a local time has no offset")
    seconds = f":{at.second:02d}{_fraction_text(at.microsecond)}" if at.second or at.microsecond else ""
    return f"{at.hour:02d}:{at.minute:02d}{seconds}"


def _fraction_text(micros: int) -> str:
    """Return a fraction of a second with three or six digits, as Java prints it; nothing for a full second."""
    if not micros:
        return ""
    return f".{micros:06d}" if micros % 1000 else f".{micros // 1000:03d}"


def _duration_text(value: Any) -> str:
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return format_duration(timedelta(seconds=value))
    return format_duration(parse_duration(as_text(value)))


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "STRING": as_text,
    "SELECT": as_text,
    "ENUM": as_text,
    "SECRET": as_text,
    "FILE": as_text,
    "INT": _integer,
    "FLOAT": _float,
    "BOOL": _boolean,
    "BOOLEAN": _boolean,
    "JSON": _json,
    "OBJECT": _json,
    "YAML": _yaml,
    "ION": _ion,
    "TABLE": _table,
    "URI": _uri,
    "EMAIL": _email,
    "DATETIME": _instant_text,
    "DATE": _date_text,
    "TIME": _time_text,
    "DURATION": _duration_text,
}

INPUT_TYPES: Final = frozenset(_READERS) | {"ARRAY", "MULTISELECT"}
"""Every input type that can be cast."""


def invalid(subject: str, reason: str, received: Any) -> InvalidError:
    """Return the error for a refused value; `subject` is such as ``input for `x` ``."""
    return InvalidError("input.invalid", f"Invalid {subject}, {reason}, but received `{shown(received)}`")
