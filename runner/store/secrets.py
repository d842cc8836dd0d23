"""Secrets of namespaces, as the encryption of the server sealed them: the store never sees one in the clear."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from runner.store import schema
from runner.store.connection import Connection
from runner.store.counters import Counter
from runner.store.records import StoredSecret
from runner.store.shelf import Drawer, Shelf
from runner.store.statements import Statement

_SECRETS: Final = Drawer(StoredSecret, schema.secrets, "namespace", "key")
_OF_ORIGIN: Final = Statement(_SECRETS.rows.select(schema.secrets.c.origin == sa.bindparam("wanted")))


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

    def of_origin(self, environment: str) -> list[StoredSecret]:
        """Return the secrets that commits of an environment brought."""
        return self._some(_OF_ORIGIN, wanted=environment)

    def generation(self) -> int:
        """Return a number that rises with every change of any secret."""
        return self._generation.value()
