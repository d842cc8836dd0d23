"""The outbox: what must be done after a commit, at least once, written by that commit."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, Final

import sqlalchemy as sa

from runner.executions.models import OUTBOX_RUN, OutboxRow
from runner.store import schema
from runner.store.columns import dump, from_micros, to_micros
from runner.store.connection import Connection
from runner.store.rows import Rows
from runner.store.statements import Statement, listed, one_of

_table: Final = schema.outbox
_c: Final = _table.c
_rows: Final = Rows(OutboxRow, _table)

_VALUES: Final[dict[str, Any]] = {
    name: sa.bindparam(name) for name in ("kind", "key", "payload", "available_at", "created_at")
}
INSERT: Final = Statement(sa.insert(_table).values(_VALUES))
_INSERT_ID: Final = Statement(sa.insert(_table).values(_VALUES).returning(_c.id))
# One kind at a time and in the order of its index: with a long backlog, nothing is read beyond the limit.
_TAKE: Final = Statement(
    _rows.select(_c.kind == sa.bindparam("of"), _c.available_at <= sa.bindparam("now"))
    .order_by(_c.available_at, _c.id)
    .limit(sa.bindparam("count", type_=sa.Integer()))
)
_OLDER: Final = Statement(
    _rows.select(
        _c.kind == sa.bindparam("of"),
        _c.available_at <= sa.bindparam("until"),
        _c.created_at <= sa.bindparam("before"),
    )
    .order_by(_c.available_at, _c.id)
    .limit(sa.bindparam("count", type_=sa.Integer()))
)
_DELETE: Final = Statement(sa.delete(_table).where(one_of(_c.id, "ids")))
_DELETE_KEY: Final = Statement(
    sa.delete(_table).where(_c.key == sa.bindparam("the_key"), _c.kind == sa.bindparam("of"))
)
_DEFER: Final = Statement(
    sa.update(_table).where(one_of(_c.id, "ids")).values(available_at=sa.bindparam("available_at"))
)
_COUNTS: Final = Statement(sa.select(_c.kind, sa.func.count(), sa.func.min(_c.created_at)).group_by(_c.kind))
_RUNS: Final = Statement(
    sa.select(schema.task_runs.c.queue, sa.func.count(), sa.func.min(_c.created_at))
    .join(schema.task_runs, schema.task_runs.c.id == _c.key)
    .where(_c.kind == sa.literal_column(f"'{OUTBOX_RUN}'"))
    .group_by(schema.task_runs.c.queue)
)
_OF_KEY: Final = Statement(
    sa.select(_c.id).where(_c.key == sa.bindparam("the_key"), _c.kind == sa.bindparam("of")).order_by(_c.id)
)
_OF_KEYS: Final = Statement(
    sa.select(_c.key, _c.id).where(one_of(_c.key, "keys"), _c.kind == sa.bindparam("of")).order_by(_c.id)
)
_NEVER: Final = (1 << 63) - 1


def encode(rows: Iterable[OutboxRow], now: datetime) -> list[tuple[object, ...]]:
    """Return the values of `INSERT` for each row."""
    at = to_micros(now)
    return [
        (row.kind, row.key, dump(row.payload), to_micros(row.available_at) if row.available_at else 0, at)
        for row in rows
    ]


class Outbox:
    """Rows that wait to be acted on. Acting comes first, deleting after it: a row may be seen more than once.

    `run` rows leave when their run is claimed, `advance` rows when a commit of their execution answers them.
    """

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    def add(self, rows: Iterable[OutboxRow]) -> list[int]:
        """Write rows; give their ids."""
        compiled = _INSERT_ID.compiled(self._db.dialect).sql
        values = encode(rows, self._db.clock())
        return [self._db.driver.execute(compiled, row).fetchone()[0] for row in values]

    def take(self, kinds: Collection[str], limit: int, now: datetime) -> list[OutboxRow]:
        """Return the rows that may be acted on, those that waited longest first. They stay until deleted."""
        return self._oldest(_TAKE, kinds, limit, now=to_micros(now))

    def older_than(
        self, kinds: Collection[str], seconds: float, now: datetime, limit: int, *, hidden: bool = True
    ) -> list[OutboxRow]:
        """Return the rows that were written at least `seconds` before `now`, those that waited longest first.

        Without `hidden` only those that are not deferred beyond `now`.
        """
        before, until = to_micros(now - timedelta(seconds=seconds)), to_micros(now)
        return self._oldest(_OLDER, kinds, limit, before=before, until=_NEVER if hidden else until)

    def of_key(self, kind: str, key: str) -> list[int]:
        """Return the ids of the rows of one kind about one thing."""
        return [row[0] for row in self._db.all(_OF_KEY, the_key=key, of=kind)]

    def of_keys(self, kind: str, keys: Collection[str]) -> dict[str, tuple[int, ...]]:
        """Return the ids of the rows of one kind for each of many things; things without rows are left out."""
        found: dict[str, tuple[int, ...]] = {}
        for key, row_id in self._db.all(_OF_KEYS, keys=listed(keys), of=kind):
            found[key] = (*found.get(key, ()), row_id)
        return found

    def delete(self, ids: Collection[int]) -> int:
        """Remove rows that were acted on; give how many were still there."""
        return self._db.run(_DELETE, ids=listed(ids)) if ids else 0

    def delete_key(self, kind: str, key: str) -> int:
        """Remove all rows of one kind about one thing."""
        return self._db.run(_DELETE_KEY, the_key=key, of=kind)

    def defer(self, ids: int | Collection[int], available_at: datetime) -> int:
        """Hide rows until `available_at`; give how many were still there."""
        wanted = [ids] if isinstance(ids, int) else ids
        return self._db.run(_DEFER, ids=listed(wanted), available_at=to_micros(available_at))

    def counts(self) -> dict[str, tuple[int, datetime]]:
        """Return for each kind the number of its rows and the moment the oldest was written."""
        return {kind: (count, from_micros(oldest)) for kind, count, oldest in self._db.all(_COUNTS)}

    def runs_by_queue(self) -> dict[str, tuple[int, datetime]]:
        """Return for each queue the number of task runs that wait to be claimed, and since when the oldest does."""
        return {queue: (count, from_micros(oldest)) for queue, count, oldest in self._db.all(_RUNS)}

    def _oldest(self, statement: Statement, kinds: Collection[str], limit: int, **moment: int) -> list[OutboxRow]:
        found = [row for kind in kinds for row in self._db.all(statement, of=kind, count=limit, **moment)]
        found.sort(key=itemgetter(3, 4))  # available_at, id
        return [self._decode(row) for row in found[:limit]]

    def _decode(self, values: tuple[object, ...]) -> OutboxRow:
        at_once = values[3] == 0
        return _rows.decode((*values[:3], None if at_once else values[3], values[4]))
