"""What triggers remember, and the ticks that have fired: one row per (trigger, tick), so that each fires once."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import sqlalchemy as sa

from runner.store import schema
from runner.store.columns import from_micros, to_micros
from runner.store.connection import Connection
from runner.store.records import TriggerState
from runner.store.shelf import Drawer, Shelf
from runner.store.statements import Statement

_TRIGGERS: Final = Drawer(TriggerState, schema.triggers, "namespace", "flow_id", "trigger_id")
_t: Final = schema.triggers.c
_WAITS: Final = (_t.next_at.is_not(None), _t.disabled == sa.literal_column("0"))

_OF_KIND: Final = Statement(
    _TRIGGERS.rows.select(_t.kind == sa.bindparam("of_kind")).order_by(_t.namespace, _t.flow_id, _t.trigger_id)
)
_OF_FLOW: Final = Statement(
    _TRIGGERS.rows.select(_t.namespace == sa.bindparam("space"), _t.flow_id == sa.bindparam("flow")).order_by(
        _t.trigger_id
    )
)
_DUE: Final = Statement(_TRIGGERS.rows.select(*_WAITS, _t.next_at <= sa.bindparam("now")).order_by(_t.next_at))
_NEXT: Final = Statement(sa.select(sa.func.min(_t.next_at)).where(*_WAITS))
_FIRE: Final = Statement.upsert(schema.ticks, ("trigger_key", "tick"), ("trigger_key", "tick"), keep=True)
_PRUNE: Final = Statement(sa.delete(schema.ticks).where(schema.ticks.c.tick < sa.bindparam("before")))


class Triggers(Shelf[TriggerState]):
    """Trigger states by (namespace, flow id, trigger id)."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, _TRIGGERS)

    def all(self, kind: str | None = None) -> list[TriggerState]:
        """Return all triggers, or those of one kind (SCHEDULE, FLOW, WEBHOOK ...)."""
        return super().all() if kind is None else self._some(_OF_KIND, of_kind=kind)

    def of_flow(self, namespace: str, flow_id: str) -> list[TriggerState]:
        """Return the triggers of a flow."""
        return self._some(_OF_FLOW, space=namespace, flow=flow_id)

    def due(self, now: datetime) -> list[TriggerState]:
        """Return the enabled triggers whose next moment has come, the earliest first."""
        return self._some(_DUE, now=to_micros(now))

    def next_due(self) -> datetime | None:
        """Return the earliest next moment of all enabled triggers."""
        found = self._db.one(_NEXT)
        return None if found[0] is None else from_micros(found[0])

    def fire(self, trigger_key: str, tick: datetime) -> bool:
        """Take a tick; False when it was taken before. Insert the execution in the same write."""
        return self._db.run(_FIRE, trigger_key=trigger_key, tick=to_micros(tick)) == 1

    def prune(self, before: datetime) -> int:
        """Forget ticks before a moment that no scheduler looks back to; give how many."""
        return self._db.run(_PRUNE, before=to_micros(before))
