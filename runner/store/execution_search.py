"""Questions about many executions: searches, counts, what is due, what runs, what waits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from runner.executions.models import Execution
from runner.states import State
from runner.store import schema
from runner.store.columns import from_micros, to_micros
from runner.store.connection import Connection
from runner.store.executions import EXECUTIONS
from runner.store.queries import ExecutionQuery, Page, labelled, ordering, paged, within
from runner.store.statements import SQLITE, Statement

_e: Final = schema.executions.c
_r: Final = schema.task_runs.c
_DAY: Final = 86_400_000_000  # microseconds
_FLOW: Final = (_e.namespace == sa.bindparam("namespace"), _e.flow_id == sa.bindparam("flow"))
_OPEN: Final = _e.ended_at.is_(None)
_STARTED: Final = (_OPEN, *(_e.state != state.value for state in (State.CREATED, State.QUEUED, State.RESTARTED)))
_DURATION: Final = sa.func.coalesce(_e.ended_at, 0) - sa.func.coalesce(_e.started_at, _e.created_at)
_MANY: Final = 5_000  # that are found: rather than to sort them all, the newest are looked through for a page
_SORTABLE: Final[dict[str, Any]] = {
    "id": _e.id,
    "namespace": _e.namespace,
    "flowId": _e.flow_id,
    "flow_id": _e.flow_id,
    "flowRevision": _e.flow_revision,
    "state": _e.state,
    "state.current": _e.state,
    "state.startDate": _e.created_at,
    "state.endDate": _e.ended_at,
    "state.duration": _DURATION,
    "created_at": _e.created_at,
    "started_at": _e.started_at,
    "ended_at": _e.ended_at,
}

_COUNT_BY_STATE: Final = Statement(sa.select(_e.state, sa.func.count()).group_by(_e.state))
_ENDED_SINCE: Final = Statement(
    sa.select(_e.state, sa.func.count())
    .where(*_FLOW, _e.created_at >= sa.bindparam("since"), _e.ended_at.is_not(None))
    .group_by(_e.state)
)
# In the order of the partial index: asked for another one, SQLite would read all executions that ever were.
_OPEN_IDS: Final = Statement(
    sa.select(_e.created_at, _e.id).where(_OPEN).order_by(_e.namespace, _e.flow_id, _e.created_at)
)
_DUE: Final = Statement(
    sa.union(
        sa.select(_e.id, _e.due_at).where(_e.due_at <= sa.bindparam("now"), _e.due_at.is_not(None), _OPEN),
        sa.select(_r.execution_id, _r.due_at).where(
            _r.due_at <= sa.bindparam("now"), _r.due_at.is_not(None), _r.ended_at.is_(None)
        ),
    )
)
_NEXT_DUE: Final = Statement(
    sa.union_all(
        sa.select(sa.func.min(_e.due_at)).where(_e.due_at.is_not(None), _OPEN),
        sa.select(sa.func.min(_r.due_at)).where(_r.due_at.is_not(None), _r.ended_at.is_(None)),
    )
)
_RUNNING: Final = Statement(sa.select(sa.func.count()).select_from(schema.executions).where(*_FLOW, *_STARTED))
_RUNNING_OTHERS: Final = Statement(
    sa.select(sa.func.count())
    .select_from(schema.executions)
    .where(*_FLOW, *_STARTED, _e.id != sa.bindparam("execution"))
)
_RUNNING_FLOWS: Final = Statement(
    sa.select(_e.namespace, _e.flow_id, sa.func.count()).where(*_STARTED).group_by(_e.namespace, _e.flow_id)
)
_QUEUED: Final = Statement(
    sa.select(_e.id)
    .where(*_FLOW, _OPEN, _e.state == State.QUEUED.value)
    .order_by(_e.created_at, _e.id)
    .limit(sa.bindparam("count", type_=sa.Integer()))
)
_CHILDREN: Final = Statement(
    EXECUTIONS.select(_e.parent_execution_id == sa.bindparam("parent")).order_by(_e.created_at, _e.id)
)
_LAST_OF_FLOW: Final = Statement(
    EXECUTIONS.select(*_FLOW)
    .order_by(_e.created_at.desc(), _e.id.desc())
    .limit(sa.bindparam("count", type_=sa.Integer()))
)


@dataclass(frozen=True, slots=True)
class DayCount:
    """Executions created on one day (UTC) that are in one state; seconds are those of the ended ones."""

    day: date
    state: State
    count: int
    seconds: float
    seconds_min: float
    seconds_max: float


class ExecutionSearch:
    """Finds and counts executions."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    def search(self, query: ExecutionQuery) -> Page[Execution]:
        """Return a page of executions, the newest first unless `query.sort` says otherwise."""
        where = _conditions(query)
        total = self._db.query(sa.select(sa.func.count()).select_from(schema.executions).where(*where))[0][0]
        return Page(self._decode(self._db.query(page_of(query, total, self._db.dialect))), total)

    def count_by_state(self) -> dict[State, int]:
        """Return how many executions are in each state that has some."""
        return {State(state): count for state, count in self._db.all(_COUNT_BY_STATE)}

    def open_ids(self) -> list[str]:
        """Return the executions that have not ended, the oldest first."""
        return [execution_id for _, execution_id in sorted(self._db.all(_OPEN_IDS))]

    def due(self, now: datetime) -> list[tuple[str, datetime]]:
        """Return the timers at or before `now` of open executions and their runs: the execution's id, and when."""
        return [(row[0], from_micros(row[1])) for row in self._db.all(_DUE, now=to_micros(now))]

    def next_due(self) -> datetime | None:
        """Return the earliest timer of all open executions and their runs."""
        moments = [row[0] for row in self._db.all(_NEXT_DUE) if row[0] is not None]
        return from_micros(min(moments)) if moments else None

    def running_count(self, namespace: str, flow_id: str) -> int:
        """Return how many executions of a flow have started and not ended."""
        return int(self._db.one(_RUNNING, namespace=namespace, flow=flow_id)[0])

    def running_flows(self) -> dict[tuple[str, str], int]:
        """Return the running count of each flow that has one, by (namespace, flow id)."""
        return {(namespace, flow_id): count for namespace, flow_id, count in self._db.all(_RUNNING_FLOWS)}

    def queued(self, namespace: str, flow_id: str, count: int = 1_000_000) -> list[str]:
        """Return the executions of a flow that wait for a place, first come first, at most `count` of them."""
        return [row[0] for row in self._db.all(_QUEUED, namespace=namespace, flow=flow_id, count=max(count, 0))]

    def lock_flow(self, namespace: str, flow_id: str) -> None:
        """Exclude others that count or admit executions of this flow, until this transaction ends."""
        self._db.lock("flow", namespace, flow_id)

    def admit(self, execution_id: str, namespace: str, flow_id: str, limit: int) -> bool:
        """Return whether one more execution of a flow may start below `limit`, itself not counted.

        The flow stays locked until the transaction ends: who commits the start in the same write cannot be overtaken.
        """
        self.lock_flow(namespace, flow_id)
        others = self._db.one(_RUNNING_OTHERS, namespace=namespace, flow=flow_id, execution=execution_id)[0]
        return int(others) < limit

    def children(self, execution_id: str) -> list[Execution]:
        """Return the subflow executions that an execution started."""
        return self._decode(self._db.all(_CHILDREN, parent=execution_id))

    def last_of_flow(self, namespace: str, flow_id: str, count: int) -> list[Execution]:
        """Return the newest executions of a flow, the newest first."""
        return self._decode(self._db.all(_LAST_OF_FLOW, namespace=namespace, flow=flow_id, count=count))

    def ended_since(self, namespace: str, flow_id: str, since: datetime) -> dict[State, int]:
        """Return how many executions of a flow that began at `since` or later have ended, by state."""
        rows = self._db.all(_ENDED_SINCE, namespace=namespace, flow=flow_id, since=to_micros(since))
        return {State(state): int(count) for state, count in rows}

    def statistics(self, namespace: str | None, flow_id: str | None, since: datetime) -> list[DayCount]:
        """Return counts and durations by day and state from `since` on, the oldest day first."""
        day = _e.created_at / sa.literal_column(str(_DAY))
        if self._db.dialect == "sqlite":
            day = sa.cast(day, sa.BigInteger)
        day = sa.cast(sa.func.floor(day), sa.BigInteger) if self._db.dialect != "sqlite" else day
        seconds = (_e.ended_at - sa.func.coalesce(_e.started_at, _e.created_at)) / sa.literal_column("1000000.0")
        where = [_e.created_at >= to_micros(since)]
        if namespace is not None:
            where.append(_e.namespace == namespace)
        if flow_id is not None:
            where.append(_e.flow_id == flow_id)
        figures = [sa.func.count(), sa.func.sum(seconds), sa.func.min(seconds), sa.func.max(seconds)]
        select = sa.select(day.label("day"), _e.state, *figures).where(*where).group_by("day", _e.state).order_by("day")
        return [
            DayCount(
                (from_micros(0) + timedelta(days=int(number))).date(),
                State(state),
                count,
                *(float(value or 0) for value in durations),
            )
            for number, state, count, *durations in self._db.query(select)
        ]

    def _decode(self, rows: Iterable[Any]) -> list[Execution]:
        return [EXECUTIONS.decode(row) for row in rows]


def page_of(query: ExecutionQuery, total: int, dialect: str) -> sa.Select[Any]:
    """Return what reads a page of the `total` executions that a query finds.

    SQLite would find them by their namespace or state and sort all of them, as wide as they are, for the newest 25.
    PostgreSQL knows how many there are and decides that itself.
    """
    by_age = dialect == SQLITE and not query.sort and total > _MANY
    default = [_e.id.desc()] if query.sort else [_e.created_at.desc(), _e.id.desc()]
    select = EXECUTIONS.select(*_conditions(query, by_age=by_age))
    return paged(select.order_by(*ordering(query.sort, _SORTABLE, default)), query.page, query.size)


def _conditions(query: ExecutionQuery, *, by_age: bool = False) -> list[Any]:
    """Return the conditions of a query; `by_age` keeps the columns that have other indexes out of the plan."""

    def seen(column: sa.Column[Any]) -> Any:
        return column.concat("") if by_age else column

    where: list[Any] = []
    if query.namespace is not None:
        namespace = seen(_e.namespace)
        where.append(namespace == query.namespace if query.exact else within(namespace, query.namespace))
    if query.states:
        where.append(seen(_e.state).in_([state.value for state in query.states]))
    if query.since is not None:
        where.append(_e.created_at >= to_micros(query.since))
    if query.until is not None:
        where.append(_e.created_at < to_micros(query.until))
    if query.q:
        where.append(
            sa.or_(*(column.icontains(query.q, autoescape=True) for column in (_e.id, _e.namespace, _e.flow_id)))
        )
    equal = {
        seen(_e.flow_id): query.flow_id,
        _e.trigger_execution_id: query.trigger_execution_id,
        _e.parent_id: query.parent_id,
        _e.kind: query.kind,
    }
    where += [column == value for column, value in equal.items() if value is not None]
    return where + labelled(_e.labels, query.labels)
