"""SQL statements, written once with SQLAlchemy Core, compiled once per dialect, run by the driver itself.

Running a compiled statement through SQLAlchemy costs three to six times the CPU of the driver, which the hot statements
cannot afford; text written by hand per dialect would drift apart. This keeps one spelling and the driver's speed.
All differences between the dialects stand in this file and in `sqlite.py` and `postgres.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import psycopg as pg_psycopg
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from runner.store.columns import clean, dump

SQLITE: Final = "sqlite"
POSTGRESQL: Final = "postgresql"
_SURROGATES: Final = 0xD800  # no text of a store holds one
_BEHIND_SURROGATES: Final = 0xE000
_DIALECTS: Final[dict[str, sa.Dialect]] = {
    SQLITE: sqlite.dialect(),
    POSTGRESQL: pg_psycopg.dialect(paramstyle="format"),  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
}


@dataclass(frozen=True, slots=True)
class Compiled:
    """SQL text for a driver: `names` are its parameters in order, `fixed` the values of those that are constants."""

    sql: str
    names: tuple[str, ...]
    fixed: dict[str, Any]

    def values(self, given: dict[str, Any]) -> tuple[Any, ...]:
        """Return the parameters in the driver's order."""
        fixed = self.fixed
        return tuple(given[name] if name in given else fixed[name] for name in self.names)


def compile_for(construct: Any, dialect: str, *, complete: bool = False) -> Compiled:
    """Compile a Core construct for a dialect's driver; `complete` means that all its values stand in it."""
    options = {"render_postcompile": True} if complete else {}
    compiled = construct.compile(dialect=_DIALECTS[dialect], compile_kwargs=options)
    assert isinstance(compiled, SQLCompiler)
    names = tuple(compiled.positiontup or ())
    required = {bind.key for bind in compiled.binds.values() if bind.required}
    fixed = {name: value for name, value in compiled.params.items() if name not in required} if names else {}
    return Compiled(compiled.string, names, fixed)


class Statement:
    """A statement with named parameters; compiled at its first use in each dialect."""

    __slots__ = ("_compiled", "_constructs")

    def __init__(self, construct: Any, *, postgresql: Any = None) -> None:
        self._constructs = {SQLITE: construct, POSTGRESQL: construct if postgresql is None else postgresql}
        self._compiled: dict[str, Compiled] = {}

    @classmethod
    def upsert(
        cls, table: sa.Table, names: Iterable[str], keys: Sequence[str], *, keep: bool = False, kept: Sequence[str] = ()
    ) -> Statement:
        """Insert a row of `names`; where `keys` exist already, replace it, or leave it alone with `keep`.

        `kept` are the columns that a row which exists keeps.
        """
        binds: dict[str, Any] = {name: sa.bindparam(name) for name in names}
        constructs = []
        for insert in (sqlite.insert(table), pg.insert(table)):
            values = insert.values(binds)
            changed = {name: values.excluded[name] for name in binds if name not in {*keys, *kept}}
            if keep or not changed:
                constructs.append(values.on_conflict_do_nothing(index_elements=list(keys)))
            else:
                constructs.append(values.on_conflict_do_update(index_elements=list(keys), set_=changed))
        return cls(constructs[0], postgresql=constructs[1])

    def compiled(self, dialect: str) -> Compiled:
        """Return the text for `dialect`."""
        found = self._compiled.get(dialect)
        if found is None:
            found = self._compiled[dialect] = compile_for(self._constructs[dialect], dialect)
        return found


class _Listed(FunctionElement[Any]):
    """The members of a JSON list of texts, as a one-column table."""

    inherit_cache = True
    name = "listed"


class _ListedNumbers(FunctionElement[Any]):
    """The members of a JSON list of integers, as a one-column table."""

    inherit_cache = True
    name = "listed_numbers"


class _HasLabel(FunctionElement[bool]):
    """Whether a column of labels has a key with a value."""

    inherit_cache = True
    name = "has_label"
    type = sa.Boolean()


class _LabelOf(FunctionElement[str]):
    """The value of a key in a column of labels, null without it."""

    inherit_cache = True
    name = "label_of"
    type = sa.Text()


class _BeginsWith(FunctionElement[bool]):
    """Whether a column begins with a text, character by character. The third clause is the first text behind all these.

    Neither LIKE, for which `a` is `A` on SQLite, nor a range on PostgreSQL, whose order is that of a language.
    """

    inherit_cache = True
    name = "begins_with"
    type = sa.Boolean()

    def self_group(self, against: Any = None) -> Any:  # noqa: ARG002  # the signature is SQLAlchemy's
        """Return itself: a comparison, not a value to compare with 1, behind which SQLite would see no index."""
        return self


@compiles(_Listed, SQLITE)
@compiles(_ListedNumbers, SQLITE)
def _sqlite_listed(element: FunctionElement[Any], compiler: SQLCompiler, **kw: Any) -> str:
    inner = compiler.process(element.clauses, **kw)  # a placeholder
    return f"(SELECT value FROM json_each({inner}))"  # noqa: S608  # no value stands in the text


@compiles(_Listed, POSTGRESQL)
def _pg_listed(element: FunctionElement[Any], compiler: SQLCompiler, **kw: Any) -> str:
    return f"(SELECT json_array_elements_text(CAST({compiler.process(element.clauses, **kw)} AS JSON)))"


@compiles(_ListedNumbers, POSTGRESQL)
def _pg_listed_numbers(element: FunctionElement[Any], compiler: SQLCompiler, **kw: Any) -> str:
    inner = compiler.process(element.clauses, **kw)
    return f"(SELECT CAST(json_array_elements_text(CAST({inner} AS JSON)) AS BIGINT))"


@compiles(_HasLabel, SQLITE)
def _sqlite_has_label(element: FunctionElement[Any], compiler: SQLCompiler, **kw: Any) -> str:
    column, key, value = (compiler.process(clause, **kw) for clause in element.clauses)
    same = f"label.key = {key} AND label.value = {value}"
    return f"EXISTS (SELECT 1 FROM json_each({column}) AS label WHERE {same})"  # noqa: S608  # names and placeholders


@compiles(_HasLabel, POSTGRESQL)
def _pg_has_label(element: FunctionElement[Any], compiler: SQLCompiler, **kw: Any) -> str:
    column, key, value = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"((CAST({column} AS JSON) ->> {key}) = {value})"


@compiles(_LabelOf, SQLITE)
def _sqlite_label_of(element: FunctionElement[Any], compiler: SQLCompiler, **kw: Any) -> str:
    column, key = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"(SELECT value FROM json_each({column}) AS label WHERE label.key = {key})"  # noqa: S608  # placeholders


@compiles(_LabelOf, POSTGRESQL)
def _pg_label_of(element: FunctionElement[Any], compiler: SQLCompiler, **kw: Any) -> str:
    column, key = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"(CAST({column} AS JSON) ->> {key})"


@compiles(_BeginsWith, SQLITE)
def _sqlite_begins_with(element: FunctionElement[Any], compiler: SQLCompiler, **kw: Any) -> str:
    column, low, high = (compiler.process(clause, **kw) for clause in element.clauses)
    return f"({column} >= {low} AND {column} < {high})"


@compiles(_BeginsWith, POSTGRESQL)
def _pg_begins_with(element: FunctionElement[Any], compiler: SQLCompiler, **kw: Any) -> str:
    column, prefix, _ = element.clauses
    return f"starts_with({compiler.process(column, **kw)}, {compiler.process(prefix, **kw)})"


def one_of(column: sa.ColumnElement[Any], name: str) -> Any:
    """Return the condition that `column` is a member of the parameter `name`, given as `listed(...)`.

    One parameter for the whole list: the statement's text stays the same for any number of members, and there is no
    limit on that number.
    """
    kind = _ListedNumbers if isinstance(column.type, sa.BigInteger) else _Listed
    return column.op("IN", is_comparison=True)(kind(sa.bindparam(name, type_=sa.Text())))


def listed(members: Iterable[str] | Iterable[int]) -> str:
    """Return the value of a parameter of `one_of`."""
    return dump(list(members))


def has_label(column: sa.Column[Any], key: str, value: str) -> Any:
    """Return the condition that the labels in `column` hold `key` with `value`."""
    return _HasLabel(column, sa.literal(key, sa.Text()), sa.literal(value, sa.Text()))


def label_of(column: sa.Column[Any], key: str) -> Any:
    """Return the value of the label `key` in `column`, null without it."""
    return _LabelOf(column, sa.literal(clean(key), sa.Text()))


def begins_with(column: sa.Column[Any], prefix: str) -> Any:
    """Return the condition that `column` begins with `prefix`, which is not empty, in exactly its letters.

    An index on the column serves it: always on SQLite, on PostgreSQL where the database's collation is C.
    """
    return _BeginsWith(column, sa.literal(prefix, sa.Text()), sa.literal(_behind(prefix), sa.Text()))


def _behind(prefix: str) -> str:
    """Return the first text behind all that begin with `prefix`, by code points, as SQLite orders; empty for none."""
    shorter = prefix.rstrip(chr(sys.maxunicode))
    if not shorter:
        return ""
    following = ord(shorter[-1]) + 1
    return shorter[:-1] + chr(_BEHIND_SURROGATES if following == _SURROGATES else following)
