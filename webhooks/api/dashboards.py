"""Dashboards: read as commits brought them, and checked before they are committed."""

from __future__ import annotations

from typing import Any, Final

from runner.access import Permission
from runner.dashboards.models import Dashboard
from runner.dashboards.parse import parse_chart, parse_dashboard
from runner.durations import format_duration
from runner.errors import NotFoundError
from runner.store.records import StoredDashboard
from webhooks.answers.dashboards import DASHBOARD, DASHBOARDS, DEFAULTS
from webhooks.answers.flows import VERDICT
from webhooks.api.flows import YAML, verdict
from webhooks.call import Call, page_of
from webhooks.filters import in_order
from webhooks.parameters import paging, text
from webhooks.routes import TENANT, Endpoint
from webhooks.schemas import TEXT
from webhooks.shapes import instant

_BASE: Final = "/api/v1/{tenant}/dashboards"
_KEYS: Final = {
    "title": lambda row: row.title.lower(),
    "id": lambda row: row.id,
    "created": lambda row: row.created_at,
    "updated": lambda row: row.updated_at,
}


def search(call: Call) -> dict[str, Any]:
    """Answer with a page of the dashboards that the caller may see, without their sources."""
    pages, q = call.paging(), (call.query("q") or "").lower()
    rows = call.services.store.read(lambda db: db.dashboards.all())
    found = [row for row in rows if _is_seen(call, row) and q in row.title.lower()]
    page = in_order(found, pages.sort, _KEYS)[pages.offset : pages.offset + pages.size]
    return page_of((_shape(row) for row in page), len(found))


def get(call: Call) -> dict[str, Any]:
    """Answer with a dashboard and its source."""
    name = call.path("id")
    row = call.services.store.read(lambda db: db.dashboards.get(name))
    if row is None or not _is_seen(call, row):
        raise NotFoundError("dashboard.missing", f"there is no dashboard {name[:100]!r}")
    return {**_shape(row), "sourceCode": row.source}


def defaults(_: Call) -> dict[str, Any]:
    """Answer which dashboards stand in for pages: none does."""
    return {
        "defaultHomeDashboard": None,
        "defaultFlowOverviewDashboard": None,
        "defaultNamespaceOverviewDashboard": None,
    }


def validate(call: Call) -> dict[str, Any]:
    """Answer with what is wrong with a dashboard; never an error."""
    return verdict(parse_dashboard(call.body).problems)


def validate_chart(call: Call) -> dict[str, Any]:
    """Answer with what is wrong with a chart; never an error."""
    return verdict(parse_chart(call.body)[1])


def _is_seen(call: Call, row: StoredDashboard) -> bool:
    return row.namespace is None or call.sees(row.namespace)


def _shape(row: StoredDashboard) -> dict[str, Any]:
    # What was brought under the rules of an earlier version may break those of this one; its source is shown then.
    dashboard = parse_dashboard(row.source).dashboard or Dashboard(row.id, row.title)
    written, window = dashboard.time_window, dashboard.window
    return {
        "tenantId": TENANT,
        "id": row.id,
        "title": row.title,
        "description": dashboard.description,
        "timeWindow": {
            "default": written.get("default") or format_duration(window.default),
            "max": written.get("max") or format_duration(window.longest),
        },
        "charts": [chart.document for chart in dashboard.charts],
        "deleted": False,
        "created": instant(row.created_at),
        "updated": instant(row.updated_at),
        "namespace": row.namespace,
        "environment": row.environment,
        "path": row.path,
    }


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, tag = Permission.FLOW_READ, "dashboards"
    some = (text("q", "Only those whose title holds this."), *paging())
    body: dict[str, Any] = {"takes": YAML, "body": TEXT, "answer": VERDICT}
    standing = "Dashboards that stand in for pages"
    return [
        Endpoint("GET", _BASE, read, search, "A page of dashboards", tag, query=some, answer=DASHBOARDS),
        Endpoint("GET", _BASE + "/{id}", read, get, "One dashboard", tag, answer=DASHBOARD),
        Endpoint("POST", _BASE + "/validate", read, validate, "Check a dashboard", tag, **body),
        Endpoint("POST", _BASE + "/validate/chart", read, validate_chart, "Check a chart", tag, **body),
        Endpoint("GET", _BASE + "/settings/default-dashboards", read, defaults, standing, tag, answer=DEFAULTS),
    ]
