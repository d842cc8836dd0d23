"""Secrets of namespaces, as the encryption of the server sealed them: the store never sees one in the clear."""

from __future__ import annotations

from typing import Final

from runner.store import schema
from runner.store.connection import Connection
from runner.store.counters import Counter
from runner.store.records import StoredSecret
from runner.store.shelf import Drawer, Shelf

_SECRETS: Final = Drawer(StoredSecret, schema.secrets, "namespace", "key")


class Secrets(Shelf[StoredSecret]):
    """Secrets by namespace and key."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, _SECRETS)
        self._generation = Counter(connection, "secrets")

    def put(self, row: StoredSecret) -> None:
        """Write a secret, over the one of its namespace and key if there is one."""
        super().put(row)
        self._generation.bump()

    def delete(self, *key: str) -> bool:
        """Remove the secret of a namespace and a key; False when there was none."""
        is_gone = super().delete(*key)
        if is_gone:
            self._generation.bump()
        return is_gone

    def generation(self) -> int:
        """Return a number that rises with every change of any secret."""
        return self._generation.value()
