"""The data of charts: rows of one table, within a window of time, each as it is or aggregated in groups.

The inner select names each column once, so that PostgreSQL sees that what is grouped by is what is shown.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

import orjson
import sqlalchemy as sa

from runner.dashboards.models import Column, Filter, Query
from runner.dashboards.view import MOST_TOTAL, View
from runner.dashboards.vocabulary import Aggregation, FieldKind
from runner.errors import InvalidError
from runner.store.bounds import bounded
from runner.store.chart_fields import Fields, Source
from runner.store.chart_filters import MATCHES, conditions, matcher
from runner.store.columns import from_micros, to_micros
from runner.store.connection import Connection
from runner.store.queries import Page, paged
from runner.store.statements import POSTGRESQL

LONGEST_S: Final = 10.0
"""How long the data of one chart may take."""
_MOST_WIDE: Final = 3
_WIDE: Final = frozenset({"MESSAGE", "LABELS"})
_MICROSECOND: Final = timedelta(microseconds=1)
_MONDAY: Final = timedelta(days=4) // _MICROSECOND  # the first one after 1970 began, on a Thursday
_WEEK: Final = timedelta(days=7)
_AGGREGATIONS: Final[Mapping[Aggregation, Callable[[Any], Any]]] = MappingProxyType(
    {
        Aggregation.COUNT: sa.func.count,
        Aggregation.SUM: sa.func.sum,
        Aggregation.AVG: sa.func.avg,
        Aggregation.MIN: sa.func.min,
        Aggregation.MAX: sa.func.max,
    }
)


@dataclass(frozen=True, slots=True)
class ChartRows:
    """Answers with the rows of a query as they are looked at."""

    query: Query
    view: View

    def __call__(self, connection: Connection) -> Page[dict[str, Any]]:
        """Return a page of rows by column; the total counts 100,000 at most.

        Dates are in ISO-8601, durations in seconds, labels a map where no label of them is named.

        Raises:
            InvalidError: `dashboard.query.large`, `query.page.invalid`, `store.query.slow`, `store.value.invalid`.
        """
        _check_width(self.query)
        shape = _Shape(self.query, self.view, Fields(self.query.source, connection.dialect))
        select = shape.rows()
        page = paged(select.order_by(*shape.order(select)), self.view.page, self.view.size)
        with _asking(connection):
            rows = connection.query(page)
            total = self._total(connection, select, len(rows))
        return Page([shape.decoded(row) for row in rows], total)

    def _total(self, connection: Connection, select: sa.Select[Any], count: int) -> int:
        before = (self.view.page - 1) * self.view.size
        if 0 < count < self.view.size or (not count and not before):
            return before + count
        counted = sa.select(sa.func.count()).select_from(select.limit(MOST_TOTAL).subquery())
        return int(connection.query(counted)[0][0])


@dataclass(frozen=True, slots=True)
class ChartFigure:
    """Answers with the one figure of a KPI."""

    query: Query
    view: View
    is_share: bool = False

    def __call__(self, connection: Connection) -> float | str | None:
        """Return what is aggregated of the rows that meet the numerator, or its share in per cent of all rows.

        None where there is nothing to aggregate, or to have a share of. Raises as `ChartRows`.
        """
        shape = _Shape(self.query, self.view, Fields(self.query.source, connection.dialect))
        with _asking(connection):
            part, whole = connection.query(shape.figures())[0]
        column = self.query.columns[0]
        value: float | str | None = shape.shown(column, part)
        if not self.is_share:
            return value
        return 100 * float(part or 0) / float(whole) if whole else None


def _check_width(query: Query) -> None:
    """Refuse what would make an answer of gigabytes: ten thousand rows with fifty times a message."""
    wide = sum(each.field in _WIDE and each.agg is None and each.label is None for each in query.columns)
    if wide > _MOST_WIDE:
        text = f"more than {_MOST_WIDE} columns with messages or all labels"
        raise InvalidError("dashboard.query.large", f"a chart asks too much: {text}")


@contextmanager
def _asking(connection: Connection) -> Iterator[None]:
    """Bound what is asked inside; SQLite knows how to match patterns there."""
    if connection.dialect != POSTGRESQL:
        assert isinstance(connection.driver, sqlite3.Connection)
        driver = connection.driver
        driver.create_function(MATCHES, 2, matcher(driver, LONGEST_S), deterministic=True)
    with bounded(connection, LONGEST_S, "the data of a chart"):
        yield


@dataclass(frozen=True, slots=True)
class _Shape:
    """The statements of a query."""

    query: Query
    view: View
    fields: Fields

    @property
    def source(self) -> Source:
        """Return where the rows come from."""
        return self.fields.source

    @property
    def is_aggregated(self) -> bool:
        """Whether rows become groups."""
        return any(column.agg is not None for column in self.query.columns)

    @property
    def is_grouped(self) -> bool:
        """Whether rows that look alike become one. Where no two can, nothing needs to be sorted for it."""
        return (
            self.is_aggregated
            or not self.source.unique <= {each.field for each in self.query.columns}
            or (not self.source.unique)
        )

    def rows(self) -> sa.Select[Any]:
        """Return the select of all rows, with the columns `c0`, `c1` and so on."""
        inner = self._inner().subquery()
        columns = [self._outer(index, column, inner) for index, column in enumerate(self.query.columns)]
        select = sa.select(*columns)
        keys = [inner.c[f"c{index}"] for index, each in enumerate(self.query.columns) if each.agg is None]
        return select.group_by(*keys) if self.is_grouped and keys else select

    def figures(self) -> sa.Select[Any]:
        """Return the select of the figure of a KPI: for the rows of the numerator, and for all."""
        column = self.query.columns[0]
        agg = _AGGREGATIONS[column.agg or Aggregation.COUNT]
        hit = sa.and_(sa.true(), *conditions(self.query.numerator, self.fields))
        inner = self._inner(sa.case((hit, 1), else_=0).label("hit")).subquery()
        value = inner.c.c0
        return sa.select(agg(sa.case((inner.c.hit == 1, value))), agg(value))

    def order(self, select: sa.Select[Any]) -> list[Any]:
        """Return the order of the rows, ended by all columns, so that pages never overlap."""
        columns = list(select.selected_columns)
        keys = [each.key for each in self.query.columns]
        asked = [(keys.index(each.column), each.is_descending) for each in self.query.order]
        named = {index for index, _ in asked}
        rest = [(index, False) for index in range(len(keys)) if index not in named]
        return [self._sorted(columns[index], index, is_descending=down) for index, down in [*asked, *rest]]

    def _sorted(self, value: Any, index: int, *, is_descending: bool) -> Any:
        column = self.query.columns[index]
        if column.field is not None and column.agg is None:
            value = self.fields.ordered(value, self.fields.kind(column.field))
        return (value.desc() if is_descending else value.asc()).nulls_last()

    def decoded(self, row: Any) -> dict[str, Any]:
        """Return a row by the keys of its columns."""
        return {column.key: self.shown(column, value) for column, value in zip(self.query.columns, row, strict=True)}

    def shown(self, column: Column, value: Any) -> Any:
        """Return a value of a column as people read it."""
        if value is None or column.field is None or column.agg is Aggregation.COUNT:
            return value
        kind = self.fields.kind(column.field)
        if kind is FieldKind.DATE:
            return from_micros(int(value)).isoformat().replace("+00:00", "Z")
        if kind is FieldKind.LABELS:
            return value if column.label is not None else orjson.loads(value)
        return _number(value) if isinstance(value, Decimal) else value

    def _inner(self, *more: Any) -> sa.Select[Any]:
        columns = [self._value(column).label(f"c{index}") for index, column in enumerate(self.query.columns)]
        return sa.select(*columns, *more).select_from(self.source.table).where(*self._where())

    def _value(self, column: Column) -> Any:
        if column.field is None:
            return sa.literal_column("1")
        value = self.fields.value(column.field, column.label)
        is_bucket = self.is_aggregated and column.agg is None and self.fields.kind(column.field) is FieldKind.DATE
        return _bucketed(value, self.view.bucket) if is_bucket else value

    def _outer(self, index: int, column: Column, inner: Any) -> Any:
        value = inner.c[f"c{index}"]
        return (value if column.agg is None else _AGGREGATIONS[column.agg](value)).label(f"c{index}")

    def _where(self) -> list[Any]:
        source, view = self.source, self.view
        where = [*source.where, *conditions((*self.query.where, *view.filters), self.fields)]
        if source.date is not None:
            where += [source.date >= to_micros(view.since), source.date <= to_micros(view.until)]
        if view.namespaces is not None:
            allowed = tuple(Filter("PREFIX", "NAMESPACE", (each,)) for each in view.namespaces)
            where += conditions([Filter("OR", either=allowed)], self.fields)
        return where


def _bucketed(value: Any, bucket: timedelta) -> Any:
    """Return the micros at which the stretch of time begins that `value` lies in; weeks begin on Mondays, in UTC."""
    size = bucket // _MICROSECOND
    first = _MONDAY if bucket == _WEEK else 0
    return (value - first) // sa.literal_column(str(size), sa.BigInteger()) * size + first


def _number(value: Decimal) -> int | float:
    return int(value) if value == value.to_integral_value() else float(value)
