"""Counters that rise with every change of something: what was read under one number stays true until it rises."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from runner.store import schema
from runner.store.connection import Connection
from runner.store.statements import Statement

_c: Final = schema.counters.c
_OF: Final = _c.name == sa.bindparam("of_name")
_VALUE: Final = Statement(sa.select(_c.value).where(_OF))
_BUMP: Final = Statement(sa.update(schema.counters).where(_OF).values(value=_c.value + 1))
_FIRST: Final = Statement(sa.insert(schema.counters).values(name=sa.bindparam("of_name"), value=1))


class Counter:
    """One counter over the connection of a transaction."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._db = connection
        self._name = name

    def value(self) -> int:
        """Return the number; 0 before the first change."""
        found = self._db.one(_VALUE, of_name=self._name)
        return int(found[0]) if found else 0

    def bump(self) -> None:
        """Make it one more."""
        if self._db.run(_BUMP, of_name=self._name) == 0:
            self._db.lock("counter", self._name)
            if self._db.run(_BUMP, of_name=self._name) == 0:
                self._db.run(_FIRST, of_name=self._name)
