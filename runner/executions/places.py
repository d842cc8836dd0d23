"""The places of a flow with a concurrency limit: who may start, and who is next when one becomes free.

Places are counted from the executions that have begun and not ended, never kept as a number, so that none can leak.
"""

from __future__ import annotations

from dataclasses import dataclass

from runner.executions.models import OUTBOX_ADVANCE, OutboxRow
from runner.store import Session


@dataclass(frozen=True, slots=True)
class Places:
    """The places of one flow. `limit` None: the flow cannot be read any more, so nobody knows how many there are."""

    namespace: str
    flow_id: str
    limit: int | None

    def lock(self, db: Session) -> None:
        """Let nobody else take or free a place until this transaction ends. Before any other write of it."""
        db.executions.lock_flow(self.namespace, self.flow_id)

    def has_room_for(self, db: Session, execution_id: str, *, again: bool = False) -> bool:
        """Return whether an execution may start: there is room, and nobody has waited longer for it.

        One that starts `again` takes free room at once: put in line by its age it could come before those that were
        rung for that room, and nobody would ring for it.
        """
        assert self.limit is not None
        if not db.executions.admit(execution_id, self.namespace, self.flow_id, self.limit):
            return False
        if again:
            return True
        room = self.limit - db.executions.running_count(self.namespace, self.flow_id)
        queued = db.executions.queued(self.namespace, self.flow_id, room)
        return not queued or execution_id in queued

    def ring_next(self, db: Session) -> list[str]:
        """Ring for those that may start now, with the commit that made room for them; return their ids.

        Without a known limit the first that waits is rung for, and finds out.
        """
        taken = db.executions.running_count(self.namespace, self.flow_id) if self.limit is not None else 0
        found = db.executions.queued(self.namespace, self.flow_id, (self.limit or 1) - taken)
        db.outbox.add(OutboxRow(OUTBOX_ADVANCE, execution_id) for execution_id in found)
        return found
