"""Engines that tasks used: what leads to each, as the encryption of the server sealed it."""

from __future__ import annotations

from datetime import datetime
from operator import attrgetter
from typing import Final

from runner.store import schema
from runner.store.connection import Connection
from runner.store.records import StoredEngine
from runner.store.shelf import Drawer, Shelf

_ENGINES: Final = Drawer(StoredEngine, schema.engines, "key")


class Engines(Shelf[StoredEngine]):
    """Engines by key."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, _ENGINES)

    def late(self, most: int, since: datetime) -> list[StoredEngine]:
        """Return those that were used `since` then, `most` of them, the latest first."""
        found = sorted(self.all(), key=attrgetter("used_at"), reverse=True)
        return [each for each in found[:most] if each.used_at >= since]

    def forget(self, most: int, before: datetime) -> None:
        """Remove those that were last used `before` then, and the oldest of more than `most`."""
        kept = {each.key for each in self.late(most, before)}
        for each in self.all():
            if each.key not in kept:
                self.delete(each.key)
