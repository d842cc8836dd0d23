"""The data of charts: of those of a dashboard, and of one that is being written, as JSON and as CSV."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from starlette.responses import Response

from runner.access import Permission
from runner.dashboards.models import Chart, TimeWindow
from runner.dashboards.parse import parse_chart, parse_dashboard
from runner.dashboards.vocabulary import KPI
from runner.errors import FlowError, InvalidError, NotFoundError
from runner.store.charts import ChartFigure, ChartRows
from webhooks.answers.dashboards import CHART_DATA, CHART_REQUEST, CHART_VIEW
from webhooks.api.dashboards import found_dashboard
from webhooks.api.flows import active_flow
from webhooks.call import Call, page_of
from webhooks.chart_views import view_of
from webhooks.parameters import text
from webhooks.routes import Endpoint
from webhooks.schemas import TEXT
from webhooks.tables import as_csv

_BASE: Final = "/api/v1/{tenant}/dashboards"
_JSON: Final = "application/json"
_READS: Final[Mapping[str, Permission]] = {
    "Executions": Permission.EXECUTION_READ,
    "Logs": Permission.LOG_READ,
    "Metrics": Permission.EXECUTION_READ,
    "Flows": Permission.FLOW_READ,
    "Triggers": Permission.TRIGGER_READ,
}


def data(call: Call) -> dict[str, Any]:
    """Answer with the data of a chart of a dashboard."""
    return _page(call, *_named(call), call.json() or {})


def export(call: Call) -> Response:
    """Answer with the data of a chart of a dashboard as CSV."""
    chart, window = _named(call)
    return _csv(call, chart, window, call.json() or {})


def preview(call: Call) -> dict[str, Any]:
    """Answer with the data of the chart in the body."""
    chart, view = _given(call)
    return _page(call, chart, TimeWindow(), view)


def export_preview(call: Call) -> Response:
    """Answer with the data of the chart in the body as CSV."""
    chart, view = _given(call)
    return _csv(call, chart, TimeWindow(), view)


def _named(call: Call) -> tuple[Chart, TimeWindow]:
    row = found_dashboard(call)
    dashboard, name = parse_dashboard(row.source).require(), call.path("chartId")
    chart = dashboard.chart(name)
    if chart is None:
        known = ", ".join(each.id for each in dashboard.charts)
        text = f"the dashboard {row.id!r} has no chart {name[:100]!r}"
        raise NotFoundError("dashboard.chart.missing", text, hint=f"there are: {known[:200]}" if known else None)
    return chart, dashboard.window


def _given(call: Call) -> tuple[Chart, Any]:
    body = call.json_map()
    source = body.get("chart")
    if not isinstance(source, str):
        raise InvalidError("dashboard.property.missing", "`chart` holds the YAML of a chart")
    chart, problems = parse_chart(source)
    if chart is None:
        first = problems[0]
        raise FlowError(first.code, first.message, hint=first.hint, problems=list(problems))
    return chart, body.get("globalFilter") or {}


def _page(call: Call, chart: Chart, window: TimeWindow, view: Any) -> dict[str, Any]:
    rows, total = _rows(call, chart, window, view)
    return page_of(rows, total)


def _csv(call: Call, chart: Chart, window: TimeWindow, view: Any) -> Response:
    call.query("format")
    rows, _ = _rows(call, chart, window, view)
    keys = [column.key for column in chart.query.columns] if chart.query else ["description"]
    return as_csv(f"{chart.id or 'chart'}.csv", keys, ([row[key] for key in keys] for row in rows))


def _rows(call: Call, chart: Chart, window: TimeWindow, body: Any) -> tuple[list[dict[str, Any]], int]:
    if not isinstance(body, dict):
        raise InvalidError("request.json.invalid", "a view of a chart is a JSON object")
    query = chart.query
    if query is None:
        return [_description(call, chart)], 1
    assert call.identity is not None, "these routes know their caller"
    call.services.access.require(call.identity, _READS[query.source])
    view = view_of(body, query.source, window, call.namespaces(), datetime.now(UTC))
    store = call.services.store
    if chart.kind == KPI:
        options = chart.document.get("chartOptions") or {}
        is_share = options.get("numberType") == "PERCENTAGE"
        return [{"value": store.figure(ChartFigure(query, view, is_share))}], 1
    found = store.chart(ChartRows(query, view))
    return found.items, found.total


def _description(call: Call, chart: Chart) -> dict[str, Any]:
    source = chart.document.get("source") or {}
    if source.get("type") != "FlowDescription":
        raise InvalidError("dashboard.chart.dataless", f"the chart {chart.id!r} has a text, and no data")
    namespace, flow_id = source["namespace"], source["flowId"]
    version = active_flow(call, namespace, flow_id) if call.sees(namespace) else None
    if version is None:
        raise NotFoundError("flow.missing", f"no flow named {namespace}.{flow_id}")
    return {"description": call.services.catalogue.index_of(version).flow.description or ""}


_FORMAT: Final = text("format", "What the table is written as.", default="CSV", choices=("CSV",))


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, tag = Permission.EXECUTION_READ, "dashboards"
    one, draft = _BASE + "/{id}/charts/{chartId}", _BASE + "/charts"
    viewed: dict[str, Any] = {"takes": _JSON, "body": CHART_VIEW}
    given: dict[str, Any] = {"takes": _JSON, "body": CHART_REQUEST}
    saved: dict[str, Any] = {"gives": "text/csv", "query": (_FORMAT,), "answer": TEXT}
    return [
        Endpoint("POST", one, read, data, "The data of a chart", tag, answer=CHART_DATA, **viewed),
        Endpoint("POST", one + "/export", read, export, "The data of a chart as CSV", tag, **viewed, **saved),
        Endpoint("POST", one + "/export/to-csv", read, export, "The same, as 1.x names it", tag, **viewed, **saved),
        Endpoint(
            "POST", draft + "/preview", read, preview, "The data of a chart to be", tag, answer=CHART_DATA, **given
        ),
        Endpoint("POST", draft + "/export", read, export_preview, "That data as CSV", tag, **given, **saved),
        Endpoint("POST", draft + "/export/to-csv", read, export_preview, "Likewise, for 1.x", tag, **given, **saved),
    ]
