"""The filters of list routes: `filters[field][OP]=value`, several of them all to hold.

Parsing and judging are pure. Rows are judged by a function that gives the value of a field, so that the same
operations work for flows, triggers, keys and whatever a database query could not narrow down itself.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from runner.durations import parse_duration
from runner.errors import InvalidError
from webhooks.problems import RequestError

_NAME: Final = re.compile(r"filters\[([A-Za-z_]+)\]\[([A-Z_]+)\](?:\[([^\]]{1,256})\])?")
_GROUP: Final = re.compile(r"filters\[(and|or)\]\[\d+\](.*)")
_MAX_FILTERS: Final = 50
_MAX_PATTERN: Final = 256
_MAX_NESTED: Final = 4

TEXT_OPS: Final = frozenset(
    {
        "EQUALS",
        "NOT_EQUALS",
        "IN",
        "NOT_IN",
        "STARTS_WITH",
        "ENDS_WITH",
        "CONTAINS",
        "NOT_CONTAINS",
        "REGEX",
        "PREFIX",
        "IS_NULL",
        "IS_NOT_NULL",
    }
)
CHOICE_OPS: Final = frozenset({"EQUALS", "NOT_EQUALS", "IN", "NOT_IN"})
PLAIN_OPS: Final = frozenset({"EQUALS", "NOT_EQUALS"})
LABEL_OPS: Final = CHOICE_OPS | {"CONTAINS", "NOT_CONTAINS"}
DATE_OPS: Final = frozenset(
    {
        "EQUALS",
        "NOT_EQUALS",
        "GREATER_THAN",
        "LESS_THAN",
        "GREATER_THAN_OR_EQUAL_TO",
        "LESS_THAN_OR_EQUAL_TO",
        "IS_NULL",
        "IS_NOT_NULL",
    }
)
RANGE_OPS: Final = frozenset({"EQUALS"})
Operations = Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition on one field; `key` is the label's name when the field is a map."""

    field: str
    op: str
    value: str
    key: str | None = None

    @property
    def choices(self) -> tuple[str, ...]:
        """Return the values of a list, which joins them by commas."""
        return tuple(item for item in self.value.split(",") if item) if self.op in {"IN", "NOT_IN"} else (self.value,)


@dataclass(frozen=True, slots=True)
class Group:
    """Conditions of which one (`any`) or all must hold."""

    parts: tuple[Filter | Group, ...]
    is_any: bool = False


def parse_filters(pairs: Iterable[tuple[str, str]], operations: Operations) -> Group:
    """Return the filters of a query string.

    Raises:
        RequestError: `request.filter.invalid` (400), with everything that is wrong.
    """
    tops: list[Filter | Group] = []
    groups: dict[str, list[Filter | Group]] = {"and": [], "or": []}
    wrong: list[str] = []
    for name, value in pairs:
        if not name.startswith("filters["):
            continue
        group = _GROUP.fullmatch(name)
        parsed = _nested(group[2], value, operations) if group else _leaf(name, value, operations)
        if isinstance(parsed, str):
            wrong.append(parsed)
        elif group:
            groups[group[1]].append(parsed)
        else:
            tops.append(parsed)
    tops.extend(groups["and"])
    if groups["or"]:
        tops.append(Group(tuple(groups["or"]), is_any=True))
    if len(tops) > _MAX_FILTERS:
        wrong.append(f"more than {_MAX_FILTERS} filters")
    if wrong:
        raise RequestError("request.filter.invalid", "; ".join(wrong))
    return Group(tuple(tops))


def filters_from_json(content: Any, operations: Operations) -> Group:
    """Return the filters of a body: a list of `{field, operation, value}` and `{logical: AND|OR, children}`.

    Raises:
        RequestError: `request.filter.invalid` (400).
    """
    items = content if isinstance(content, Sequence) and not isinstance(content, str) else []
    if not isinstance(content, list | None) or len(items) > _MAX_FILTERS:
        raise RequestError("request.filter.invalid", f"filters must be a list of at most {_MAX_FILTERS}")
    return Group(tuple(_from_json(item, operations, 1) for item in items))


def _from_json(item: Any, operations: Operations, depth: int) -> Filter | Group:
    if not isinstance(item, Mapping):
        raise RequestError("request.filter.invalid", "a filter must be a map")
    children = item.get("children")
    if isinstance(children, list) and depth < _MAX_NESTED and len(children) <= _MAX_FILTERS:
        parts = tuple(_from_json(child, operations, depth + 1) for child in children)
        return Group(parts, is_any=item.get("logical") == "OR")
    value = item.get("value")
    text = ",".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    leaf = _leaf(f"filters[{item.get('field')}][{item.get('operation')}]", text, operations)
    if isinstance(leaf, str):
        raise RequestError("request.filter.invalid", leaf)
    return leaf


def older_filters(pairs: Iterable[tuple[str, str]], operations: Operations) -> list[Filter | Group]:
    """Return the conditions that the query of a 1.x client names by plain parameters, such as `namespace` and `state`.

    Raises:
        InvalidError: `request.period.invalid` when the period ends before it begins.
    """
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        if name in _OLDER and name in operations and value:
            values.setdefault(name, []).append(value)
    begin, end = values.get("startDate"), values.get("endDate")
    if begin and end and instant(begin[-1]) > instant(end[-1]):
        raise InvalidError("request.period.invalid", "Start date must be before End Date")
    found: list[Filter | Group] = []
    for name, given in values.items():
        if name == "labels":
            found += [Filter(name, "EQUALS", value, key) for key, _, value in (text.partition(":") for text in given)]
        else:
            found.append(Filter(name, _OLDER[name], ",".join(given) if _OLDER[name] == "IN" else given[-1]))
    return found


_OLDER: Final[Mapping[str, str]] = MappingProxyType(
    {
        "q": "EQUALS",
        "scope": "EQUALS",
        "namespace": "PREFIX",
        "flowId": "EQUALS",
        "state": "IN",
        "labels": "EQUALS",
        "startDate": "GREATER_THAN_OR_EQUAL_TO",
        "endDate": "LESS_THAN_OR_EQUAL_TO",
        "timeRange": "EQUALS",
        "triggerExecutionId": "EQUALS",
        "childFilter": "EQUALS",
    }
)
OLDER_NAMES: Final = tuple(_OLDER)
"""The parameters that 1.x wrote filters as."""


def _nested(rest: str, value: str, operations: Operations) -> Filter | Group | str:
    inner = re.fullmatch(r"\[(and|or)\]\[\d+\](\[.*)", rest)
    return _leaf("filters" + (inner[2] if inner else rest), value, operations)


def _leaf(name: str, value: str, operations: Operations) -> Filter | str:
    match = _NAME.fullmatch(name)
    if match is None:
        return f"cannot read {name[:100]!r}"
    field, op, key = match.groups()
    if field not in operations:
        return f"no filter on {field!r} here; there are {', '.join(sorted(operations))}"
    if op not in operations[field]:
        return f"{field} has no operation {op}; there are {', '.join(sorted(operations[field]))}"
    if op == "REGEX":
        problem = _regex_problem(value)
        if problem:
            return problem
    return Filter(field, op, value, key)


def _regex_problem(pattern: str) -> str | None:
    if len(pattern) > _MAX_PATTERN:
        return f"the pattern is longer than {_MAX_PATTERN} characters"
    try:
        _compiled(pattern)
    except ValueError:
        return f"{pattern!r} is not a regular expression"
    return None


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str) -> Any:
    import re2  # type: ignore[import-untyped]  # no stubs are published

    try:
        return re2.compile(pattern)
    except re2.error as error:
        raise ValueError(str(error)) from None


def holds(group: Group, value_of: Callable[[str], Any], now: datetime) -> bool:
    """Return whether a row passes; `value_of` gives its value of a field: text, map, list, bool or time."""
    results = (
        holds(part, value_of, now) if isinstance(part, Group) else passes(part, value_of(part.field), now)
        for part in group.parts
    )
    return any(results) if group.is_any else all(results)


def passes(condition: Filter, value: Any, now: datetime) -> bool:
    """Return whether one value meets one condition."""
    if condition.field == "timeRange":
        return isinstance(value, datetime) and value >= now - duration_of(condition.value)
    if condition.op in {"IS_NULL", "IS_NOT_NULL"}:
        return (value is None or value == "") == (condition.op == "IS_NULL")
    if isinstance(value, Mapping):
        return _label_passes(condition, value)
    if isinstance(value, datetime) or condition.field in DATE_FIELDS:
        return value is not None and _DATES[condition.op](value, instant(condition.value))
    if isinstance(value, (list, tuple)):
        hit = any(_TEXTS[_POSITIVE.get(condition.op, condition.op)](str(item), condition) for item in value)
        return hit != (condition.op in _POSITIVE)
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return _TEXTS[condition.op](text, condition)


def instant(text: str) -> datetime:
    """Return the time that `text` names; without an offset it is UTC.

    Raises:
        RequestError: `request.filter.invalid`.
    """
    try:
        time = datetime.fromisoformat(text.strip().replace(" ", "+") if "T" in text else text.strip())
    except ValueError:
        raise RequestError("request.filter.invalid", f"{text!r} is not an ISO-8601 time") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def duration_of(text: str) -> timedelta:
    """Return an ISO-8601 duration. Raises `RequestError` `request.filter.invalid`."""
    try:
        return parse_duration(text)
    except InvalidError as error:
        raise RequestError("request.filter.invalid", error.message) from None


def in_order(
    rows: Iterable[Any], sort: Sequence[tuple[str, bool]], keys: Mapping[str, Callable[[Any], Any]]
) -> list[Any]:
    """Return the rows in the order of `sort`; rows without a value come last.

    Raises:
        InvalidError: `request.sort.invalid` for a field that cannot be sorted by.
    """
    ordered = list(rows)
    for field, ascending in reversed(sort):
        if field not in keys:
            raise InvalidError(
                "request.sort.invalid", f"cannot sort by {field!r}", hint=f"there are {', '.join(sorted(keys))}"
            )
        key = keys[field]
        present = [row for row in ordered if key(row) is not None]
        missing = [row for row in ordered if key(row) is None]
        ordered = sorted(present, key=key, reverse=not ascending) + missing
    return ordered


def _label_passes(condition: Filter, labels: Mapping[str, Any]) -> bool:
    negative = condition.op.startswith("NOT_")
    if condition.key is not None:
        hit = str(labels.get(condition.key)) in condition.choices if condition.key in labels else False
    else:
        pairs = [item.partition(":") for item in condition.choices]
        hit = any(key in labels and (not colon or str(labels[key]) == value) for key, colon, value in pairs)
    return hit != negative


def _search(text: str, condition: Filter) -> bool:
    return bool(_compiled(condition.value).search(text))


def _equals(text: str, condition: Filter) -> bool:
    if condition.field == "q":
        return condition.value.lower() in text.lower()
    return text == condition.value


def _prefix(text: str, condition: Filter) -> bool:
    return text == condition.value or text.startswith(condition.value + ".")


DATE_FIELDS: Final = frozenset({"startDate", "endDate", "updated", "created", "expirationDate", "nextExecutionDate"})
_POSITIVE: Final = MappingProxyType({"NOT_EQUALS": "EQUALS", "NOT_IN": "IN", "NOT_CONTAINS": "CONTAINS"})
_TEXTS: Final[Mapping[str, Callable[[str, Filter], bool]]] = MappingProxyType(
    {
        "EQUALS": _equals,
        "NOT_EQUALS": lambda text, condition: not _equals(text, condition),
        "IN": lambda text, condition: text in condition.choices,
        "NOT_IN": lambda text, condition: text not in condition.choices,
        "STARTS_WITH": lambda text, condition: text.startswith(condition.value),
        "ENDS_WITH": lambda text, condition: text.endswith(condition.value),
        "CONTAINS": lambda text, condition: condition.value.lower() in text.lower(),
        "NOT_CONTAINS": lambda text, condition: condition.value.lower() not in text.lower(),
        "REGEX": _search,
        "PREFIX": _prefix,
    }
)
_DATES: Final[Mapping[str, Callable[[datetime, datetime], bool]]] = MappingProxyType(
    {
        "EQUALS": lambda value, limit: value == limit,
        "NOT_EQUALS": lambda value, limit: value != limit,
        "GREATER_THAN": lambda value, limit: value > limit,
        "LESS_THAN": lambda value, limit: value < limit,
        "GREATER_THAN_OR_EQUAL_TO": lambda value, limit: value >= limit,
        "LESS_THAN_OR_EQUAL_TO": lambda value, limit: value <= limit,
    }
)
