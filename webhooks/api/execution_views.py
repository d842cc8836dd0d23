"""Looking at executions and what could become one: expressions, inputs before a start, the flow of an execution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from starlette.concurrency import run_in_threadpool

from runner.access import Permission
from runner.errors import MainstemError, NotFoundError
from runner.executions.burst import BurstActions
from runner.executions.creation import NewExecution, inspect_inputs
from runner.executions.models import Execution
from runner.executions.rest import StoredRuns
from runner.executions.tree import Tree
from runner.expressions import Scope, render
from runner.flows.models import Flow, Task
from webhooks.answers.executions import CHECKED_INPUTS, EVALUATION
from webhooks.answers.flows import FLOW_TO_RUN
from webhooks.api.executions import BASE, INPUTS, form_inputs, visible_execution, visible_of
from webhooks.call import Call
from webhooks.onlookers import OnlookerServices
from webhooks.parameters import REVISION, several
from webhooks.routes import Endpoint
from webhooks.schemas import TEXT
from webhooks.shapes import masked

ONE: Final = BASE + "/{id}"


def evaluate(call: Call) -> dict[str, Any]:
    """Render an expression as a task run of an execution sees it, or the execution itself, without any secret."""
    execution = visible_execution(call, call.path("id"))
    run_id = call.request.path_params.get("taskRunId")
    loaded = call.services.store.read(lambda db: db.executions.load(execution.id))
    if loaded is None:
        raise NotFoundError("execution.missing", f"no execution {execution.id!r}")
    engine = call.services.engine
    # Secrets stay sealed: who may look at an execution may not read those, as a whole or in pieces.
    host = replace(call.services.host, encryption=None, execution_of=visible_of(call))
    tree = Tree(engine.catalogue.index(execution.namespace, execution.flow_id, execution.flow_revision), loaded)
    node = tree.nodes.get(run_id) if run_id else None
    if run_id and node is None:
        raise NotFoundError("execution.run.missing", f"the execution {execution.id} has no task run {run_id!r}")
    outputs = StoredRuns(call.services.store, execution.id).outputs
    variables = BurstActions(tree, host, host.clock(), outputs, engine.start_subflow).variables(node)
    scope = Scope(
        variables.plus({"inputs": masked(execution.inputs)}), OnlookerServices(host, tree.flow, execution, call.sees)
    )
    try:
        text = render(call.text(), scope)
    except MainstemError as error:
        return {"result": None, "error": error.message, "stackTrace": None}
    return {"result": call.services.host.masker.mask(text), "error": None, "stackTrace": None}


async def validate(call: Call) -> dict[str, Any]:
    """Say what would become of inputs, without starting anything."""
    inputs = await form_inputs(call)

    def check() -> dict[str, Any]:
        namespace, flow_id = call.path("namespace"), call.path("flowId")
        new = NewExecution(namespace, flow_id, call.number("revision"), inputs)
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
    namespace, flow_id, revision = call.path("namespace"), call.path("flowId"), call.number("revision")
    version = call.services.catalogue.version(namespace, flow_id, revision)
    return flow_summary(call.services.catalogue.get(namespace, flow_id, revision), version.revision)


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
    expression: dict[str, Any] = {"takes": "text/plain", "body": TEXT, "answer": EVALUATION}
    checked: dict[str, Any] = {**INPUTS, "answer": CHECKED_INPUTS}
    labelled = (REVISION, several("labels", "Not looked at."))
    before, waiting = "What would become of inputs", "What would become of the inputs of a pause"
    return [
        *[
            Endpoint("POST", path, read, evaluate, "Render an expression in an execution", tag, **expression)
            for path in evaluations
        ],
        Endpoint(
            "POST", BASE + "/{namespace}/{flowId}/validate", run, validate, before, tag, query=labelled, **checked
        ),
        *[
            Endpoint("POST", f"{ONE}{verb}/resume/validate", run, validate_resume, waiting, tag, **checked)
            for verb in ("", "/actions")
        ],
        Endpoint("GET", f"{ONE}/flow", read, flow_of_execution, "The flow of an execution", tag, answer=FLOW_TO_RUN),
        Endpoint(
            "GET",
            BASE + "/flows/{namespace}/{flowId}",
            run,
            flow_to_execute,
            "A flow to be run",
            tag,
            query=(REVISION,),
            answer=FLOW_TO_RUN,
        ),
    ]
