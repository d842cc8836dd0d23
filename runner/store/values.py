"""The key-value store of namespaces."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from runner.store import schema
from runner.store.columns import to_micros
from runner.store.connection import Connection
from runner.store.queries import Page, ordering, paged, within
from runner.store.records import KeyValue
from runner.store.rows import Rows
from runner.store.statements import Statement, begins_with

_ROWS: Final = Rows(KeyValue, schema.key_values)
_k: Final = schema.key_values.c
_KEY: Final = (_k.namespace == sa.bindparam("space"), _k.key == sa.bindparam("wanted"))
_SORTABLE: Final = {
    "key": _k.key,
    "namespace": _k.namespace,
    "created_at": _k.created_at,
    "creationDate": _k.created_at,
    "updated_at": _k.updated_at,
    "updateDate": _k.updated_at,
    "expirationDate": _k.expires_at,
}

_GET: Final = Statement(_ROWS.select(*_KEY))
_PUT: Final = _ROWS.upsert("namespace", "key")
_OF_ORIGIN: Final = Statement(_ROWS.select(_k.origin == sa.bindparam("wanted")).order_by(_k.namespace, _k.key))
_DELETE: Final = Statement(sa.delete(schema.key_values).where(*_KEY))
_PURGE: Final = Statement(
    sa.delete(schema.key_values).where(_k.expires_at.is_not(None), _k.expires_at <= sa.bindparam("now"))
)


class KeyValues:
    """Values by namespace and key. An expired value stays until it is purged; `expired` tells it from a missing one."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    def put(self, value: KeyValue) -> KeyValue:
        """Write a value. Over an existing one, `created_at` stays and `revision` rises; the written row is given."""
        self._db.lock("key value", value.namespace, value.key)
        before = self._find(value.namespace, value.key)
        if before is not None:
            value = replace(value, created_at=before.created_at, revision=before.revision + 1)
        self._db.insert(_PUT, _ROWS.encode(value))
        return value

    def get(self, namespace: str, key: str, now: datetime) -> KeyValue | None:
        """Return a value that has not expired at `now`."""
        found = self._find(namespace, key)
        return None if found is None or _is_over(found, now) else found

    def expired(self, namespace: str, key: str, now: datetime) -> bool:
        """Return whether the key has a value that is over at `now` and not purged yet."""
        found = self._find(namespace, key)
        return found is not None and _is_over(found, now)

    def of_origin(self, environment: str, now: datetime) -> tuple[KeyValue, ...]:
        """Return the values that a commit of an environment wrote last and that have not expired at `now`."""
        found = (_ROWS.decode(row) for row in self._db.all(_OF_ORIGIN, wanted=environment))
        return tuple(value for value in found if not _is_over(value, now))

    def delete(self, namespace: str, key: str) -> bool:
        """Remove a value; False when there was none."""
        return self._db.run(_DELETE, space=namespace, wanted=key) == 1

    def delete_below(self, namespace: str) -> int:
        """Remove the keys of a namespace and of all below it; give how many."""
        return self._db.change(sa.delete(schema.key_values).where(within(_k.namespace, namespace)))

    def list(
        self,
        namespace: str | None = None,
        prefix: str | None = None,
        *,
        page: int = 1,
        size: int = 100,
        sort: tuple[str, ...] = (),
        now: datetime | None = None,
    ) -> Page[KeyValue]:
        """Return a page of values, of all namespaces when None; expired ones too unless `now` is given."""
        where: list[Any] = []
        if namespace is not None:
            where.append(_k.namespace == namespace)
        if prefix:
            where.append(begins_with(_k.key, prefix))
        if now is not None:
            where.append(sa.or_(_k.expires_at.is_(None), _k.expires_at > to_micros(now)))
        total = self._db.query(sa.select(sa.func.count()).select_from(schema.key_values).where(*where))[0][0]
        select = _ROWS.select(*where).order_by(*ordering(sort, _SORTABLE, (_k.namespace, _k.key)))
        return Page([_ROWS.decode(row) for row in self._db.query(paged(select, page, size))], total)

    def purge_expired(self, now: datetime) -> int:
        """Remove what has expired at `now`; give how many."""
        return self._db.run(_PURGE, now=to_micros(now))

    def _find(self, namespace: str, key: str) -> KeyValue | None:
        found = self._db.one(_GET, space=namespace, wanted=key)
        return _ROWS.decode(found) if found else None


def _is_over(value: KeyValue, now: datetime) -> bool:
    return value.expires_at is not None and value.expires_at <= now
