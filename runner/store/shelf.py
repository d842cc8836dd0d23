"""A shelf: rows of one class under one key, put and got whole. What most of the cold tables need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import sqlalchemy as sa

from runner.store.connection import Connection
from runner.store.rows import Rows
from runner.store.statements import Statement

T = TypeVar("T")


class Drawer(Generic[T]):
    """The statements of one shelf, made once per module: by key, all, upsert, delete."""

    def __init__(self, kind: Callable[..., T], table: sa.Table, *keys: str) -> None:
        self.rows: Rows[T] = Rows(kind, table)
        self.keys = keys
        where = [table.c[key] == sa.bindparam(f"of_{key}") for key in keys]
        self.by_key = Statement(self.rows.select(*where))
        self.everything = Statement(self.rows.select().order_by(*(table.c[key] for key in keys)))
        self.upsert = self.rows.upsert(*keys)
        self.remove = Statement(sa.delete(table).where(*where))


class Shelf(Generic[T]):
    """Puts, gets, lists and deletes the rows of a drawer over a connection."""

    def __init__(self, connection: Connection, drawer: Drawer[T]) -> None:
        self._db = connection
        self._drawer = drawer

    def put(self, row: T) -> None:
        """Write a row, over the one with the same key if there is one."""
        self._db.insert(self._drawer.upsert, self._drawer.rows.encode(row))

    def get(self, *key: Any) -> T | None:
        """Return the row of a key."""
        found = self._db.one(self._drawer.by_key, **self._named(key))
        return self._drawer.rows.decode(found) if found else None

    def all(self) -> list[T]:
        """Return all rows, by key."""
        return self._some(self._drawer.everything)

    def delete(self, *key: Any) -> bool:
        """Remove the row of a key; False when there was none."""
        return self._db.run(self._drawer.remove, **self._named(key)) == 1

    def _some(self, statement: Statement, **values: Any) -> list[T]:
        return [self._drawer.rows.decode(row) for row in self._db.all(statement, **values)]

    def _first(self, statement: Statement, **values: Any) -> T | None:
        found = self._db.one(statement, **values)
        return self._drawer.rows.decode(found) if found else None

    def _named(self, key: tuple[Any, ...]) -> dict[str, Any]:
        return {f"of_{name}": value for name, value in zip(self._drawer.keys, key, strict=True)}
