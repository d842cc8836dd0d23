"""Dashboards that commits brought, each under an id of the whole instance."""

from __future__ import annotations

from typing import Final

from runner.store import schema
from runner.store.connection import Connection
from runner.store.records import StoredDashboard
from runner.store.shelf import Drawer, Shelf

_DASHBOARDS: Final = Drawer(StoredDashboard, schema.dashboards, "id")


class Dashboards(Shelf[StoredDashboard]):
    """Dashboards by id."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, _DASHBOARDS)
