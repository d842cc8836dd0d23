"""The fields of charts as columns of tables, and what differs between the dialects about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from runner.dashboards.vocabulary import SOURCES, FieldKind
from runner.store import log_schema, schema
from runner.store.statements import POSTGRESQL, label_of

_e: Final = schema.executions.c
_l: Final = log_schema.logs.c
_m: Final = schema.metrics.c
_f: Final = schema.flows.c
_t: Final = schema.triggers.c
_SECOND: Final[Any] = sa.literal_column("1000000.0")
_LONGEST_MESSAGE: Final = 4_000
_NONE: Final = sa.cast(sa.null(), sa.Text())


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows come from. `unique` names fields that no two rows have alike, `date` the column of the window."""

    table: sa.Table
    columns: Mapping[str, Any]
    unique: frozenset[str]
    date: Any = None
    where: tuple[Any, ...] = ()


_SOURCES: Final[Mapping[str, Source]] = {
    "Executions": Source(
        schema.executions,
        {
            "ID": _e.id,
            "NAMESPACE": _e.namespace,
            "FLOW_ID": _e.flow_id,
            "FLOW_REVISION": _e.flow_revision,
            "STATE": _e.state,
            "DURATION": (_e.ended_at - _e.created_at) / _SECOND,
            "LABELS": _e.labels,
            "START_DATE": _e.created_at,
            "END_DATE": _e.ended_at,
            "TRIGGER_EXECUTION_ID": _e.trigger_execution_id,
        },
        frozenset({"ID"}),
        _e.created_at,
        (_e.kind == sa.literal_column("'NORMAL'"),),  # as Kestra's: what tests and playgrounds ran is no run
    ),
    "Logs": Source(
        log_schema.logs,
        {
            "NAMESPACE": _l.namespace,
            "FLOW_ID": _l.flow_id,
            "EXECUTION_ID": _l.execution_id,
            "TASK_ID": _l.task_id,
            "TASK_RUN_ID": _l.task_run_id,
            "TRIGGER_ID": _l.trigger_id,
            "ATTEMPT_NUMBER": _l.attempt,
            "DATE": _l.timestamp,
            "LEVEL": _l.level,
            "MESSAGE": sa.func.substr(_l.message, 1, sa.literal_column(str(_LONGEST_MESSAGE))),
        },
        frozenset(),
        _l.timestamp,
    ),
    "Metrics": Source(
        schema.metrics,
        {
            "NAMESPACE": _m.namespace,
            "FLOW_ID": _m.flow_id,
            "EXECUTION_ID": _m.execution_id,
            "TASK_ID": _m.task_id,
            "TASK_RUN_ID": _m.task_run_id,
            "TYPE": _m.kind,
            "NAME": _m.name,
            "VALUE": _m.value,
            "DATE": _m.timestamp,
        },
        frozenset(),
        _m.timestamp,
    ),
    "Flows": Source(
        schema.flows,
        {"ID": _f.flow_id, "NAMESPACE": _f.namespace, "REVISION": _f.revision},
        frozenset({"ID", "NAMESPACE"}),
        where=(_f.active == sa.literal_column("1"),),
    ),
    "Triggers": Source(
        schema.triggers,
        {
            "ID": _t.trigger_id,
            "NAMESPACE": _t.namespace,
            "FLOW_ID": _t.flow_id,
            "TRIGGER_ID": _t.trigger_id,
            "EXECUTION_ID": _t.execution_id,
            "NEXT_EXECUTION_DATE": _t.next_at,
            "WORKER_ID": _NONE,
        },
        frozenset({"NAMESPACE", "FLOW_ID", "TRIGGER_ID"}),
    ),
}


def source_of(name: str) -> Source:
    """Return where the rows of a source come from."""
    return _SOURCES[name]


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of one source in one dialect."""

    name: str
    dialect: str

    @property
    def source(self) -> Source:
        """Return where the rows come from."""
        return source_of(self.name)

    def kind(self, field: str) -> FieldKind:
        """Return what the values of a field are."""
        return SOURCES[self.name][field]

    def value(self, field: str, label: str | None) -> Any:
        """Return a field as an expression: micros of a date, seconds of a duration, the value of one label."""
        column = self.source.columns[field]
        if self.kind(field) is FieldKind.LABELS and label is not None:
            return label_of(column, label)
        return column

    def compared(self, field: str, label: str | None) -> Any:
        """Return a field as it is compared and sorted: text by its code points, whatever the locale of a server."""
        return self.ordered(self.value(field, label), self.kind(field))

    def ordered(self, value: Any, kind: FieldKind) -> Any:
        """Return a value as it is sorted."""
        is_text = kind in {FieldKind.TEXT, FieldKind.LABELS}
        return sa.collate(value, "C") if is_text and self.dialect == POSTGRESQL else value
