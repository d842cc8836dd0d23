"""How values look as text, and the few questions asked of every value.

Values are what JSON knows (text, numbers, booleans, null, lists, maps), dates and `Decimal`. Any `Mapping` is a map
and any `Sequence` but text is a list. No attribute of a Python object is ever read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, TypeGuard

from runner.durations import format_duration
from runner.errors import ExpressionError
from runner.expressions.limits import Limits, too_much

_PLAIN_FROM: Final = 1e-3  # Java's Double.toString writes an exponent outside [1e-3, 1e7)
_PLAIN_BELOW: Final = 1e7
_FALSY: Final = frozenset({"", "false", "0", "-0"})
_INT_MAX: Final = 2**31
_LONG_MAX: Final = 2**63


class Missing:
    """What a quiet reading gives for something undefined."""

    __slots__ = ()


MISSING: Final = Missing()


class Deferred(Mapping[str, Any]):
    """A map that costs something to know: only its parts that a path names are read.

    No template hands one on: where a path ends in one, its `whole` stands in its place.
    """

    def whole(self) -> Any:
        """Return all of it as plain maps and lists, MISSING when there is nothing."""
        raise NotImplementedError  # each kind of lazy value has its own

    def names(self) -> Iterable[str]:
        """Return keys that it may have, as far as they are known without reading anything."""
        return ()

    def __iter__(self) -> Iterator[str]:
        found = self.whole()
        return iter(() if found is MISSING else found)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def settled(value: Any) -> Any:
    """Return `value`, a deferred map with everything in it."""
    return value.whole() if isinstance(value, Deferred) else value


def is_truthy(text: Any) -> bool:
    """Return whether a rendered condition holds: null, "", "false", "0" and "-0" do not (Kestra's TruthUtils)."""
    if text is None:
        return False
    return (text if isinstance(text, str) else to_text(text)) not in _FALSY


def is_list(value: Any) -> bool:
    """Return whether `value` is a list to templates."""
    return isinstance(value, (list, tuple)) or (
        isinstance(value, (Sequence, AbstractSet)) and not isinstance(value, (str, bytes))
    )


def is_number(value: Any) -> bool:
    """Return whether `value` is a number; booleans are none."""
    return isinstance(value, (int, float, Decimal)) and not isinstance(value, bool)


def is_integer(value: Any) -> TypeGuard[int]:
    """Return whether `value` is an integer; booleans are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def to_text(value: Any) -> str:
    """Return what `{{ value }}` prints: compact JSON for lists and maps, nothing for null, Java's form of numbers."""
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, bool):
        return "" if value is None else str(value).lower()
    if isinstance(value, (int, float)):
        return str(value) if isinstance(value, int) else float_text(value)
    if isinstance(value, Mapping) or is_list(value):
        return to_json(value)
    return _other_text(value)


def java_text(value: Any) -> str:
    """Return what Java's `toString` gives: as `to_text`, but `[1, 2]` for lists and `{a=1}` for maps."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_inner_text(key)}={_inner_text(item)}" for key, item in value.items()) + "}"
    if is_list(value):
        return "[" + ", ".join(map(_inner_text, value)) + "]"
    return to_text(value)


def _inner_text(value: Any) -> str:
    return "null" if value is None else java_text(value)


def _other_text(value: Any) -> str:
    if isinstance(value, datetime):
        return date_text(value)
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    raise ExpressionError("expression.value", f"a value of type {type(value).__name__} cannot be printed")


def float_text(number: float) -> str:
    """Return `number` as Java's `Double.toString` writes it (`1.0`, `1.123`, `1.0E10`)."""
    if math.isnan(number):
        return "NaN"
    if math.isinf(number):
        return "Infinity" if number > 0 else "-Infinity"
    if number == 0 or _PLAIN_FROM <= abs(number) < _PLAIN_BELOW:
        return repr(number) if "e" not in repr(number) else f"{number:f}"
    sign, digits, exponent = Decimal(repr(number)).normalize().as_tuple()
    assert isinstance(exponent, int)  # finite
    tail = "".join(map(str, digits[1:])) or "0"
    return f"{'-' if sign else ''}{digits[0]}.{tail}E{exponent + len(digits) - 1}"


def date_text(moment: datetime) -> str:
    """Return ISO text: instants (UTC) with seconds and `Z`, others with their offset and no seconds when zero.

    Fractions have three or six digits, as Java prints them.
    """
    fraction = f".{moment.microsecond:06d}" if moment.microsecond else ""
    fraction = fraction.removesuffix("000")
    if moment.tzinfo is UTC or (moment.tzinfo is not None and moment.tzname() == "UTC"):
        return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"
    seconds = f":{moment.second:02d}" if moment.second or fraction else ""
    return f"{moment:%Y-%m-%dT%H:%M}{seconds}{fraction}{_offset_text(moment)}"


def _offset_text(moment: datetime) -> str:
    offset = moment.isoformat()[19:].lstrip("0123456789.")
    return "Z" if offset == "+00:00" else offset


def to_json(value: Any, indent: int | None = None) -> str:
    """Return `value` as compact JSON; dates are ISO text, other maps and sequences count as maps and lists."""
    separators = (",", ":") if indent is None else None
    return json.dumps(value, ensure_ascii=False, separators=separators, indent=indent, default=_json_default)


def _json_default(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {to_text(key): item for key, item in value.items()}
    if is_list(value):
        return list(value)
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and abs(value) < _LONG_MAX else float(value)
    return _other_text(value)


def weigh(value: Any, limits: Limits) -> Any:
    """Return `value` if it is not too large; asked of every collection that a template builds.

    Parts may be shared (`[a, a]`), and sharing repeated forty times is a terabyte once printed. Since nothing above the
    limits ever comes into being, printing and comparing need no guard of their own.
    """
    items, text, deepest = 0, 0, 0
    stack = [(value, 1)]
    while stack:
        node, depth = stack.pop()
        items += 1
        if isinstance(node, str):
            text += len(node)
        elif isinstance(node, Mapping):
            deepest = max(deepest, depth)
            text += sum(len(key) for key in node if isinstance(key, str))
            stack.extend((item, depth + 1) for item in node.values())
        elif is_list(node):
            deepest = max(deepest, depth)
            items += len(node)
            if items <= limits.items:
                stack.extend((item, depth + 1) for item in node)
        if items > limits.items or text > limits.text or deepest > limits.nesting:
            raise too_much(f"a collection has more than {limits.items} items, {limits.text} characters or is too deep")
    return value


def class_name(value: Any) -> str:
    """Return the Java class that Kestra would name for `value`."""
    if isinstance(value, bool):
        return "java.lang.Boolean"
    if isinstance(value, int):
        if -_INT_MAX <= value < _INT_MAX:
            return "java.lang.Integer"
        return "java.lang.Long" if -_LONG_MAX <= value < _LONG_MAX else "java.math.BigInteger"
    if isinstance(value, datetime):
        return "java.time.LocalDateTime" if value.tzinfo is None else "java.time.ZonedDateTime"
    for kind, name in _CLASSES:
        if isinstance(value, kind):
            return name
    return "java.lang.Object"


_CLASSES: Final = (
    (str, "java.lang.String"),
    (float, "java.lang.Double"),
    (Decimal, "java.math.BigDecimal"),
    (Mapping, "java.util.LinkedHashMap"),
    (date, "java.time.LocalDate"),
    (time, "java.time.LocalTime"),
    (timedelta, "java.time.Duration"),
    (bytes, "byte[]"),
    (Sequence, "java.util.ArrayList"),
)


def kind_of(value: Any) -> str:
    """Return the word for the type of `value` in messages to people."""
    if value is None:
        return "null"
    words: tuple[tuple[Any, str], ...] = (
        (bool, "a boolean"),
        (str, "a string"),
        ((int, float, Decimal), "a number"),
        (Mapping, "a map"),
        ((date, time), "a date"),
    )
    return next((word for kind, word in words if isinstance(value, kind)), "a list" if is_list(value) else "a value")
