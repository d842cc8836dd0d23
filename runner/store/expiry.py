"""What has become old: which rows may go, and their removal in small steps."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa

from runner.executions.models import OUTBOX_CHILD_ENDED, OUTBOX_PURGE, OutboxRow
from runner.states import State
from runner.store import schema
from runner.store.columns import from_micros, to_micros
from runner.store.connection import Connection
from runner.store.executions import ExecutionRows
from runner.store.outbox import Outbox
from runner.store.statements import Statement, listed, one_of

_e: Final = schema.executions.c
_m: Final = schema.metrics.c
_LIMIT: Final = sa.bindparam("count", type_=sa.Integer())
_LINKS: Final = (_e.id, _e.created_at, _e.parent_execution_id, _e.trigger_execution_id, _e.original_id, _e.parent_id)
_OPEN: Final = Statement(
    # In the order of the partial index of open executions: asked for another one, SQLite would read all there are.
    sa.select(*_LINKS).where(_e.ended_at.is_(None)).order_by(_e.namespace, _e.flow_id, _e.created_at)
)
_SOME: Final = Statement(sa.select(*_LINKS).where(one_of(_e.id, "ids")))
_ENDED: Final = Statement(
    # By creation, which is never after the end: the index begins with the oldest and stops at the moment asked for.
    sa.select(_e.id, _e.created_at)
    .where(
        _e.created_at < sa.bindparam("before"),
        sa.tuple_(_e.created_at, _e.id) > sa.tuple_(sa.bindparam("after"), sa.bindparam("after_id")),
        _e.ended_at < sa.bindparam("before"),
        one_of(_e.state.concat(""), "states"),  # by no index: all that have ended would be read, and sorted
        ~sa.exists().where(schema.outbox.c.key == _e.id),  # a report, a parent or a trigger has yet to hear of its end
    )
    .order_by(_e.created_at, _e.id)
    .limit(_LIMIT)
)
_STILL: Final = Statement(
    sa.select(_e.id, _e.namespace, _e.flow_id)
    .where(one_of(_e.id, "ids"), _e.ended_at < sa.bindparam("before"))
    .with_for_update()
)
_OLD_METRICS: Final = sa.select(_m.id).where(_m.timestamp < sa.bindparam("before")).order_by(_m.timestamp).limit(_LIMIT)
_DROP_METRICS: Final = Statement(sa.delete(schema.metrics).where(_m.id.in_(_OLD_METRICS)))
_NEVER: Final = (1 << 63) - 1
START: Final = (datetime.fromtimestamp(0, UTC), "")


@dataclass(frozen=True, slots=True)
class Links:
    """An execution and those it came from: its parent, the one whose end started it, the one it repeats."""

    id: str
    created_at: datetime
    sources: frozenset[str]


class Expiry:
    """Questions and removals of the retention."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    def open(self) -> list[Links]:
        """Return all executions that have not ended."""
        return [_links(row) for row in self._db.all(_OPEN)]

    def links(self, ids: Collection[str]) -> list[Links]:
        """Return what these executions came from; those that are gone are left out."""
        return [_links(row) for row in self._db.all(_SOME, ids=listed(ids))]

    def ended(
        self, states: Collection[State], before: datetime, after: tuple[datetime, str], limit: int
    ) -> list[tuple[str, datetime]]:
        """Return ids and creation of executions that ended in one of `states` before a moment, the oldest first.

        They come after `after`, the last of the page before; `START` begins. Those that something has yet to hear of
        are left out.
        """
        rows = self._db.all(
            _ENDED,
            before=to_micros(before),
            after=to_micros(after[0]),
            after_id=after[1],
            states=listed([state.value for state in states]),
            count=limit,
        )
        return [(row[0], from_micros(row[1])) for row in rows]

    def remove(self, ids: Collection[str], before: datetime) -> int:
        """Remove executions with all their rows, unless they go on again; give how many went.

        Their logs and files lie elsewhere: a row of the outbox for each asks for their removal.
        """
        found = self._db.all(_STILL, ids=listed(ids), before=to_micros(before))
        executions, outbox = ExecutionRows(self._db), Outbox(self._db)
        for execution_id, namespace, flow_id in found:
            executions.delete(execution_id)
            outbox.add([OutboxRow(OUTBOX_PURGE, execution_id, {"namespace": namespace, "flowId": flow_id})])
        return len(found)

    def delete(self, execution_id: str, *, logs: bool, storage: bool) -> list[int] | None:
        """Remove one execution with all its rows; None when it has not ended, is gone, or has yet to tell its parent.

        Given are the ids of the rows of the outbox that ask for the removal of its logs and files, as far as wanted:
        for who removes them at once, so that nobody need do it again.
        """
        found, outbox = self._db.all(_STILL, ids=listed([execution_id]), before=_NEVER), Outbox(self._db)
        # Asked after its row is locked: an end that came in between has left its word for the parent by now.
        if not found or outbox.of_key(OUTBOX_CHILD_ENDED, execution_id):
            return None
        [(_, namespace, flow_id)] = found
        ExecutionRows(self._db).delete(execution_id)
        payload = {"namespace": namespace, "flowId": flow_id, "logs": logs, "storage": storage}
        return outbox.add([OutboxRow(OUTBOX_PURGE, execution_id, payload)] if logs or storage else [])

    def drop_metrics(self, before: datetime, limit: int) -> int:
        """Remove at most `limit` metrics written before a moment; give how many."""
        return self._db.run(_DROP_METRICS, before=to_micros(before), count=limit)


def _links(row: tuple[object, ...]) -> Links:
    sources = frozenset(str(value) for value in row[2:] if value is not None and value != row[0])
    assert isinstance(row[1], int)
    return Links(str(row[0]), from_micros(row[1]), sources)
