"""Between flows: which call which, texts found in their sources, how many executions of each run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

import re2  # type: ignore[import-untyped]  # no stubs are published

from runner.access import Permission
from runner.flows.between import FlowKey, calls
from runner.flows.models import Flow
from runner.store.records import FlowVersion
from webhooks.api.flows import BASE, active_flow, missing_flow
from webhooks.call import Call, RequestError, page_of
from webhooks.routes import TENANT, Endpoint

_NAMESPACES: Final = "/api/v1/{tenant}/namespaces"
_LIMITS: Final = "/api/v1/{tenant}/concurrency-limit/search"
_AVERAGE: Final = "/api/v1/{tenant}/executions/namespaces/{namespace}/flows/{flowId}/average-duration"
_LONGEST_TEXT: Final = 256
_MOST_MATCHES: Final = 100  # of one flow
_LONGEST_SNIPPET: Final = 500
_LAST_RUNS: Final = 100
_SUBFLOW: Final = "FLOW_TASK"


def search_source(call: Call) -> dict[str, Any]:
    """Answer with a page of flows and the lines of their sources in which `q` stands; all flows without `q`."""
    paging, namespace, pattern = call.paging(), call.query("namespace"), _pattern(call)
    found = []
    for version in call.services.store.read(lambda db: db.flows.list(prefix=namespace)):
        matches = list(_matches(version, pattern)) if call.sees(version.namespace) else []
        if matches or (pattern is None and call.sees(version.namespace)):
            found.append({"namespace": version.namespace, "id": version.flow_id, "editable": True, "matches": matches})
    return page_of(found[paging.offset : paging.offset + paging.size], len(found))


def _pattern(call: Call) -> Any:
    if (call.query("scope") or "ALL").upper() != "ALL":
        raise RequestError("request.parameter.invalid", "only scope=ALL is searched here")
    text = call.query("q")
    if text is None:
        return None
    if len(text) > _LONGEST_TEXT:
        raise RequestError("request.parameter.invalid", f"q has more than {_LONGEST_TEXT} characters")
    wanted = text if call.flag("regex") else re.escape(text)
    flags = "" if call.flag("caseSensitive") else "(?i)"
    try:
        return re2.compile(f"{flags}\\b(?:{wanted})\\b" if call.flag("wholeWord") else f"{flags}(?:{wanted})")
    except re2.error as error:
        raise RequestError("request.parameter.invalid", f"q is no regular expression: {error}") from None


def _matches(version: FlowVersion, pattern: Any) -> Iterable[dict[str, Any]]:
    count = 0
    for number, line in enumerate(version.source.splitlines() if pattern is not None else (), start=1):
        found = pattern.search(line)
        if found is not None and count < _MOST_MATCHES:
            count += 1
            yield {"line": number, "column": found.start() + 1, "snippet": line[:_LONGEST_SNIPPET]}


# -------------------------------------------------------------------- which flow calls which


def of_flow(call: Call) -> dict[str, Any]:
    """Answer with the flows that one flow calls and those that call it; with `expandAll` all that hang together."""
    start = (call.path("namespace"), call.path("id"))
    if active_flow(call, *start) is None:
        raise missing_flow(*start)
    edges = _edges(call)
    if call.flag("destinationOnly"):
        wanted = [edge for edge in edges if edge[0] == start]
    else:
        wanted = [edge for edge in edges if start in edge]
    if call.flag("expandAll"):
        wanted = _connected(start, edges)
    return _graph({start}, wanted)


def of_namespace(call: Call) -> dict[str, Any]:
    """Answer with the flows of a namespace and those that they call or that call them."""
    namespace = call.path("namespace")
    own = {(flow.namespace, flow.id) for flow in _seen(call) if flow.namespace == namespace}
    return _graph(own, [edge for edge in _edges(call) if namespace in {edge[0][0], edge[1][0]}])


def _seen(call: Call) -> list[Flow]:
    return [flow for flow in call.services.catalogue.active() if call.sees(flow.namespace)]


def _edges(call: Call) -> list[tuple[FlowKey, FlowKey]]:
    flows = _seen(call)
    known = {(flow.namespace, flow.id) for flow in flows}
    found = {((flow.namespace, flow.id), target) for flow in flows for _, target in calls(flow) if target in known}
    return sorted(found)


def _connected(start: FlowKey, edges: list[tuple[FlowKey, FlowKey]]) -> list[tuple[FlowKey, FlowKey]]:
    reached, size = {start}, 0
    while len(reached) > size:
        size = len(reached)
        reached |= {end for edge in edges if reached.intersection(edge) for end in edge}
    return [edge for edge in edges if edge[0] in reached]


def _graph(nodes: set[FlowKey], edges: list[tuple[FlowKey, FlowKey]]) -> dict[str, Any]:
    every = sorted(nodes.union(*edges))
    return {
        "nodes": [{"uid": _uid(key), "namespace": key[0], "id": key[1]} for key in every],
        "edges": [{"source": _uid(one), "target": _uid(two), "relation": _SUBFLOW} for one, two in edges],
    }


def _uid(key: FlowKey) -> str:
    return f"{TENANT}_{key[0]}_{key[1]}"


# -------------------------------------------------------------------- figures


def concurrency(call: Call) -> dict[str, Any]:
    """Answer with the flows that limit how many of their executions run, and how many do."""
    running = call.services.store.read(lambda db: db.executions.running_flows())
    rows = [
        {
            "tenantId": TENANT,
            "namespace": flow.namespace,
            "flowId": flow.id,
            "running": running.get((flow.namespace, flow.id), 0),
        }
        for flow in _seen(call)
        if flow.concurrency is not None
    ]
    return page_of(rows, len(rows))


def average_duration(call: Call) -> dict[str, Any]:
    """Answer with how long the last hundred executions of a flow took that have ended, on average."""
    namespace, flow_id = call.path("namespace"), call.path("flowId")
    rows = call.services.store.read(lambda db: db.executions.last_of_flow(namespace, flow_id, _LAST_RUNS))
    spent = [(row.ended_at - (row.started_at or row.created_at)).total_seconds() for row in rows if row.ended_at]
    return {"avgDurationMs": round(1000 * sum(spent) / len(spent)) if spent else None, "count": len(spent)}


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, runs, tag = Permission.FLOW_READ, Permission.EXECUTION_READ, "flows"
    related = "Flows that call one another"
    return [
        Endpoint("GET", BASE + "/source", read, search_source, "Texts in the sources of flows", tag),
        Endpoint("GET", BASE + "/{namespace}/{id}/dependencies", read, of_flow, related, tag),
        Endpoint("GET", _NAMESPACES + "/{namespace}/dependencies", read, of_namespace, related, tag),
        Endpoint("GET", _LIMITS, read, concurrency, "Flows with a limit, and how many executions run", tag),
        Endpoint("GET", _AVERAGE, runs, average_duration, "How long executions of a flow take", "executions"),
    ]
