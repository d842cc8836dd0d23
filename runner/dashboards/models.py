"""A dashboard as it was read. What only says how a chart looks stays in the map that was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from runner.dashboards.vocabulary import DEFAULT_WINDOW, LONGEST_WINDOW, Aggregation


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """How much time the charts show at first, and how much they may show."""

    default: timedelta = DEFAULT_WINDOW
    longest: timedelta = LONGEST_WINDOW


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the data: a field, or what is aggregated of it. A count needs no field."""

    key: str
    field: str | None = None
    agg: Aggregation | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on a field; `either` are those of an OR, of which one must hold."""

    kind: str
    field: str | None = None
    values: tuple[Any, ...] = ()
    label: str | None = None
    either: tuple[Filter, ...] = ()


@dataclass(frozen=True, slots=True)
class Order:
    """A column by which the rows are sorted."""

    column: str
    is_descending: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """Which data a chart shows. `source` is a key of `SOURCES`; `numerator` picks the part that a KPI is about."""

    source: str
    columns: tuple[Column, ...] = ()
    where: tuple[Filter, ...] = ()
    order: tuple[Order, ...] = ()
    numerator: tuple[Filter, ...] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart: `kind` is a key of `CHARTS`, `document` what was written. A Markdown chart has no query."""

    id: str
    kind: str
    query: Query | None = None
    document: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard without problems. `time_window` is what was written of it."""

    id: str
    title: str
    description: str | None = None
    window: TimeWindow = TimeWindow()
    charts: tuple[Chart, ...] = ()
    time_window: Mapping[str, Any] = field(default_factory=dict)

    def chart(self, chart_id: str) -> Chart | None:
        """Return the chart of an id."""
        return next((each for each in self.charts if each.id == chart_id), None)
