"""Flows and executions as graphs: nodes, edges, clusters."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Final

from runner.access import Permission
from runner.errors import MainstemError
from runner.executions.models import Execution, TaskRun
from runner.flows.graph import Graph, graph_of
from runner.flows.models import Flow, Task
from runner.flows.parse import parse_flow
from runner.tasks.flow import Subflow
from runner.tasks.for_each_item import ForEachItem
from webhooks.answers.flows import GRAPH
from webhooks.api.executions import BASE as EXECUTIONS
from webhooks.api.executions import visible_execution
from webhooks.api.flows import BASE, YAML
from webhooks.call import Call
from webhooks.parameters import REVISION, several
from webhooks.routes import Endpoint
from webhooks.schemas import TEXT
from webhooks.shapes import instant

_OPENED: Final = several("subflows", "Uid of a task that calls a flow, which is drawn inside it.")


def of_flow(call: Call) -> dict[str, Any]:
    """Answer with the graph of a flow."""
    flow = call.services.catalogue.get(call.path("namespace"), call.path("id"), call.number("revision"))
    return _graph(call, flow).as_json()


def of_source(call: Call) -> dict[str, Any]:
    """Answer with the graph of a flow that is not stored; one with problems is drawn as far as it can be read."""
    parsed = parse_flow(call.text())
    return _graph(call, parsed.flow or parsed.require()).as_json()


def of_execution(call: Call) -> dict[str, Any]:
    """Answer with the graph of the flow of an execution at its revision; its tasks say what became of their runs."""
    execution: Execution = visible_execution(call, call.path("id"))
    flow = call.services.catalogue.get(execution.namespace, execution.flow_id, execution.flow_revision)
    runs: defaultdict[str, list[TaskRun]] = defaultdict(list)
    for run in call.services.store.read(lambda db: db.executions.runs(execution.id)):
        runs[run.task_id].append(run)
    graph = _graph(call, flow)
    own = {id(task) for task in flow.all_tasks()}  # those of a called flow may have the same ids
    shown = graph.as_json()
    for node, described in zip(graph.nodes, shown["nodes"], strict=True):
        if isinstance(node.task, Task) and id(node.task) in own and node.task.id in runs:
            described.update(_became(runs[node.task.id]))
    return shown


def _became(runs: Sequence[TaskRun]) -> Mapping[str, Any]:
    """Return the last run of a task, and how many of its runs are in which state: a loop may have thousands."""
    last = max(runs, key=lambda run: (run.created_at, run.iteration or 0, run.id))
    return {
        "taskRun": {
            "id": last.id,
            "state": last.state.value,
            "value": last.value,
            "startDate": instant(last.started_at),
        },
        "states": dict(sorted(Counter(run.state.value for run in runs).items())),
    }


def _graph(call: Call, flow: Flow) -> Graph:
    def called(task: Subflow | ForEachItem) -> Flow | None:
        if not call.sees(task.namespace):
            return None
        try:
            return call.services.catalogue.get(task.namespace, task.flow_id, task.revision)
        except MainstemError:
            return None  # not there, or named by an expression

    return graph_of(flow, call.values("subflows"), called)


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, runs, opened = Permission.FLOW_READ, Permission.EXECUTION_READ, (_OPENED,)
    summary, drawn = "A flow as a graph", "An execution as a graph"
    return [
        Endpoint(
            "GET",
            BASE + "/{namespace}/{id}/graph",
            read,
            of_flow,
            summary,
            "flows",
            query=(REVISION, _OPENED),
            answer=GRAPH,
        ),
        Endpoint(
            "POST",
            BASE + "/graph",
            read,
            of_source,
            summary,
            "flows",
            takes=YAML,
            query=opened,
            body=TEXT,
            answer=GRAPH,
        ),
        Endpoint(
            "GET", EXECUTIONS + "/{id}/graph", runs, of_execution, drawn, "executions", query=opened, answer=GRAPH
        ),
    ]
