"""Compares a rendered value with what an expression case expects."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from runner.expressions.locales import ENGLISH
from runner.expressions.patterns import format_moment


def mismatch(expected: Any, actual: Any, now: datetime) -> str | None:
    """Return how `actual` differs from a case's `expect` (text, or a map of matchers), None if it does not."""
    if not isinstance(expected, dict):
        return None if expected == actual else f"expected {expected!r}, got {actual!r}"
    if not expected:
        return "the case expects nothing"
    for name, wanted in expected.items():
        if name == "ordered":
            continue
        matcher = _MATCHERS.get(name)
        if matcher is None:
            return f"unknown matcher {name!r}"
        if not matcher(wanted, actual, now):
            return f"{name} {wanted!r} does not hold for {actual!r}"
    if expected.get("ordered") and json.dumps(expected["value"]) != json.dumps(actual):
        return f"the order of keys differs: {actual!r}"
    return None


def _contains(wanted: Any, actual: Any, _now: datetime) -> bool:
    return all(part in actual for part in ([wanted] if isinstance(wanted, str) else wanted))


def _typed(wanted: Any, actual: Any, _now: datetime) -> bool:
    return type(wanted) is type(actual) and bool(wanted == actual)


def _json_contains(wanted: Any, actual: Any, _now: datetime) -> bool:
    found = json.loads(actual)
    return all(key in found and found[key] == value for key, value in wanted.items())


def _json_list_contains(wanted: Any, actual: Any, _now: datetime) -> bool:
    found = json.loads(actual)
    return all(item in found for item in wanted)


def _comma_parts(wanted: Any, actual: Any, _now: datetime) -> bool:
    parts = [part.strip() for part in actual.strip("[]{}").split(",")]
    return len(parts) == wanted if isinstance(wanted, int) else sorted(parts) == sorted(wanted)


def _now_text(wanted: Any, now: datetime) -> str:
    zone = wanted.get("zone", "system")
    return format_moment(now if zone == "system" else now.astimezone(ZoneInfo(zone)), wanted["pattern"], ENGLISH)


_MATCHERS: dict[str, Callable[[Any, Any, datetime], bool]] = {
    "contains": _contains,
    "startswith": lambda wanted, actual, _: actual.startswith(wanted),
    "endswith": lambda wanted, actual, _: actual.endswith(wanted),
    "not": lambda wanted, actual, _: actual != wanted,
    "nonempty": lambda wanted, actual, _: bool(actual) is bool(wanted),
    "regex": lambda wanted, actual, _: re.search(wanted, actual) is not None,
    "int_between": lambda wanted, actual, _: wanted[0] <= int(actual) <= wanted[1],
    "json_contains": _json_contains,
    "json_list_contains": _json_list_contains,
    "comma_parts": _comma_parts,
    "contains_now": lambda wanted, actual, now: _now_text(wanted, now) in actual,
    "equals_now": lambda wanted, actual, now: _now_text(wanted, now) == actual,
    "typed": _typed,
    "value": lambda wanted, actual, _: bool(wanted == actual),
}
