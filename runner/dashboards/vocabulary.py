"""The words of dashboards: kinds of charts, the data behind them, fields, aggregations and filters."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

CHART_PREFIX: Final = "core.dashboard.chart."
DATA_PREFIX: Final = "core.dashboard.data."
KESTRA: Final = "io.kestra.plugin."
LONGEST_WINDOW: Final = timedelta(days=366)
DEFAULT_WINDOW: Final = timedelta(days=30)


class FieldKind(enum.StrEnum):
    """What the values of a field are."""

    TEXT = "text"
    NUMBER = "number"
    DURATION = "duration"
    DATE = "date"
    LABELS = "labels"


class Aggregation(enum.StrEnum):
    """How the rows of a group become one value."""

    COUNT = "COUNT"
    SUM = "SUM"
    AVG = "AVG"
    MIN = "MIN"
    MAX = "MAX"

    def fits(self, kind: FieldKind) -> bool:
        """Whether values of `kind` can be aggregated so."""
        if self is Aggregation.COUNT:
            return True
        is_number = kind in {FieldKind.NUMBER, FieldKind.DURATION}
        return is_number or (kind is FieldKind.DATE and self in {Aggregation.MIN, Aggregation.MAX})


@dataclass(frozen=True, slots=True)
class ChartKind:
    """A kind of chart: how many of its columns are aggregated (`most` None: any number), and whether it has data."""

    least: int = 0
    most: int | None = None
    has_data: bool = True


_TEXT, _NUMBER, _DATE = FieldKind.TEXT, FieldKind.NUMBER, FieldKind.DATE

KPI: Final = "KPI"
MARKDOWN: Final = "Markdown"
CHARTS: Final[Mapping[str, ChartKind]] = {
    "TimeSeries": ChartKind(1, 2),
    "Bar": ChartKind(1, 1),
    "Pie": ChartKind(1, 1),
    "Table": ChartKind(),
    KPI: ChartKind(1, 1),
    MARKDOWN: ChartKind(has_data=False),
}
SOURCES: Final[Mapping[str, Mapping[str, FieldKind]]] = {
    "Executions": {
        "ID": _TEXT,
        "NAMESPACE": _TEXT,
        "FLOW_ID": _TEXT,
        "FLOW_REVISION": _NUMBER,
        "STATE": _TEXT,
        "DURATION": FieldKind.DURATION,
        "LABELS": FieldKind.LABELS,
        "START_DATE": _DATE,
        "END_DATE": _DATE,
        "TRIGGER_EXECUTION_ID": _TEXT,
    },
    "Logs": {
        "NAMESPACE": _TEXT,
        "FLOW_ID": _TEXT,
        "EXECUTION_ID": _TEXT,
        "TASK_ID": _TEXT,
        "TASK_RUN_ID": _TEXT,
        "TRIGGER_ID": _TEXT,
        "ATTEMPT_NUMBER": _NUMBER,
        "DATE": _DATE,
        "LEVEL": _TEXT,
        "MESSAGE": _TEXT,
    },
    "Metrics": {
        "NAMESPACE": _TEXT,
        "FLOW_ID": _TEXT,
        "EXECUTION_ID": _TEXT,
        "TASK_ID": _TEXT,
        "TASK_RUN_ID": _TEXT,
        "TYPE": _TEXT,
        "NAME": _TEXT,
        "VALUE": _NUMBER,
        "DATE": _DATE,
    },
    "Flows": {"ID": _TEXT, "NAMESPACE": _TEXT, "REVISION": _NUMBER},
    "Triggers": {
        "ID": _TEXT,
        "NAMESPACE": _TEXT,
        "FLOW_ID": _TEXT,
        "TRIGGER_ID": _TEXT,
        "EXECUTION_ID": _TEXT,
        "NEXT_EXECUTION_DATE": _DATE,
        "WORKER_ID": _TEXT,
    },
}


class FilterShape(enum.Enum):
    """What a filter compares its field with."""

    ONE = "value"
    MANY = "values"
    NOTHING = "nothing"
    FILTERS = "filters"


FILTERS: Final[Mapping[str, FilterShape]] = {
    "CONTAINS": FilterShape.ONE,
    "ENDS_WITH": FilterShape.ONE,
    "EQUAL_TO": FilterShape.ONE,
    "GREATER_THAN": FilterShape.ONE,
    "GREATER_THAN_OR_EQUAL_TO": FilterShape.ONE,
    "IN": FilterShape.MANY,
    "IS_FALSE": FilterShape.NOTHING,
    "IS_NOT_NULL": FilterShape.NOTHING,
    "IS_NULL": FilterShape.NOTHING,
    "IS_TRUE": FilterShape.NOTHING,
    "LESS_THAN": FilterShape.ONE,
    "LESS_THAN_OR_EQUAL_TO": FilterShape.ONE,
    "NOT_CONTAINS": FilterShape.ONE,
    "NOT_EQUAL_TO": FilterShape.ONE,
    "NOT_IN": FilterShape.MANY,
    "OR": FilterShape.FILTERS,
    "PREFIX": FilterShape.ONE,
    "REGEX": FilterShape.ONE,
    "STARTS_WITH": FilterShape.ONE,
}
GRAPH_STYLES: Final = ("LINES", "BARS", "POINTS")
NUMBER_TYPES: Final = ("FLAT", "PERCENTAGE")
ALIGNMENTS: Final = ("LEFT", "RIGHT", "CENTER")
ORDERS: Final = ("ASC", "DESC")
