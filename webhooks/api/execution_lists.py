"""Lists about executions: the latest of flows, what they differ in, tables, flows to be run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from runner.access import Permission
from runner.errors import InvalidError
from runner.executions.models import Execution
from runner.store import Session
from webhooks.answers.executions import LATEST
from webhooks.answers.flows import FLOW_TO_RUN, NAME
from webhooks.api.execution_views import flow_summary
from webhooks.api.executions import BASE, EXECUTION_SEARCH, filters_of, found
from webhooks.call import Call, Paging
from webhooks.parameters import number, required
from webhooks.routes import Endpoint
from webhooks.schemas import TEXT, listed
from webhooks.search import narrow_executions
from webhooks.shapes import instant
from webhooks.tables import as_csv

_MOST_ROWS: Final = 10_000
_MOST_FLOWS: Final = 500
_PAGE: Final = 1_000
_COLUMNS: Final = ("id", "namespace", "flowId", "flowRevision", "state", "startDate", "endDate")
_FIELDS: Final[Mapping[str, Callable[[Execution], str | None]]] = {
    "namespace": lambda row: row.namespace,
    "flowId": lambda row: row.flow_id,
    "state": lambda row: row.state.value,
    "kind": lambda row: row.kind,
    "triggerId": lambda row: row.trigger.id if row.trigger else None,
}


def latest(call: Call) -> list[dict[str, Any]]:
    """Answer with the newest execution of each flow that the body names as `[{namespace, id}]`."""
    body = call.json()
    if not isinstance(body, list) or len(body) > _MOST_FLOWS or not all(isinstance(each, dict) for each in body):
        raise InvalidError(
            "request.json.invalid", f"the body must be a list of at most {_MOST_FLOWS} {{id, namespace}}"
        )
    keys = list(dict.fromkeys((str(each.get("namespace")), str(each.get("id"))) for each in body))

    def read(db: Session) -> list[Execution]:
        return [row for key in keys if call.sees(key[0]) for row in db.executions.last_of_flow(*key, 1)]

    return [
        {
            "id": row.id,
            "namespace": row.namespace,
            "flowId": row.flow_id,
            "startDate": instant(row.created_at),
            "status": row.state.value,
        }
        for row in call.services.store.read(read)
    ]


def distinct_values(call: Call) -> list[str]:
    """Answer with the values that a field has among the executions that the filters find."""
    field, most = call.required("field"), call.count("size")
    values = {value for row in _rows(call) if (value := _FIELDS[field](row)) is not None}
    return sorted(values)[:most]


def table(call: Call) -> Any:
    """Answer with the executions that the filters find as CSV, 10,000 at most."""
    rows = [
        (
            row.id,
            row.namespace,
            row.flow_id,
            row.flow_revision,
            row.state.value,
            instant(row.started_at or row.created_at),
            instant(row.ended_at),
        )
        for row in _rows(call)
    ]
    return as_csv("executions.csv", _COLUMNS, rows)


def _rows(call: Call) -> list[Execution]:
    query, rest = narrow_executions(filters_of(call), datetime.now(UTC))
    rows: list[Execution] = []
    while len(rows) < _MOST_ROWS:
        batch, total = found(call, query, rest, Paging(len(rows) // _PAGE + 1, _PAGE))
        rows += batch
        if not batch or len(rows) >= total:
            break
    return rows


def namespaces(call: Call) -> list[str]:
    """Answer with the namespaces whose flows the caller may run."""
    return [name for name in call.services.store.read(lambda db: db.flows.namespaces()) if call.sees(name)]


def flows(call: Call) -> list[dict[str, Any]]:
    """Answer with the flows of a namespace as people see them who may only run them."""
    namespace = call.path("namespace")
    active = [flow for flow in call.services.catalogue.active() if flow.namespace == namespace]
    return [flow_summary(flow, flow.revision or 1) for flow in active]


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, run, tag = Permission.EXECUTION_READ, Permission.EXECUTION_RUN, "executions"
    inner, newest = BASE + "/namespaces", "The newest execution of each flow"
    values = (
        required("field", "Of which field.", choices=tuple(_FIELDS)),
        number("size", "At most so many.", 100, least=1),
        *EXECUTION_SEARCH,
    )
    return [
        Endpoint(
            "POST",
            BASE + "/latest",
            read,
            latest,
            newest,
            tag,
            takes="application/json",
            body=listed(NAME),
            answer=LATEST,
        ),
        Endpoint(
            "GET",
            BASE + "/distinct-field-values",
            read,
            distinct_values,
            "Values that a field has",
            tag,
            query=values,
            answer=listed(TEXT),
        ),
        Endpoint(
            "GET",
            BASE + "/export/by-query/csv",
            read,
            table,
            "Executions as CSV",
            tag,
            gives="text/csv",
            query=EXECUTION_SEARCH,
            answer=TEXT,
        ),
        Endpoint("GET", inner, run, namespaces, "Namespaces whose flows may be run", tag, answer=listed(TEXT)),
        Endpoint(
            "GET",
            inner + "/{namespace}/flows",
            run,
            flows,
            "Flows that may be run",
            tag,
            answer=listed(FLOW_TO_RUN),
        ),
    ]
