"""What the report writer remembers between two commits, by environment."""

from __future__ import annotations

from typing import Any, Final

import orjson
import sqlalchemy as sa

from runner.store import schema
from runner.store.columns import dump
from runner.store.connection import Connection
from runner.store.statements import Statement

_s: Final = schema.report_state.c
_KEY: Final = (_s.environment == sa.bindparam("env"), _s.key == sa.bindparam("wanted"))

_GET: Final = Statement(sa.select(_s.value).where(*_KEY))
_PUT: Final = Statement.upsert(schema.report_state, ("environment", "key", "value"), ("environment", "key"))
_DELETE: Final = Statement(sa.delete(schema.report_state).where(*_KEY))
_ALL: Final = Statement(sa.select(_s.key, _s.value).where(_s.environment == sa.bindparam("env")).order_by(_s.key))


class ReportState:
    """JSON values by environment and key."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    def get(self, environment: str, key: str) -> Any:
        """Return a value, None when there is none."""
        found = self._db.one(_GET, env=environment, wanted=key)
        return orjson.loads(found[0]) if found else None

    def put(self, environment: str, key: str, value: Any) -> None:
        """Write a value."""
        self._db.run(_PUT, environment=environment, key=key, value=dump(value))

    def delete(self, environment: str, key: str) -> bool:
        """Remove a value; False when there was none."""
        return self._db.run(_DELETE, env=environment, wanted=key) == 1

    def texts(self, environment: str) -> list[tuple[str, str]]:
        """Return all keys of an environment with their values as JSON text."""
        return [(key, value) for key, value in self._db.all(_ALL, env=environment)]
