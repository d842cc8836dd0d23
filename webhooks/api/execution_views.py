"""Looking at executions and what could become one: expressions, inputs before a start, the flow of an execution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.concurrency import run_in_threadpool

from runner.access import Permission
from runner.errors import InvalidError, MainstemError, NotFoundError
from runner.executions.burst import BurstActions
from runner.executions.creation import NewExecution, inspect_inputs
from runner.executions.models import Execution
from runner.executions.rest import StoredRuns
from runner.executions.tree import Tree
from runner.expressions import render
from runner.flows.models import Flow, Task
from webhooks.api.executions import BASE, MULTIPART, form_inputs, visible_execution
from webhooks.call import Call
from webhooks.routes import Endpoint
from webhooks.shapes import instant

ONE: Final = BASE + "/{id}"
_MOST_FLOWS: Final = 1_000
_JSON: Final = "application/json"


def evaluate(call: Call) -> dict[str, Any]:
    """Render an expression as a task run of an execution sees it, or as the execution itself does."""
    execution = visible_execution(call, call.path("id"))
    run_id = call.request.path_params.get("taskRunId")
    loaded = call.services.store.read(lambda db: db.executions.load(execution.id))
    if loaded is None:
        raise NotFoundError("execution.missing", f"no execution {execution.id!r}")
    engine = call.services.engine
    tree = Tree(engine.catalogue.index(execution.namespace, execution.flow_id, execution.flow_revision), loaded)
    node = tree.nodes.get(run_id) if run_id else None
    if run_id and node is None:
        raise NotFoundError("execution.run.missing", f"the execution {execution.id} has no task run {run_id!r}")
    actions = BurstActions(
        tree,
        call.services.host,
        call.services.host.clock(),
        StoredRuns(call.services.store, execution.id).outputs,
        engine.start_subflow,
    )
    try:
        text = render(call.text(), actions.scope(node))
    except MainstemError as error:
        return {"result": None, "error": error.message, "stackTrace": None}
    return {"result": call.services.host.masker.mask(text), "error": None, "stackTrace": None}


async def validate(call: Call) -> dict[str, Any]:
    """Say what would become of inputs, without starting anything."""
    inputs = await form_inputs(call)

    def check() -> dict[str, Any]:
        namespace, flow_id = call.path("namespace"), call.path("flowId")
        new = NewExecution(namespace, flow_id, call.number("revision", least=1), inputs)
        version = call.services.catalogue.version(namespace, flow_id, new.revision)
        flow = call.services.catalogue.get(namespace, flow_id, new.revision)
        entries, failing = inspect_inputs(new, version, flow, call.services.host, call.services.host.clock())
        checks = [{"message": text, "style": check.style, "behavior": check.behavior} for check, text in failing]
        shown = [entry.as_json() for entry in entries]
        return {"id": flow_id, "namespace": namespace, "inputs": shown, "checks": checks}

    return await run_in_threadpool(check)


async def validate_resume(call: Call) -> dict[str, Any]:
    """Say what would become of the inputs that a pause asks for, without going on."""
    execution = await run_in_threadpool(visible_execution, call, call.path("id"))
    inputs = await form_inputs(call)
    entries = await run_in_threadpool(call.services.engine.inspect_resume, execution.id, inputs)
    shown = [entry.as_json() for entry in entries]
    return {"id": execution.flow_id, "namespace": execution.namespace, "inputs": shown, "checks": []}


def flow_of_execution(call: Call) -> dict[str, Any]:
    """Answer with the flow of an execution at its revision, without the properties of its tasks."""
    execution: Execution = visible_execution(call, call.path("id"))
    flow = call.services.catalogue.get(execution.namespace, execution.flow_id, execution.flow_revision)
    return flow_summary(flow, execution.flow_revision)


def flow_to_execute(call: Call) -> dict[str, Any]:
    """Answer with a flow as people see it who may only run it."""
    namespace, flow_id, revision = call.path("namespace"), call.path("flowId"), call.number("revision", least=1)
    version = call.services.catalogue.version(namespace, flow_id, revision)
    return flow_summary(call.services.catalogue.get(namespace, flow_id, revision), version.revision)


def latest(call: Call) -> list[dict[str, Any]]:
    """Answer with the newest execution of each of some flows; flows that never ran are left out."""
    wanted = call.json()
    if not isinstance(wanted, list) or not all(isinstance(each, Mapping) for each in wanted):
        raise InvalidError("request.json.invalid", "the body must be a list of namespace and id")
    keys = [(str(each.get("namespace")), str(each.get("id"))) for each in wanted[:_MOST_FLOWS]]
    store = call.services.store
    found = store.read(lambda db: [db.executions.last_of_flow(*key, 1) for key in keys if call.sees(key[0])])
    return [
        {
            "id": execution.id,
            "namespace": execution.namespace,
            "flowId": execution.flow_id,
            "startDate": instant(execution.created_at),
            "status": execution.state.value,
        }
        for rows in found
        for execution in rows
    ]


def namespaces(call: Call) -> list[str]:
    """Answer with the namespaces in which the caller may run flows."""
    return sorted({flow.namespace for flow in call.services.catalogue.active() if call.sees(flow.namespace)})


def flows_of_namespace(call: Call) -> list[dict[str, Any]]:
    """Answer with the flows of a namespace as people see them who may only run them."""
    catalogue, namespace = call.services.catalogue, call.path("namespace")
    flows = [flow for flow in catalogue.active() if flow.namespace == namespace]
    return [flow_summary(flow, catalogue.version(namespace, flow.id).revision) for flow in flows]


def flow_summary(flow: Flow, revision: int) -> dict[str, Any]:
    """Return a flow without the properties of its tasks."""
    return {
        "id": flow.id,
        "namespace": flow.namespace,
        "revision": revision,
        "disabled": flow.disabled,
        "draft": flow.draft,
        "deleted": False,
        "description": flow.description,
        "labels": [{"key": key, "value": value} for key, value in flow.labels.items()],
        "inputs": [each.model_dump(mode="json", by_alias=True, exclude_unset=True) for each in flow.inputs],
        "outputs": [{"id": each.id, "type": str(each.type)} for each in flow.outputs],
        "tasks": [_task_json(task) for task in flow.tasks],
        "errors": [_task_json(task) for task in flow.errors],
        "finally": [_task_json(task) for task in flow.finally_],
        "afterExecution": [_task_json(task) for task in flow.after_execution],
        "triggers": [{"id": each.id, "type": each.type, "disabled": each.disabled} for each in flow.triggers],
    }


def _task_json(task: Task) -> Mapping[str, Any]:
    inner = {name: [_task_json(child) for child in tasks] for name, tasks in task.branches() if tasks}
    return {"id": task.id, "type": task.type, "description": task.description} | inner


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, run, tag = Permission.EXECUTION_READ, Permission.EXECUTION_RUN, "executions"
    evaluations = [
        f"{ONE}/eval",
        f"{ONE}/actions/eval",
        f"{ONE}/eval/{{taskRunId}}",
        f"{ONE}/actions/eval/{{taskRunId}}",
    ]
    return [
        *[
            Endpoint("POST", path, read, evaluate, "Render an expression in an execution", tag, takes="text/plain")
            for path in evaluations
        ],
        Endpoint(
            "POST",
            BASE + "/{namespace}/{flowId}/validate",
            run,
            validate,
            "What would become of inputs",
            tag,
            takes=MULTIPART,
            reads_body=False,
        ),
        Endpoint("POST", BASE + "/latest", read, latest, "The newest execution of flows", tag, takes=_JSON),
        Endpoint("GET", BASE + "/namespaces", run, namespaces, "The namespaces with flows to run", tag),
        Endpoint("GET", BASE + "/namespaces/{namespace}/flows", run, flows_of_namespace, "The flows to run there", tag),
        *[
            Endpoint(
                "POST",
                f"{ONE}{verb}/resume/validate",
                run,
                validate_resume,
                "What would become of the inputs of a pause",
                tag,
                takes=MULTIPART,
                reads_body=False,
            )
            for verb in ("", "/actions")
        ],
        Endpoint("GET", f"{ONE}/flow", read, flow_of_execution, "The flow of an execution", tag),
        Endpoint("GET", BASE + "/flows/{namespace}/{flowId}", run, flow_to_execute, "A flow to be run", tag),
    ]
