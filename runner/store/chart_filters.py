"""The filters of charts as conditions. As in SQL, a field without a value meets none but IS_NULL."""

from __future__ import annotations

import operator
import re
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

import sqlalchemy as sa

from runner.dashboards.models import Filter
from runner.dashboards.query import compiled
from runner.dashboards.vocabulary import FieldKind
from runner.errors import InvalidError
from runner.store.chart_fields import Fields
from runner.store.columns import clean, to_micros
from runner.store.statements import POSTGRESQL

MATCHES: Final = "chart_matches"
"""The function that SQLite asks whether a text matches a pattern."""
_MOST_CONDITIONS: Final = 500
_MOST_VALUES: Final = 5_000
_DEEPEST: Final = 20
_TO_POSTGRESQL: Final = MappingProxyType({r"\b": r"\y", r"\B": r"\Y", r"\z": r"\Z"})
# PostgreSQL reads \10 as a reference to a group where there are ten, and \x41 on to the last hexadecimal digit.
_ESCAPE: Final = re.compile(
    r"\\x\{(?P<wide>[0-9A-Fa-f]+)\}|\\x(?P<byte>[0-9A-Fa-f]{2})|\\(?P<octal>[0-7]{1,3})|\\[\s\S]|\(\?P?<\w+>"
)
_ALONE: Final[Mapping[str, Callable[[Any], Any]]] = MappingProxyType(
    {
        "IS_NULL": lambda value: value.is_(None),
        "IS_NOT_NULL": lambda value: value.is_not(None),
        "IS_TRUE": lambda value: sa.func.lower(value) == "true",
        "IS_FALSE": lambda value: sa.func.lower(value) == "false",
    }
)
_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], Any]]] = MappingProxyType(
    {
        "EQUAL_TO": operator.eq,
        "NOT_EQUAL_TO": operator.ne,
        "GREATER_THAN": operator.gt,
        "GREATER_THAN_OR_EQUAL_TO": operator.ge,
        "LESS_THAN": operator.lt,
        "LESS_THAN_OR_EQUAL_TO": operator.le,
    }
)


def conditions(filters: Iterable[Filter], fields: Fields) -> list[Any]:
    """Return the conditions of filters, which all must hold.

    Raises:
        InvalidError: `dashboard.query.large` for more than 500 filters or 5,000 values, or more than 20 levels of OR.
    """
    listed = tuple(filters)
    every = list(_flat(listed, 0))
    if len(every) > _MOST_CONDITIONS or sum(len(each.values) for each in every) > _MOST_VALUES:
        raise _large(f"more than {_MOST_CONDITIONS} filters or {_MOST_VALUES} values")
    return [_condition(each, fields) for each in listed]


def _flat(filters: Iterable[Filter], depth: int) -> Iterator[Filter]:
    for each in filters:
        if depth > _DEEPEST:
            raise _large(f"more than {_DEEPEST} OR in each other")
        yield each
        yield from _flat(each.either, depth + 1)


def _large(what: str) -> InvalidError:
    return InvalidError("dashboard.query.large", f"a chart asks too much: {what}")


def _condition(said: Filter, fields: Fields) -> Any:
    if said.kind == "OR":
        return sa.or_(sa.false(), *(_condition(each, fields) for each in said.either))
    assert said.field is not None, "only OR has no field"
    kind = fields.kind(said.field)
    value = fields.compared(said.field, said.label)
    given = [_stored(each, kind) for each in said.values]
    if said.kind in _ALONE:
        return _ALONE[said.kind](value)
    if said.kind in {"IN", "NOT_IN"}:
        return _member(value, given, is_in=said.kind == "IN")
    if said.kind in _COMPARISONS:
        return _COMPARISONS[said.kind](value, given[0])
    return _text(said.kind, value, given[0], fields.dialect)


def _stored(value: Any, kind: FieldKind) -> Any:
    if isinstance(value, datetime):
        return to_micros(value)
    return clean(str(value)) if kind in {FieldKind.TEXT, FieldKind.LABELS} else value


def _member(value: Any, given: list[Any], *, is_in: bool) -> Any:
    if not given:
        return sa.false() if is_in else value.is_not(None)
    return value.in_(given) if is_in else value.not_in(given)


def _text(kind: str, value: Any, given: str, dialect: str) -> Any:
    if kind == "REGEX":
        return _matches(value, given, dialect)
    # LIKE has other cases on SQLite than on PostgreSQL; these compare each character as it is on both.
    find = sa.func.strpos if dialect == POSTGRESQL else sa.func.instr
    if kind in {"CONTAINS", "NOT_CONTAINS"}:
        holds = find(value, given) > 0
        return sa.not_(holds) if kind == "NOT_CONTAINS" else holds
    size = len(given)
    if kind == "ENDS_WITH":
        length = sa.func.length(value)
        return sa.and_(length >= size, sa.func.substr(value, length - size + 1) == given)
    begins = sa.func.substr(value, 1, size) == given
    if kind == "PREFIX":
        return sa.or_(value == given, sa.func.substr(value, 1, size + 1) == given + ".")
    return begins


def _matches(value: Any, pattern: str, dialect: str) -> Any:
    if dialect != POSTGRESQL:
        return getattr(sa.func, MATCHES)(value, pattern) == sa.literal_column("1")
    return value.regexp_match(postgresql_pattern(pattern))


def postgresql_pattern(pattern: str) -> str:
    """Return a pattern of RE2 as PostgreSQL writes it: no dot meets a line break, groups have no names.

    RE2 has looked at it before, so that neither look-around nor a reference to a group reaches the server.
    """
    flags = re.match(r"\(\?([ims]+)\)", pattern)
    told = set(flags[1]) if flags else set()
    rest = pattern[flags.end() :] if flags else pattern
    lines = "n" if "m" in told and "s" not in told else "w" if "m" in told else "s" if "s" in told else "p"
    options = lines + ("i" if "i" in told else "")
    return f"(?{options}){_ESCAPE.sub(_translated, rest)}"


def _translated(match: re.Match[str]) -> str:
    code = match["wide"] or match["byte"]
    if code or match["octal"]:
        return f"\\U{int(code, 16) if code else int(match['octal'], 8):08x}"
    return "(" if match[0].startswith("(") else _TO_POSTGRESQL.get(match[0], match[0])


def matcher(driver: sqlite3.Connection, seconds: float) -> Callable[[object, str], int]:
    """Return the function that gives 1 where a text matches a pattern somewhere, else 0, for SQLite.

    RE2 takes time linear in the text, but a hard pattern much of it for each row, while SQLite looks at its clock only
    every so many steps: after `seconds` the function finds nothing, and interrupts the statement.
    """
    deadline = time.monotonic() + seconds

    def matches(text: object, pattern: str) -> int:
        if time.monotonic() > deadline:
            driver.interrupt()
            return 0
        return int(text is not None and compiled(pattern).search(str(text)) is not None)

    return matches
