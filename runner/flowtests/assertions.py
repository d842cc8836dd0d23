"""The operators of assertions. Pure: a rendered value and an expected one in, whether it holds out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runner.expressions.regex import compile_pattern
from runner.flows.casts import as_text

NAMES: Mapping[str, str] = {
    # property of an assertion: how it reads between `should` and the expected value
    "equal_to": "be equal to",
    "not_equal_to": "not be equal to",
    "contains": "contain",
    "not_contains": "not contain",
    "starts_with": "start with",
    "ends_with": "end with",
    "matches": "match",
    "greater_than": "be greater than",
    "greater_than_or_equal_to": "be greater than or equal to",
    "less_than": "be less than",
    "less_than_or_equal_to": "be less than or equal to",
    "in_": "be in",
    "not_in": "not be in",
    "is_null": "be null:",
    "is_not_null": "be there:",
}


def holds(operator: str, actual: Any, expected: Any) -> bool:
    """Return whether `actual` stands in the relation `operator` (a key of `NAMES`) to `expected`.

    Texts and numbers are compared by what they say: `"200"` is equal to 200, as both come out of expressions.

    Raises:
        ValueError: the two cannot be compared this way; the text says why.
    """
    return _OPERATORS[operator](actual, expected)


def is_same(one: Any, other: Any) -> bool:
    """Return whether two values say the same."""
    if isinstance(one, bool) or isinstance(other, bool) or one is None or other is None:
        return as_text(one).lower() == as_text(other).lower()
    numbers = _number(one), _number(other)
    if None not in numbers:
        return numbers[0] == numbers[1]
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    return as_text(one).rstrip("\n") == as_text(other).rstrip("\n")


def _contains(actual: Any, expected: Any) -> bool:
    if isinstance(actual, dict) and as_text(expected) in actual:
        return True
    if isinstance(actual, list | tuple) and any(is_same(item, expected) for item in actual):
        return True
    return as_text(expected).rstrip("\n") in as_text(actual)


def _is_one_of(actual: Any, expected: Any) -> bool:
    if not isinstance(expected, list | tuple):
        raise ValueError("`in` and `notIn` take a list")  # noqa: TRY004 - told as a failed assertion
    return any(is_same(actual, item) for item in expected)


def _order(actual: Any, expected: Any) -> int:
    one, other = _number(actual), _number(expected)
    if one is not None and other is not None:
        return (one > other) - (one < other)
    if (one is None) is not (other is None):
        raise ValueError(f"{as_text(actual if one is None else expected)!r} is no number")
    if not (isinstance(actual, str) and isinstance(expected, str)):
        raise ValueError("they have no order")  # noqa: TRY004 - told as a failed assertion
    return (actual > expected) - (actual < expected)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _matches(actual: Any, expected: Any) -> bool:
    return compile_pattern(as_text(expected)).search(as_text(actual)) is not None


_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "equal_to": is_same,
    "not_equal_to": lambda actual, expected: not is_same(actual, expected),
    "contains": _contains,
    "not_contains": lambda actual, expected: not _contains(actual, expected),
    "starts_with": lambda actual, expected: as_text(actual).startswith(as_text(expected)),
    "ends_with": lambda actual, expected: as_text(actual).endswith(as_text(expected)),
    "matches": _matches,
    "greater_than": lambda actual, expected: _order(actual, expected) > 0,
    "greater_than_or_equal_to": lambda actual, expected: _order(actual, expected) >= 0,
    "less_than": lambda actual, expected: _order(actual, expected) < 0,
    "less_than_or_equal_to": lambda actual, expected: _order(actual, expected) <= 0,
    "in_": _is_one_of,
    "not_in": lambda actual, expected: not _is_one_of(actual, expected),
    "is_null": lambda actual, expected: (actual is None) is bool(expected),
    "is_not_null": lambda actual, expected: (actual is not None) is bool(expected),
}
