"""Tests, used as `x is name` and `x is not name`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from runner.errors import ExpressionError
from runner.expressions.registry import test_
from runner.expressions.values import MISSING, is_list, is_number, kind_of


@test_()
def defined(value: Any) -> bool:
    """Return whether the whole path exists and is not null; the only test that an undefined name passes to.

    Example:
        {{ a.b.c is defined }} -> false
    """
    return value is not MISSING and value is not None


@test_()
def empty(value: Any) -> bool:
    """Return whether the value is null, a blank string, or a list or map without elements.

    Example:
        {{ '  ' is empty }} {{ [1] is empty }} -> true false
    """
    if value is None:
        return True
    if isinstance(value, str):
        return not value.strip()
    return not value if isinstance(value, Mapping) or is_list(value) else False


@test_("null", "none")
def null(value: Any) -> bool:
    """Return whether the value is null.

    Example:
        {{ null is null }} -> true
    """
    return value is None


@test_()
def even(value: Any) -> bool:
    """Return whether an integer is even.

    Example:
        {{ 4 is even }} -> true
    """
    return _integer(value, "even") % 2 == 0


@test_()
def odd(value: Any) -> bool:
    """Return whether an integer is odd.

    Example:
        {{ 4 is odd }} -> false
    """
    return _integer(value, "odd") % 2 == 1


def _integer(value: Any, test: str) -> int:
    if not is_number(value):
        raise ExpressionError("expression.type", f"The '{test}' test expects a number, not {kind_of(value)}")
    return int(value)


@test_()
def iterable(value: Any) -> bool:
    """Return whether `for` can loop over the value.

    Example:
        {{ [1] is iterable }} {{ 'text' is iterable }} -> true false
    """
    return isinstance(value, Mapping) or is_list(value)


@test_("map")
def is_map(value: Any) -> bool:
    """Return whether the value is a map.

    Example:
        {{ {'a': 1} is map }} -> true
    """
    return isinstance(value, Mapping)


@test_("json")
def is_json(value: Any) -> bool:
    """Return whether a string holds JSON.

    Example:
        {{ '{"a": 1}' is json }} {{ '{a' is json }} -> true false
    """
    if not isinstance(value, str):
        return False
    try:
        json.loads(value)
    except (ValueError, RecursionError):
        return False
    return True
