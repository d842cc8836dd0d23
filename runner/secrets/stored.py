"""Secrets that people set by the API: sealed in the store, so that all processes of a deployment have them."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from runner.errors import InvalidError, MainstemError, NotFoundError
from runner.secrets.encryption import Encryption
from runner.secrets.file import around
from runner.store.records import StoredSecret
from task_runners.masking import MINIMUM_CHARS

if TYPE_CHECKING:
    from runner.store import Session, Store

_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_MOST_CHARS: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class About:
    """What people say about a secret. None of it is secret."""

    description: str | None = None
    tags: dict[str, str] = field(default_factory=dict)


NOTHING: Final = About()


@dataclass(frozen=True, slots=True)
class _Known:
    """What the store held at one generation: the rows, and the texts of those that could be opened."""

    generation: int = -1
    rows: Mapping[tuple[str, str], StoredSecret] = field(default_factory=dict)
    texts: Mapping[tuple[str, str], str] = field(default_factory=dict)


class StoredSecrets:
    """The secrets of a store. They are read again when any process has changed one. Safe for any thread.

    Those that people set, or with `of_git` those that commits brought.
    """

    is_namespaced = True

    def __init__(self, store: Store, encryption: Encryption, *, of_git: bool = False) -> None:
        self._store = store
        self._is_of_git = of_git
        self._encryption = encryption
        self._lock = threading.Lock()
        self._known = _Known()

    def get(self, namespace: str, key: str) -> str | None:
        """Return the secret of the nearest namespace that has it.

        Raises:
            MainstemError: `encryption.value.invalid` when it was sealed with another key.
        """
        known = self._current()
        for place in around(namespace):
            found = known.rows.get((place, key.upper()))
            if found is not None:
                return known.texts.get((place, found.key)) or self._encryption.decrypt(found.sealed)
        return None

    def keys(self, namespace: str) -> list[str]:
        """Return the keys that `namespace` sees, sorted."""
        line = set(around(namespace))
        return sorted({key for place, key in self._current().rows if place in line})

    def values(self) -> Iterator[str]:
        """Yield every value that can be opened."""
        yield from self._current().texts.values()

    def all(self) -> list[StoredSecret]:
        """Return every secret as it is kept, by namespace and key."""
        return list(self._current().rows.values())

    def find(self, namespace: str, key: str) -> StoredSecret:
        """Return a secret of exactly this namespace as it is kept. Raises `NotFoundError` `secret.missing`."""
        found = self._current().rows.get((namespace, key.upper()))
        if found is None:
            raise missing(namespace, key)
        return found

    def put(self, namespace: str, key: str, value: str, now: datetime, about: About = NOTHING) -> None:
        """Keep a secret, over the one of its namespace and key if there is one.

        Raises:
            InvalidError: `secret.key.invalid`, `secret.value.invalid`.
        """
        demand_secret(key, value)
        row = StoredSecret(namespace, key.upper(), self._encryption.encrypt(value), now, about.description, about.tags)
        self._store.write(lambda db: db.secrets.put(row))

    def describe(self, namespace: str, key: str, about: About, now: datetime) -> None:
        """Say something else about a secret; its value stays. Raises `NotFoundError` `secret.missing`."""

        def write(db: Session) -> None:
            found = db.secrets.get(namespace, key.upper())
            if found is None or found.origin is not None:
                raise missing(namespace, key)
            db.secrets.put(replace(found, updated_at=now, description=about.description, tags=about.tags))

        self._store.write(write)

    def delete(self, namespace: str, key: str) -> None:
        """Remove a secret that somebody set. Raises `NotFoundError` `secret.missing`."""

        def remove(db: Session) -> bool:
            found = db.secrets.get(namespace, key.upper())
            return found is not None and found.origin is None and db.secrets.delete(namespace, key.upper())

        if not self._store.write(remove):
            raise missing(namespace, key)

    def _current(self) -> _Known:
        def read(db: Session) -> _Known | None:
            generation = db.secrets.generation()
            if generation == self._known.generation:
                return None
            kept = (row for row in db.secrets.all() if (row.origin is not None) == self._is_of_git)
            rows = {(row.namespace, row.key): row for row in kept}
            return _Known(generation, rows)

        with self._lock:
            found = self._store.read(read)
            if found is not None:
                self._known = replace(found, texts=dict(self._opened(found.rows)))
            return self._known

    def _opened(self, rows: Mapping[tuple[str, str], StoredSecret]) -> Iterator[tuple[tuple[str, str], str]]:
        for place, row in rows.items():
            try:
                yield place, self._encryption.decrypt(row.sealed)
            except MainstemError:
                continue  # told to whoever asks for it; the others must not suffer


def demand_secret(key: str, value: str) -> None:
    """Raise `InvalidError` `secret.key.invalid` or `secret.value.invalid` when that can be no secret."""
    if not _KEY.fullmatch(key):
        raise InvalidError("secret.key.invalid", "a key is up to 200 letters, digits, `.`, `_` and `-`")
    if not MINIMUM_CHARS <= len(value) <= _MOST_CHARS or "\0" in value:
        message = f"the value of a secret has {MINIMUM_CHARS} to {_MOST_CHARS:,} characters, none of them NUL"
        raise InvalidError("secret.value.invalid", message, hint="a shorter one could not be masked")


def missing(namespace: str, key: str) -> NotFoundError:
    """Return the error for a secret that nobody set here."""
    return NotFoundError("secret.missing", f"no secret {key!r} was set in {namespace}")
