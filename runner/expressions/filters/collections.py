"""Filters on lists and maps, and those that ask for a size or a part."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from runner.errors import ExpressionError
from runner.expressions.frame import Frame
from runner.expressions.operators import concatenate, equals
from runner.expressions.registry import filter_
from runner.expressions.tests import empty
from runner.expressions.values import MISSING, is_list, is_number, java_text, kind_of, to_json, weigh


def _list(value: Any, name: str) -> list[Any]:
    if not is_list(value):
        raise ExpressionError("expression.type", f"'{name}' filter can only be applied to a list, not {kind_of(value)}")
    return list(value)


@filter_(nulls=True)
def default(value: Any, default: Any) -> Any:
    """Return `default` where the value is undefined at any depth, null, a blank string, or has no elements.

    Example:
        {{ a.b | default('none') }} -> none
    """
    return default if value is MISSING or empty(value) else value


@filter_(nulls=True)
def length(value: Any) -> int:
    """Return the number of elements, entries or characters; 0 for null and for numbers.

    Example:
        {{ [1, 2] | length }} {{ 'abc' | length }} {{ null | length }} -> 2 3 0
    """
    return len(value) if isinstance(value, (str, Mapping)) or is_list(value) else 0


@filter_()
def first(value: Any) -> Any:
    """Return the first element, or the first character; null of something empty.

    Example:
        {{ [3, 4] | first }} {{ 'abc' | first }} -> 3 a
    """
    if isinstance(value, Mapping):
        return next(iter(value.values()), None)
    return next(iter(value if isinstance(value, str) else _list(value, "first")), None)


@filter_()
def last(value: Any) -> Any:
    """Return the last element, or the last character; null of something empty.

    Example:
        {{ [3, 4] | last }} {{ 'abc' | last }} -> 4 c
    """
    items = value if isinstance(value, str) else _list(value, "last")
    return items[-1] if items else None


@filter_()
def join(frame: Frame, value: Any, separator: str = "") -> str:
    """Return the elements as one text, with `separator` between them; lists and maps in it as Java prints them.

    Example:
        {{ [1, 'a', 2.5] | join('-') }} {{ [[1, 2], {'k': 'v'}] | join('; ') }} -> 1-a-2.5 [1, 2]; {k=v}
    """
    pieces: list[Any] = []
    for item in _list(value, "join"):
        pieces += [separator, java_text(item)]
    return concatenate(pieces[1:], frame.limits)


@filter_()
def slice(value: Any, from_index: int = 0, to_index: int | None = None) -> Any:  # noqa: A001 - the name used in templates
    """Return the part from `fromIndex` up to, and without, `toIndex`; indexes beyond the end are an error.

    Example:
        {{ 'hello' | slice(1, 3) }} {{ [1, 2, 3] | slice(1) }} -> el [2,3]
    """
    items = value if isinstance(value, str) else _list(value, "slice")
    end = len(items) if to_index is None else to_index
    for name, index in (("fromIndex", from_index), ("toIndex", end)):
        if not 0 <= index <= len(items):
            raise ExpressionError("expression.argument", f"The 'slice' filter got an invalid {name}: {index!r}")
    if items and from_index >= end:
        raise ExpressionError("expression.argument", f"The 'slice' filter got fromIndex {from_index} >= toIndex {end}")
    return items[from_index:end]


@filter_()
def reverse(value: Any) -> list[Any]:
    """Return the elements in reverse order.

    Example:
        {{ [1, 2, 3] | reverse }} -> [3,2,1]
    """
    return _list(value, "reverse")[::-1]


@filter_()
def sort(value: Any) -> list[Any]:
    """Return the elements in order; they must all be numbers, all text or all dates.

    Example:
        {{ [3, 1, 2] | sort }} -> [1,2,3]
    """
    return _ordered(value, "sort")


@filter_()
def rsort(value: Any) -> list[Any]:
    """Return the elements in descending order; they must all be numbers, all text or all dates.

    Example:
        {{ [3, 1, 2] | rsort }} -> [3,2,1]
    """
    return _ordered(value, "rsort")[::-1]


def _ordered(value: Any, name: str) -> list[Any]:
    items = _list(value, name)
    same = (
        all(is_number(item) for item in items)
        or all(isinstance(item, str) for item in items)
        or all(isinstance(item, date) for item in items)
        or all(isinstance(item, bool) for item in items)
    )
    if not same:
        raise ExpressionError("expression.type", f"The '{name}' filter needs elements of one comparable type")
    return sorted(items)


@filter_()
def merge(frame: Frame, value: Any, items: Any) -> Any:
    """Return the map or list with those of `items` added; later keys win.

    Example:
        {{ {'a': 1} | merge({'b': 2}) }} {{ [1] | merge([2]) }} -> {"a":1,"b":2} [1,2]
    """
    if isinstance(value, Mapping) and isinstance(items, Mapping):
        return weigh({**value, **items}, frame.limits)
    if isinstance(value, Mapping) and is_list(items):
        return weigh({**value, **{item: item for item in items}}, frame.limits)
    if is_list(value) and is_list(items):
        return weigh([*value, *items], frame.limits)
    if is_list(value) and isinstance(items, Mapping):
        return weigh([*value, *({"key": key, "value": item} for key, item in items.items())], frame.limits)
    raise ExpressionError("expression.type", f"'merge' cannot join {kind_of(value)} and {kind_of(items)}")


@filter_()
def keys(value: Any) -> list[Any]:
    """Return the keys of a map, or the indexes of a list.

    Example:
        {{ {'a': 1, 'b': 2} | keys }} {{ ['x', 'y'] | keys }} -> ["a","b"] [0,1]
    """
    if isinstance(value, Mapping):
        return list(value)
    if is_list(value):
        return list(range(len(value)))
    raise ExpressionError(
        "expression.type", f"'keys' filter can only be applied to a map or a list, not {kind_of(value)}"
    )


@filter_()
def values(value: Any) -> list[Any]:
    """Return the values of a map.

    Example:
        {{ {'a': 1, 'b': 2} | values }} -> [1,2]
    """
    if isinstance(value, Mapping):
        return list(value.values())
    raise ExpressionError("expression.type", f"'values' filter can only be applied to a map, not {kind_of(value)}")


@filter_()
def chunk(value: Any, size: int) -> list[list[Any]]:
    """Return the list cut into lists of `size`.

    Example:
        {{ [1, 2, 3] | chunk(2) }} -> [[1,2],[3]]
    """
    items = _list(value, "chunk")
    if size < 1:
        raise ExpressionError("expression.argument", f"The 'chunk' filter needs a size of 1 or more, not {size!r}")
    return [items[start : start + size] for start in range(0, len(items), size)]


@filter_()
def flatten(frame: Frame, value: Any) -> list[Any]:
    """Return the list with the elements of inner lists in their place, one level deep.

    Example:
        {{ [1, [2, [3]]] | flatten }} -> [1,2,[3]]
    """
    flat: list[Any] = []
    for item in _list(value, "flatten"):
        flat += item if is_list(item) else [item]
        if len(flat) > frame.limits.items:
            break
    return flat if len(flat) <= frame.limits.items else list(weigh(flat, frame.limits))


@filter_("distinct", "uniq")
def distinct(frame: Frame, value: Any) -> list[Any]:
    """Return the list without repeated elements, in the order of their first place.

    Example:
        {{ [1, 2, 1, 'a', 'a'] | distinct }} -> [1,2,"a"]
    """
    seen: set[str] = set()
    kept: list[Any] = []
    for item in _list(value, "distinct"):
        frame.tick()
        mark = f"{type(item).__name__}:{to_json(item)}"
        if mark not in seen and not (
            is_number(item) and any(equals(item, other) for other in kept if is_number(other))
        ):
            kept.append(item)
        seen.add(mark)
    return kept
