"""The `data` of a chart: its columns, its filters and the order of its rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from runner.dashboards.models import Column, Filter, Order, Query
from runner.dashboards.reading import Reading
from runner.dashboards.vocabulary import (
    ALIGNMENTS,
    DATA_PREFIX,
    FILTERS,
    GRAPH_STYLES,
    KESTRA,
    ORDERS,
    SOURCES,
    Aggregation,
    FieldKind,
    FilterShape,
)
from runner.durations import parse_duration
from runner.errors import ExpressionError, InvalidError
from runner.flows.positions import Path
from runner.flows.spelling import did_you_mean

MOST_COLUMNS: Final = 50
MOST_FILTERS: Final = 50
MOST_VALUES: Final = 500
_LONGEST_PATTERN: Final = 1_000
_PATTERN_MEMORY: Final = 1 << 18  # bytes: nobody needs more to find words, and RE2 keeps what it has compiled
_DATA: Final = ("type", "columns", "where", "orderBy")
_COLUMN: Final = ("field", "agg", "displayName", "graphStyle", "columnAlignment", "labelKey", "key")
_FILTER: Final = ("field", "type", "value", "values", "labelKey", "key")
_SUFFIX: Final = "KPI"
_COMPARED: Final = frozenset({"GREATER_THAN", "GREATER_THAN_OR_EQUAL_TO", "LESS_THAN", "LESS_THAN_OR_EQUAL_TO"})
_EQUAL: Final = frozenset({"EQUAL_TO", "NOT_EQUAL_TO", "IN", "NOT_IN"})
_NULLS: Final = frozenset({"IS_NULL", "IS_NOT_NULL"})


class ReadQuery:
    """Reads the data of one chart. That of a KPI has one column, and may have a numerator."""

    def __init__(self, reading: Reading, path: Path, *, is_kpi: bool) -> None:
        self._reading = reading
        self._path = path
        self._is_kpi = is_kpi
        self._fields: Mapping[str, FieldKind] = {}

    def query(self, said: Any) -> Query | None:
        """Return the query; None where nothing more can be said of it."""
        value = self._reading.map(said, self._path, "data", (*_DATA, "numerator") if self._is_kpi else _DATA)
        source = self._source(value) if value is not None else None
        if value is None or source is None:
            return None
        self._fields = SOURCES[source]
        columns = tuple(self._columns(value.get("columns")))
        return Query(
            source=source,
            columns=columns,
            where=tuple(self._filters(value.get("where"), (*self._path, "where"))),
            order=tuple(self._order(value.get("orderBy"), columns)),
            numerator=tuple(self._filters(value.get("numerator"), (*self._path, "numerator"))),
        )

    def _source(self, value: Mapping[str, Any]) -> str | None:
        found = self._reading.text(value, "type", self._path, is_required=True)
        if found is None:
            return None
        path, short = (*self._path, "type"), found.removeprefix(KESTRA)
        name = short.removeprefix(DATA_PREFIX)
        source = name.removesuffix(_SUFFIX)
        if not short.startswith(DATA_PREFIX) or source not in SOURCES:
            suffix = _SUFFIX if self._is_kpi else ""
            known = [f"{KESTRA}{DATA_PREFIX}{each}{suffix}" for each in SOURCES]
            hint = did_you_mean(found, known) or f"known: {', '.join(SOURCES)} of {KESTRA}{DATA_PREFIX[:-1]}"
            self._reading.complain("dashboard.data.unknown", f"no data is named {found[:100]!r}", path, hint)
            return None
        if name.endswith(_SUFFIX) is not self._is_kpi:
            right = source + _SUFFIX if self._is_kpi else source
            text = "a KPI chart has data of a KPI" if self._is_kpi else "data of a KPI is for KPI charts"
            self._reading.complain("dashboard.data.mismatch", text, path, f"{KESTRA}{DATA_PREFIX}{right}")
        return source

    def _columns(self, said: Any) -> Iterator[Column]:
        path = (*self._path, "columns")
        if not said:
            self._reading.complain("dashboard.property.missing", "data has `columns`", self._path)
            return
        found = self._reading.map(said, path, "columns")
        if found is None:
            return
        if self._is_kpi:
            yield from filter(None, [self._column("value", found, path)])
        elif len(found) > MOST_COLUMNS:
            text = f"data has {len(found)} columns, more than {MOST_COLUMNS}"
            self._reading.complain("dashboard.property.invalid", text, path)
        else:
            yield from filter(None, (self._column(key, item, (*path, key)) for key, item in found.items()))

    def _column(self, key: str, said: Any, path: Path) -> Column | None:
        value = self._reading.map(said, path, "a column", _COLUMN)
        if value is None:
            return None
        field = self._field(value, path)
        name = self._reading.word(value, "agg", path, list(Aggregation), "dashboard.agg.invalid")
        agg = Aggregation(name) if name else None
        self._reading.word(value, "graphStyle", path, GRAPH_STYLES)
        self._reading.word(value, "columnAlignment", path, ALIGNMENTS)
        self._reading.text(value, "displayName", path)
        if field is not None and agg is not None and not agg.fits(self._fields[field]):
            text = f"{agg} of {field} makes no sense: its values are {self._fields[field]}"
            self._reading.complain("dashboard.agg.invalid", text, (*path, "agg"))
        if value.get("field") is None and value.get("agg") is None:
            self._reading.complain("dashboard.property.missing", "a column has `field`, `agg` or both", path)
        elif value.get("field") is None and agg not in {None, Aggregation.COUNT}:
            self._reading.complain("dashboard.property.missing", f"{agg} needs a `field`", path)
        return Column(key, field, agg, self._label(value, path))

    def _field(self, value: Mapping[str, Any], path: Path) -> str | None:
        return self._reading.word(value, "field", path, self._fields, "dashboard.field.unknown")

    def _label(self, value: Mapping[str, Any], path: Path) -> str | None:
        return self._reading.text(value, "labelKey", path) or self._reading.text(value, "key", path)

    def _order(self, said: Any, columns: tuple[Column, ...]) -> Iterator[Order]:
        known = [column.key for column in columns]
        for item, path in self._reading.list(said, (*self._path, "orderBy"), "orderBy", MOST_COLUMNS):
            value = self._reading.map(item, path, "an order", ("column", "order"))
            name = self._reading.text(value, "column", path, is_required=True) if value is not None else None
            if value is None or name is None:
                continue
            if known and name not in known:
                hint = did_you_mean(name, known) or f"known: {', '.join(known)[:200]}"
                text = f"the data has no column {name[:80]!r}"
                self._reading.complain("dashboard.column.unknown", text, (*path, "column"), hint)
            yield Order(name, self._reading.word(value, "order", path, ORDERS) == "DESC")

    # ---------------------------------------------------------------- filters

    def _filters(self, said: Any, path: Path) -> Iterator[Filter]:
        for item, place in self._reading.list(said, path, str(path[-1]), MOST_FILTERS):
            found = self._filter(item, place)
            if found is not None:
                yield found

    def _filter(self, said: Any, path: Path) -> Filter | None:
        value = self._reading.map(said, path, "a filter", _FILTER)
        if value is None:
            return None
        kind = self._reading.word(value, "type", path, FILTERS, "dashboard.filter.invalid")
        if kind is None:
            if value.get("type") is None:
                self._reading.complain("dashboard.property.missing", "'type' is missing", path)
            return None
        if FILTERS[kind] is FilterShape.FILTERS:
            return Filter(kind, either=tuple(self._filters(value.get("values"), (*path, "values"))))
        field, label = self._field(value, path), self._label(value, path)
        if value.get("field") is None:
            self._reading.complain("dashboard.property.missing", "'field' is missing", path)
        if field is None:
            return None
        if self._fields[field] is FieldKind.LABELS and label is None:
            text = f"a filter of {field} names a label by `labelKey`"
            self._reading.complain("dashboard.filter.invalid", text, path)
        return Filter(kind, field, tuple(self._values(kind, field, value, path)), label)

    def _values(self, kind: str, field: str, value: Mapping[str, Any], path: Path) -> Iterator[Any]:
        shape = FILTERS[kind]
        if shape is FilterShape.NOTHING:
            self._check(kind, field, path)
        elif value.get(shape.value) is None:
            self._reading.complain("dashboard.property.missing", f"{kind} needs `{shape.value}`", path)
        elif shape is FilterShape.ONE:
            yield from self._value(kind, field, value["value"], (*path, "value"))
        else:
            for item, place in self._reading.list(value["values"], (*path, "values"), "values", MOST_VALUES):
                yield from self._value(kind, field, item, place)

    def _value(self, kind: str, field: str, said: Any, path: Path) -> Iterator[Any]:
        if not self._check(kind, field, path):
            return
        if isinstance(said, bool) or not isinstance(said, (str, int, float)):
            self._reading.complain("dashboard.filter.invalid", "a filter compares with a text or a number", path)
            return
        try:
            yield comparable(kind, self._fields[field], said)
        except InvalidError as error:
            self._reading.complain(error.code, f"{field}: {error.message}", path, error.hint)

    def _check(self, kind: str, field: str, path: Path) -> bool:
        """Whether the values of a field can be filtered so; a problem where they cannot."""
        found = self._fields[field]
        is_text = found in {FieldKind.TEXT, FieldKind.LABELS}
        is_good = kind in _NULLS | _EQUAL or (is_text if kind not in _COMPARED else found is not FieldKind.LABELS)
        if not is_good:
            text = f"{kind} does not fit {field}, whose values are {found}"
            self._reading.complain("dashboard.filter.invalid", text, path)
        return is_good


def comparable(kind: str, field: FieldKind, said: float | str) -> Any:
    """Return the value that a filter compares a field with: text, a number, seconds or an aware time.

    Raises:
        InvalidError: `dashboard.filter.invalid`.
    """
    try:
        if field is FieldKind.DATE:
            moment = datetime.fromisoformat(str(said))
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        if field in {FieldKind.NUMBER, FieldKind.DURATION}:
            return _number(field, said)
        if kind == "REGEX":
            _check_pattern(str(said))
    except (ValueError, InvalidError, ExpressionError):
        raise InvalidError("dashboard.filter.invalid", f"{str(said)[:80]!r} is no {_WANTED[field]}") from None
    return str(said)


def _check_pattern(pattern: str) -> None:
    if len(pattern) > _LONGEST_PATTERN:
        raise ValueError(pattern)
    compiled(pattern)


def compiled(pattern: str) -> Any:
    """Return a pattern of a filter, compiled by RE2.

    Raises:
        ExpressionError: `expression.regex` when it is no pattern, or takes more than 256 KiB.
    """
    from runner.expressions.regex import compile_pattern

    return compile_pattern(pattern, _PATTERN_MEMORY)


def _number(field: FieldKind, said: float | str) -> float:
    if field is FieldKind.DURATION and isinstance(said, str):
        return parse_duration(said).total_seconds()
    found = float(said)
    if not math.isfinite(found):
        raise ValueError(said)
    return found


_WANTED: Final = {
    FieldKind.NUMBER: "number",
    FieldKind.DURATION: "duration (PT5M) or number of seconds",
    FieldKind.DATE: "time (2026-01-31T08:00:00Z)",
    FieldKind.TEXT: "pattern of up to 1,000 characters",
    FieldKind.LABELS: "pattern of up to 1,000 characters",
}
