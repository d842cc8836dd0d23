"""From YAML to a dashboard: all problems of a file at once, each with its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar

from runner.dashboards.models import Chart, Column, Dashboard, Query, TimeWindow
from runner.dashboards.query import ReadQuery
from runner.dashboards.reading import Reading
from runner.dashboards.vocabulary import (
    CHART_PREFIX,
    CHARTS,
    KESTRA,
    KPI,
    LONGEST_WINDOW,
    NUMBER_TYPES,
    ChartKind,
)
from runner.durations import parse_duration
from runner.errors import FlowError, InvalidError, Problem, Severity
from runner.flows.loader import examine
from runner.flows.positions import Path
from runner.flows.spelling import did_you_mean

T = TypeVar("T")

MOST_CHARTS: Final = 100
_ID: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,99}")
_DASHBOARD: Final = ("id", "title", "description", "timeWindow", "charts")
_CHART: Final = ("id", "type", "chartOptions", "data")
_MARKDOWN: Final = ("id", "type", "chartOptions", "content", "source")
_SOURCES: Final = {"Text": ("content",), "FlowDescription": ("namespace", "flowId")}
_WIDEST: Final = 12
_LONGEST_TITLE: Final = 250


@dataclass(frozen=True, slots=True)
class ParsedDashboard:
    """A file as it was read: no dashboard when a problem is an error."""

    dashboard: Dashboard | None
    problems: tuple[Problem, ...] = ()

    def require(self) -> Dashboard:
        """Return the dashboard. Raises `FlowError` with all problems when there is none."""
        if self.dashboard is None:
            first = self.problems[0]
            raise FlowError(first.code, first.message, hint=first.hint, problems=list(self.problems))
        return self.dashboard


def parse_dashboard(source: bytes | str, *, file: str | None = None) -> ParsedDashboard:
    """Return the dashboard of a file, or everything that is wrong with it."""
    found, problems = _read(source, file, lambda reading: _Dashboards(reading).dashboard())
    return ParsedDashboard(found, problems)


def parse_chart(source: bytes | str) -> tuple[Chart | None, tuple[Problem, ...]]:
    """Return a chart that stands for itself, or everything that is wrong with it."""
    return _read(source, None, lambda reading: _Dashboards(reading).chart(reading.value, ()))


def _read(
    source: bytes | str, file: str | None, read: Callable[[Reading], T | None]
) -> tuple[T | None, tuple[Problem, ...]]:
    try:
        document, problems = examine(source, file=file)
    except FlowError as error:
        return None, tuple(error.problems)
    reading = Reading(document, file)
    found = read(reading)
    every = (*problems, *reading.problems)
    return None if any(each.severity is Severity.ERROR for each in every) else found, every


class _Dashboards:
    """Reads one document as a dashboard or a chart."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    def dashboard(self) -> Dashboard | None:
        """Return the dashboard; None, or one that must not be used, when there are problems."""
        reading = self._reading
        if not isinstance(reading.value, dict):
            reading.complain("dashboard.file.invalid", "a dashboard is a map with `id`, `title` and `charts`", ())
            return None
        if "tasks" in reading.value:
            hint = "a folder whose name does not begin with _ holds flows"
            reading.complain("dashboard.file.invalid", "this is a flow, and its folder is for dashboards", (), hint)
            return None
        value = reading.map(reading.value, (), "a dashboard", _DASHBOARD) or {}
        return Dashboard(
            id=self._id(value, (), "a dashboard") or "",
            title=self._title(value),
            description=reading.text(value, "description", ()),
            window=self._window(value.get("timeWindow")),
            charts=tuple(self._charts(value.get("charts"))),
            time_window=value.get("timeWindow") or {},
        )

    def _id(self, value: Mapping[str, Any], path: Path, what: str) -> str | None:
        found = self._reading.text(value, "id", path, is_required=True)
        if found is not None and not _ID.fullmatch(found):
            text = f"the id of {what} has up to 100 letters, digits, `_`, `-` and `.`"
            self._reading.complain("dashboard.property.invalid", text, (*path, "id"))
        return found

    def _title(self, value: Mapping[str, Any]) -> str:
        found = self._reading.text(value, "title", (), is_required=True) or ""
        if len(found) > _LONGEST_TITLE:
            text = f"the title has more than {_LONGEST_TITLE} characters"
            self._reading.complain("dashboard.property.invalid", text, ("title",))
        return found

    def _window(self, said: Any) -> TimeWindow:
        if said is None or self._reading.map(said, ("timeWindow",), "timeWindow", ("default", "max")) is None:
            return TimeWindow()
        longest = self._duration(said, "max", LONGEST_WINDOW)
        default = self._duration(said, "default", min(TimeWindow().default, longest))
        if default > longest:
            text = "the default window is longer than the longest"
            self._reading.complain("dashboard.property.invalid", text, ("timeWindow", "default"))
        return TimeWindow(default, longest)

    def _duration(self, said: Mapping[str, Any], key: str, default: timedelta) -> timedelta:
        if said.get(key) is None:
            return default
        try:
            found = parse_duration(str(said[key]))
        except InvalidError:
            found = timedelta(0)
        if timedelta(0) < found <= LONGEST_WINDOW:
            return found
        text = f"{key!r} is a duration of up to {LONGEST_WINDOW.days} days"
        self._reading.complain("dashboard.property.invalid", text, ("timeWindow", key), "P30D")
        return default

    def _charts(self, said: Any) -> list[Chart]:
        charts: dict[str, Chart] = {}
        for value, path in self._reading.list(said, ("charts",), "charts", MOST_CHARTS):
            chart = self.chart(value, path)
            if chart is not None and chart.id and charts.setdefault(chart.id, chart) is not chart:
                text = f"another chart has the id {chart.id[:100]!r} already"
                self._reading.complain("dashboard.chart.duplicate", text, (*path, "id"))
        return list(charts.values())

    def chart(self, value: Any, path: Path) -> Chart | None:
        """Return the chart at `path`; None where nothing more can be said of it."""
        said = self._reading.map(value, path, "a chart")
        if said is None:
            return None
        chart_id, name = self._id(said, path, "a chart"), self._kind(said, path)
        if name is None:
            return None
        kind = CHARTS[name]
        self._reading.map(said, path, f"a {name} chart", _CHART if kind.has_data else _MARKDOWN)
        query = None
        if kind.has_data:
            query = self._query(said, path, name)
            self._count_aggregates(query, kind, name, path)
        else:
            self._markdown(said, path)
        self._options(said, path, query)
        return Chart(chart_id or "", name, query, said)

    def _kind(self, said: Mapping[str, Any], path: Path) -> str | None:
        found = self._reading.text(said, "type", path, is_required=True)
        if found is None:
            return None
        short = found.removeprefix(KESTRA)
        name = short.removeprefix(CHART_PREFIX)
        if short.startswith(CHART_PREFIX) and name in CHARTS:
            return name
        known = [KESTRA + CHART_PREFIX + each for each in CHARTS]
        hint = did_you_mean(found, known) or f"known: {', '.join(CHARTS)} of {KESTRA}{CHART_PREFIX[:-1]}"
        self._reading.complain("dashboard.chart.unknown", f"no chart is named {found[:100]!r}", (*path, "type"), hint)
        return None

    def _query(self, said: Mapping[str, Any], path: Path, name: str) -> Query | None:
        if said.get("data") is None:
            self._reading.complain("dashboard.property.missing", f"a {name} chart has `data`", path)
            return None
        return ReadQuery(self._reading, (*path, "data"), is_kpi=name == KPI).query(said["data"])

    def _count_aggregates(self, query: Query | None, kind: ChartKind, name: str, path: Path) -> None:
        if query is None or not query.columns:
            return
        count = sum(column.agg is not None for column in query.columns)
        if count >= kind.least and (kind.most is None or count <= kind.most):
            return
        wanted = f"{kind.least} or {kind.most}" if kind.least != kind.most else str(kind.least)
        text = f"a {name} chart has {wanted} columns with `agg`, this one {count}"
        self._reading.complain("dashboard.agg.invalid", text, (*path, "data", "columns"), at_key=True)

    def _markdown(self, said: Mapping[str, Any], path: Path) -> None:
        if said.get("source") is None:
            self._reading.text(said, "content", path, is_required=True)
            return
        path = (*path, "source")
        source = self._reading.map(said["source"], path, "source") or {}
        kind = self._reading.word(source, "type", path, _SOURCES)
        for key in _SOURCES[kind] if kind else ():
            self._reading.text(source, key, path, is_required=True)
        if source and source.get("type") is None:
            self._reading.complain("dashboard.property.missing", "'type' is missing", path, "Text, FlowDescription")

    def _options(self, said: Mapping[str, Any], path: Path, query: Query | None) -> None:
        if said.get("chartOptions") is None:
            return
        path = (*path, "chartOptions")
        options = self._reading.map(said["chartOptions"], path, "chartOptions") or {}
        self._reading.text(options, "displayName", path)
        self._reading.word(options, "numberType", path, NUMBER_TYPES)
        width = options.get("width", 1)
        if not isinstance(width, int) or isinstance(width, bool) or not 1 <= width <= _WIDEST:
            text = f"a chart is 1 to {_WIDEST} columns wide"
            self._reading.complain("dashboard.property.invalid", text, (*path, "width"))
        for key in ("column", "colorByColumn"):
            name = self._reading.text(options, key, path)
            if name is not None and query is not None:
                self._check_column(name, query.columns, (*path, key))

    def _check_column(self, name: str, columns: tuple[Column, ...], path: Path) -> None:
        known = [column.key for column in columns]
        if known and name not in known:
            hint = did_you_mean(name, known) or f"known: {', '.join(known)[:200]}"
            self._reading.complain("dashboard.column.unknown", f"the data has no column {name[:80]!r}", path, hint)
