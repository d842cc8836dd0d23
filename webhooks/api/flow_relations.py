"""Between flows: which call which, and how many executions of each run."""

from __future__ import annotations

from typing import Any, Final

from runner.access import Permission
from runner.flows.models import Flow
from runner.flows.outline import FlowKey, Outline
from webhooks.answers.executions import AVERAGE
from webhooks.answers.flows import CONCURRENCY, DEPENDENCIES
from webhooks.api.flows import BASE, active_flow, missing_flow
from webhooks.call import Call, page_of
from webhooks.parameters import flag
from webhooks.routes import TENANT, Endpoint

_NAMESPACES: Final = "/api/v1/{tenant}/namespaces"
_LIMITS: Final = "/api/v1/{tenant}/concurrency-limit/search"
_AVERAGE: Final = "/api/v1/{tenant}/executions/namespaces/{namespace}/flows/{flowId}/average-duration"
_LAST_RUNS: Final = 100
_SUBFLOW: Final = "FLOW_TASK"


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
    flows = [Outline.of(flow) for flow in _seen(call)]
    known = {flow.key for flow in flows}
    return sorted({(flow.key, target) for flow in flows for _, target, _ in flow.calls if target in known})


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
    reach = (
        flag("destinationOnly", "Only what it calls, not what calls it."),
        flag("expandAll", "Everything that hangs together."),
    )
    return [
        Endpoint(
            "GET",
            BASE + "/{namespace}/{id}/dependencies",
            read,
            of_flow,
            related,
            tag,
            query=reach,
            answer=DEPENDENCIES,
        ),
        Endpoint(
            "GET",
            _NAMESPACES + "/{namespace}/dependencies",
            read,
            of_namespace,
            related,
            tag,
            query=reach,
            answer=DEPENDENCIES,
        ),
        Endpoint(
            "GET",
            _LIMITS,
            read,
            concurrency,
            "Flows with a limit, and how many executions run",
            tag,
            answer=CONCURRENCY,
        ),
        Endpoint(
            "GET", _AVERAGE, runs, average_duration, "How long executions of a flow take", "executions", answer=AVERAGE
        ),
    ]
