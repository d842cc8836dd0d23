"""Dataclasses as rows: one table holds one class, column by column in the order of its fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from runner.store.statements import Statement

T = TypeVar("T")


class Rows(Generic[T]):
    """The mapping of a dataclass to a table whose first columns are its fields.

    `generated` names the column that the database fills at insert; if it is a field, it is the last one. Further
    columns after the fields (`extras`) are given beside the row.
    """

    def __init__(self, kind: Callable[..., T], table: sa.Table, *, generated: str | None = None) -> None:
        names = [field.name for field in fields(kind)]  # type: ignore[arg-type]  # callers pass dataclasses only
        columns = list(table.c)
        assert [column.name for column in columns[: len(names)]] == names, f"{table.name} must start with {names}"
        self.table = table
        self.names = names
        self.columns = columns[: len(names)]
        self.extras = [column.name for column in columns[len(names) :] if column.name != generated]
        self._kind = kind
        assert generated is None or generated not in names[:-1]
        written = [name for name in names if name != generated]
        self._get = attrgetter(*written)
        self._encoders = _codecs([table.c[name] for name in written], "encode")
        self._decoders = _codecs(self.columns, "decode")
        self.insert = Statement(
            sa.insert(table).values({name: sa.bindparam(name) for name in (*written, *self.extras)})
        )

    def encode(self, row: T, *extras: Any) -> tuple[Any, ...]:
        """Return the values of `row` in the order of `insert`, then `extras` as they are."""
        values = list(self._get(row))
        for place, encode in self._encoders:
            if values[place] is not None:
                values[place] = encode(values[place])
        return (*values, *extras)

    def decode(self, values: Sequence[Any]) -> T:
        """Return the row of `values`, selected in the order of `columns`; further values are ignored."""
        given = list(values[: len(self.names)])
        for place, decode in self._decoders:
            if given[place] is not None:
                given[place] = decode(given[place])
        return self._kind(*given)

    def select(self, *where: Any) -> sa.Select[Any]:
        """Return a select of this class's columns."""
        return sa.select(*self.columns).where(*where)

    def upsert(self, *keys: str) -> Statement:
        """Return a statement that inserts a row, or replaces the one with the same `keys`."""
        return Statement.upsert(self.table, [*self.names, *self.extras], keys)


class Part(Generic[T]):
    """The mapping of a dataclass to some columns of a table, those of its fields' names; for reading only."""

    def __init__(self, kind: Callable[..., T], table: sa.Table) -> None:
        self.columns = [table.c[field.name] for field in fields(kind)]  # type: ignore[arg-type]  # dataclasses only
        self._kind = kind
        self._decoders = _codecs(self.columns, "decode")

    def decode(self, values: Sequence[Any]) -> T:
        """Return the row of `values`, selected in the order of `columns`."""
        given = list(values)
        for place, decode in self._decoders:
            if given[place] is not None:
                given[place] = decode(given[place])
        return self._kind(*given)


def _codecs(columns: Sequence[sa.Column[Any]], side: str) -> list[tuple[int, Callable[[Any], Any]]]:
    # Half of the columns need no codec; passing over them here saves a third of the time of encoding.
    found = [(place, column.info["codec"]) for place, column in enumerate(columns)]
    return [(place, getattr(codec, side)) for place, codec in found if codec is not None]
