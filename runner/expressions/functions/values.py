"""Functions that read texts into values, and those on numbers."""

from __future__ import annotations

import json
from typing import Any

from runner.errors import ExpressionError
from runner.expressions.frame import Frame
from runner.expressions.ion import from_ion as read_ion
from runner.expressions.operators import compare, span
from runner.expressions.registry import function
from runner.expressions.values import kind_of
from runner.expressions.yaml_text import parse_yaml


def _text(value: Any, name: str, argument: str) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if not isinstance(value, str):
        raise ExpressionError(
            "expression.argument",
            f"The '{name}' function expects an argument '{argument}' with type string.",
            hint=f"it got {kind_of(value)}",
        )
    return value


@function("fromJson", "json")
def from_json(json_: Any) -> Any:
    """Return the value of a JSON text; null of null.

    Example:
        {{ fromJson('{"a": [1, 2]}').a[1] }} -> 2
    """
    if json_ is None:
        return None
    try:
        return json.loads(_text(json_, "fromJson", "json"))
    except (ValueError, RecursionError) as error:
        raise ExpressionError("expression.value", f"Invalid json: {error}") from None


@function("fromIon")
def from_ion(ion: Any, all_rows: bool = False) -> Any:  # noqa: FBT001, FBT002 - the signature in templates
    """Return the first value of an Ion text, or with `allRows` the list of all.

    Example:
        {{ fromIon('{a: 1} {a: 2}').a }} {{ fromIon('{a: 1} {a: 2}', allRows=true) | length }} -> 1 2
    """
    if ion is None:
        return None
    rows = read_ion(_text(ion, "fromIon", "ion"))
    return rows if all_rows else next(iter(rows), None)


@function("yaml")
def yaml_(frame: Frame, yaml: Any) -> Any:
    """Return the value of a YAML text; tags are refused.

    Example:
        {{ yaml('a: [1, two]').a }} -> [1,"two"]
    """
    return None if yaml is None else parse_yaml(_text(yaml, "yaml", "yaml"), frame.limits)


@function("range")
def range_(frame: Frame, start: Any, end: Any, increment: int = 1) -> list[Any]:
    """Return the integers, or letters, from `start` to `end`, both included.

    Example:
        {{ range(0, 6, 2) }} {{ range('a', 'c') }} -> [0,2,4,6] ["a","b","c"]
    """
    return span(start, end, frame.limits, increment)


@function("max")
def maximum(*values: Any) -> Any:
    """Return the largest of its arguments.

    Example:
        {{ max(1, 7, 3) }} -> 7
    """
    return _extreme("max", ">", values)


@function("min")
def minimum(*values: Any) -> Any:
    """Return the smallest of its arguments.

    Example:
        {{ min(5, 2.5, 3) }} -> 2.5
    """
    return _extreme("min", "<", values)


def _extreme(name: str, order: str, values: tuple[Any, ...]) -> Any:
    if not values:
        raise ExpressionError("expression.argument", f"The '{name}' function expects at least one argument")
    best = values[0]
    for value in values[1:]:
        best = value if compare(order, value, best) else best
    return best
