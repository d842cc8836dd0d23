"""The key-value store of namespaces, kept in the database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from runner.key_values import already_there, checked_key, typed_value
from runner.store import Session, Store
from runner.store.records import KeyValue

_PAGE = 1_000


class StoredKeyValues:
    """What tasks and expressions see as KV. Safe for any thread."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock

    def get(self, namespace: str, key: str) -> tuple[bool, Any]:
        """Return whether the key exists (and has not expired) and its typed value."""
        found = self._store.read(lambda db: db.kv.get(namespace, key, self._clock()))
        return (False, None) if found is None else (True, found.value)

    def put(self, namespace: str, key: str, value: Any, **options: Any) -> None:
        """Store a value. Options: `kind`, `ttl` (timedelta), `description`, `overwrite` (default True).

        Raises:
            ConflictError: `kv.key.exists` when it is there and `overwrite` is False.
            InvalidError: `kv.key.invalid`, `kv.value.invalid`.
        """
        kind, typed = typed_value(value, options.get("kind"))
        ttl: timedelta | None = options.get("ttl")
        now = self._clock()
        expires = now + ttl if ttl else None
        row = KeyValue(namespace, checked_key(key), kind, typed, now, now, expires, options.get("description"))

        def write(db: Session) -> bool:
            if not options.get("overwrite", True) and db.kv.get(namespace, key, now) is not None:
                return False
            db.kv.put(row)
            return True

        if not self._store.write(write):
            raise already_there(namespace, key)

    def delete(self, namespace: str, key: str) -> bool:
        """Remove a key; return whether it was there."""
        now = self._clock()

        def remove(db: Session) -> bool:
            was_there = db.kv.get(namespace, key, now) is not None
            return db.kv.delete(namespace, key) and was_there

        return self._store.write(remove)

    def keys(self, namespace: str, prefix: str = "") -> list[str]:
        """Return the keys of a namespace that start with `prefix`, sorted."""
        found: list[str] = []
        while True:
            rows = self._page(namespace, prefix, len(found) // _PAGE + 1)
            found += rows
            if len(rows) < _PAGE:
                return sorted(found)

    def _page(self, namespace: str, prefix: str, page: int) -> list[str]:
        now = self._clock()
        found = self._store.read(lambda db: db.kv.list(namespace, prefix, page=page, size=_PAGE, now=now))
        return [row.key for row in found.items]
