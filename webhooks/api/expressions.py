"""What flows may say: the expressions that a task can use, and the types that should no longer be written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from runner.access import Permission, covers
from runner.expressions.registry import FILTERS, FUNCTIONS
from runner.flows.aliases import successor
from runner.flows.models import Flow
from runner.flows.parse import parse_flow
from runner.store import Session
from runner.store.records import FlowVersion
from webhooks.answers.flows import DEPRECATED, EXPRESSIONS
from webhooks.api.flows import BASE, YAML, inherited_for
from webhooks.call import Call
from webhooks.parameters import text
from webhooks.routes import Endpoint
from webhooks.schemas import TEXT

_MOST_NAMES: Final = 1_000  # of keys and of files
_CONTEXT: Final = {
    "flow": ("id", "namespace", "revision"),
    "execution": ("id", "startDate", "state", "originalId"),
    "task": ("id", "type"),
    "taskrun": ("id", "startDate", "attemptsCount", "parentId", "value", "iteration"),
}


def expressions(call: Call) -> dict[str, Any]:
    """Answer with the expressions that a flow, or its task `taskId`, can use: by what they give, names only."""
    source, task_id = call.text(), call.query("taskId")
    flow = parse_flow(source, inherited=inherited_for(call, source)).flow
    namespace = flow.namespace if flow is not None and call.sees(flow.namespace) else None
    return {
        "categories": {
            "taskOutputs": [f"outputs.{name}" for name in _before(flow, task_id)],
            "executionContext": [f"{root}.{name}" for root, names in _CONTEXT.items() for name in names],
            "inputs": [f"inputs.{each.id}" for each in flow.inputs] if flow else [],
            "variables": _variables(flow) if flow else [],
            **_of_namespace(call, namespace),
            "filters": sorted(FILTERS),
            "functions": [f"{name}({', '.join(each.parameters)})" for name, each in sorted(FUNCTIONS.items())],
            "appContext": [],
        }
    }


def _variables(flow: Flow) -> list[str]:
    own = [f"vars.{name}" for name in flow.variables]
    return [*own, *(f"namespace.{name}" for name in flow.namespace_variables)]


def _before(flow: Flow | None, task_id: str | None) -> list[str]:
    """Return the tasks whose outputs a task may read: those written before it, all without one."""
    names = [task.id for task in flow.all_tasks()] if flow else []
    return names[: names.index(task_id)] if task_id in names else names


def _of_namespace(call: Call, namespace: str | None) -> dict[str, list[str]]:
    if namespace is None:
        return {"secrets": [], "kvPairs": [], "namespaceFiles": []}
    host, now = call.services.host, datetime.now(UTC)

    def read(db: Session) -> tuple[list[str], FlowVersion | None]:
        keys = [row.key for row in db.kv.list(namespace, size=_MOST_NAMES, now=now).items]
        return keys, next(iter(db.flows.list(namespace)), None)

    keys, version = call.services.store.read(read)
    files = host.files.list(version.environment, version.commit, namespace) if version else []
    return {
        "secrets": [f"secret('{key}')" for key in host.secrets.keys(namespace)],
        "kvPairs": [f"kv('{key}')" for key in keys],
        "namespaceFiles": [f"read('{path}')" for path in files[:_MOST_NAMES]],
    }


def deprecated(call: Call) -> list[dict[str, Any]]:
    """Answer with the flows that have tasks of deprecated types or spellings, and what should stand there."""
    within = call.query("namespace")
    found = []
    for flow in call.services.catalogue.active():
        if not call.sees(flow.namespace) or (within is not None and not covers([within], flow.namespace)):
            continue
        tasks = [
            {"taskId": task.id, "taskType": task.type, "replacement": replacement}
            for task in flow.all_tasks()
            if (replacement := successor(task.type)) is not None
        ]
        if tasks:
            version = call.services.catalogue.version(flow.namespace, flow.id)
            found.append(
                {
                    "namespace": flow.namespace,
                    "flowId": flow.id,
                    "revision": version.revision,
                    "deprecatedTasks": tasks,
                }
            )
    return found


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, tag, older = Permission.FLOW_READ, "flows", "Flows with deprecated types"
    of_task = (text("taskId", "Only what this task can read."),)
    within = (text("namespace", "Only this namespace and those below it."),)
    return [
        Endpoint(
            "POST",
            BASE + "/expressions",
            read,
            expressions,
            "The expressions that a flow can use",
            tag,
            takes=YAML,
            query=of_task,
            body=TEXT,
            answer=EXPRESSIONS,
        ),
        Endpoint("GET", BASE + "/deprecated", read, deprecated, older, tag, query=within, answer=DEPRECATED),
    ]
