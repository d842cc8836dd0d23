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
        self._encoders = [_codec(table.c[name], "encode") for name in written]
        self._decoders = [_codec(column, "decode") for column in self.columns]
        self.insert = Statement(
            sa.insert(table).values({name: sa.bindparam(name) for name in (*written, *self.extras)})
        )

    def encode(self, row: T, *extras: Any) -> tuple[Any, ...]:
        """Return the values of `row` in the order of `insert`, then `extras` as they are."""
        values = self._get(row)
        return (*(v if c is None or v is None else c(v) for c, v in zip(self._encoders, values, strict=True)), *extras)

    def decode(self, values: Sequence[Any]) -> T:
        """Return the row of `values`, selected in the order of `columns`; further values are ignored."""
        pairs = zip(self._decoders, values, strict=False)
        return self._kind(*(v if c is None or v is None else c(v) for c, v in pairs))

    def select(self, *where: Any) -> sa.Select[Any]:
        """Return a select of this class's columns."""
        return sa.select(*self.columns).where(*where)

    def upsert(self, *keys: str) -> Statement:
        """Return a statement that inserts a row, or replaces the one with the same `keys`."""
        return Statement.upsert(self.table, [*self.names, *self.extras], keys)


def _codec(column: sa.Column[Any], side: str) -> Callable[[Any], Any] | None:
    codec = column.info["codec"]
    return None if codec is None else getattr(codec, side)
