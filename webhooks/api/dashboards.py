"""Dashboards: read as commits brought them, checked, and written by commits."""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import Response

from runner.access import ALL_NAMESPACES, Permission
from runner.dashboards.models import Dashboard
from runner.dashboards.parse import parse_chart, parse_dashboard
from runner.durations import format_duration
from runner.errors import InvalidError, NotFoundError
from runner.store.records import StoredDashboard
from webhooks.answers.dashboards import DASHBOARD, DASHBOARDS, DEFAULTS
from webhooks.answers.flows import VERDICT
from webhooks.api.flows import YAML, sync_of, verdict
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
    row = found_dashboard(call)
    return {**_shape(row), "sourceCode": row.source}


def found_dashboard(call: Call) -> StoredDashboard:
    """Return the dashboard that the path names. Raises `NotFoundError` `dashboard.missing`, also when it is hidden."""
    name = call.path("id")
    row = call.services.store.read(lambda db: db.dashboards.get(name))
    if row is None or not _is_seen(call, row):
        raise NotFoundError("dashboard.missing", f"there is no dashboard {name[:100]!r}")
    return row


def create(call: Call) -> dict[str, Any]:
    """Commit a new dashboard and answer with it."""
    source, namespace = call.text(), call.query("namespace")
    call.require(namespace or ALL_NAMESPACES)
    dashboard = parse_dashboard(source).require()
    row = sync_of(call).dashboards.create(
        dashboard, source, namespace, actor=call.actor, proposed=call.proposals.append
    )
    return _written(call, row)


def update(call: Call) -> dict[str, Any]:
    """Commit a changed dashboard and answer with it."""
    row, source = _owned(call), call.text()
    dashboard = parse_dashboard(source).require()
    if dashboard.id != row.id:
        raise InvalidError(
            "dashboard.identity.changed",
            f"the body is the dashboard {dashboard.id!r}, the address names {row.id!r}",
            hint="create the dashboard under its new id, then delete the old one",
        )
    written = sync_of(call).dashboards.update(row, dashboard, source, actor=call.actor, proposed=call.proposals.append)
    return _written(call, written)


def delete(call: Call) -> Response:
    """Commit the removal of a dashboard."""
    row = _owned(call)
    sync_of(call).dashboards.delete(row, actor=call.actor, proposed=call.proposals.append)
    call.note(f"dashboard {row.id}", verb="delete")
    return Response(status_code=204)


def _owned(call: Call) -> StoredDashboard:
    """Return the dashboard of the path, which the caller may change: one of no namespace is everybody's."""
    row = found_dashboard(call)
    call.require(row.namespace or ALL_NAMESPACES)
    return row


def _written(call: Call, row: StoredDashboard) -> dict[str, Any]:
    call.note(f"dashboard {row.id}", verb="write", environment=row.environment, path=row.path)
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


_NAMESPACE: Final = text("namespace", "The namespace that the dashboard is of; of none without it.")


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, write, tag = Permission.FLOW_READ, Permission.FLOW_WRITE, "dashboards"
    changed: dict[str, Any] = {"takes": YAML, "body": TEXT, "answer": DASHBOARD, "proposes": True}
    some = (text("q", "Only those whose title holds this."), *paging())
    body: dict[str, Any] = {"takes": YAML, "body": TEXT, "answer": VERDICT}
    standing = "Dashboards that stand in for pages"
    return [
        Endpoint("GET", _BASE, read, search, "A page of dashboards", tag, query=some, answer=DASHBOARDS),
        Endpoint("GET", _BASE + "/{id}", read, get, "One dashboard", tag, answer=DASHBOARD),
        Endpoint("POST", _BASE, write, create, "Create a dashboard (a commit)", tag, query=(_NAMESPACE,), **changed),
        Endpoint("PUT", _BASE + "/{id}", write, update, "Change a dashboard (a commit)", tag, **changed),
        Endpoint(
            "DELETE", _BASE + "/{id}", write, delete, "Delete a dashboard (a commit)", tag, status=204, proposes=True
        ),
        Endpoint("POST", _BASE + "/validate", read, validate, "Check a dashboard", tag, **body),
        Endpoint("POST", _BASE + "/validate/chart", read, validate_chart, "Check a chart", tag, **body),
        Endpoint("GET", _BASE + "/settings/default-dashboards", read, defaults, standing, tag, answer=DEFAULTS),
    ]
