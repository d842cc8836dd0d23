"""Metrics that tasks emitted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import sqlalchemy as sa

from runner.executions.models import Metric
from runner.store import schema
from runner.store.columns import to_micros
from runner.store.connection import Connection
from runner.store.executions import METRICS
from runner.store.queries import Page, ordering, paged

_m: Final = schema.metrics.c
Aggregation = Literal["sum", "avg", "min", "max"]
_AGGREGATIONS: Final[Mapping[Aggregation, Any]] = {
    "sum": sa.func.sum,
    "avg": sa.func.avg,
    "min": sa.func.min,
    "max": sa.func.max,
}
_SORTABLE: Final = {"name": _m.name, "timestamp": _m.timestamp, "value": _m.value, "taskId": _m.task_id}


class Metrics:
    """Counters, timers and gauges by execution."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    def add(self, metrics: Iterable[Metric]) -> None:
        """Write metrics beside those of a commit."""
        self._db.many(METRICS.insert, [METRICS.encode(metric) for metric in metrics])

    def of_execution(
        self,
        execution_id: str,
        *,
        task_run_id: str | None = None,
        task_id: str | None = None,
        page: int = 1,
        size: int = 100,
        sort: tuple[str, ...] = (),
    ) -> Page[Metric]:
        """Return a page of an execution's metrics in the order in which they were written."""
        where: list[Any] = [_m.execution_id == execution_id]
        if task_run_id is not None:
            where.append(_m.task_run_id == task_run_id)
        if task_id is not None:
            where.append(_m.task_id == task_id)
        total = self._db.query(sa.select(sa.func.count()).select_from(schema.metrics).where(*where))[0][0]
        select = METRICS.select(*where).order_by(*ordering(sort, _SORTABLE, _m.id))
        return Page([METRICS.decode(row) for row in self._db.query(paged(select, page, size))], total)

    def names(self, namespace: str, flow_id: str, task_id: str | None = None) -> list[str]:
        """Return the names of a flow's metrics, or of one of its tasks."""
        where = [_m.namespace == namespace, _m.flow_id == flow_id]
        if task_id is not None:
            where.append(_m.task_id == task_id)
        return [row[0] for row in self._db.query(sa.select(_m.name).where(*where).distinct().order_by(_m.name))]

    def aggregate(
        self,
        namespace: str,
        flow_id: str,
        name: str,
        task_id: str | None,
        since: datetime,
        until: datetime,
        bucket: timedelta,
        how: Aggregation,
    ) -> dict[int, float]:
        """Return what the values of a metric come to in each stretch of time that has some, by its number.

        The stretches have the length `bucket` and count from `since`.
        """
        where = [_m.namespace == namespace, _m.flow_id == flow_id, _m.name == name]
        where += [_m.timestamp >= to_micros(since), _m.timestamp < to_micros(until)]
        if task_id is not None:
            where.append(_m.task_id == task_id)
        number = (_m.timestamp - to_micros(since)) // (bucket // timedelta(microseconds=1))
        found = sa.select(number.label("number"), _m.value).where(*where).subquery()
        select = sa.select(found.c.number, _AGGREGATIONS[how](found.c.value)).group_by(found.c.number)
        return {int(row[0]): float(row[1]) for row in self._db.query(select)}

    def tasks(self, namespace: str, flow_id: str) -> list[str]:
        """Return the tasks of a flow that have emitted metrics."""
        where = (_m.namespace == namespace, _m.flow_id == flow_id)
        return [row[0] for row in self._db.query(sa.select(_m.task_id).where(*where).distinct().order_by(_m.task_id))]
