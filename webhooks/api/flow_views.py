"""Looking at flows: what two revisions differ in, one task, texts that are found, single parts that are checked."""

from __future__ import annotations

from typing import Any, Final

import orjson

from runner.access import Permission
from runner.errors import FlowError, InvalidError, NotFoundError
from runner.flows.diff import diff_flows
from runner.flows.loader import load_value
from runner.flows.models import Flow, Task
from runner.store import Session
from runner.store.records import FlowVersion
from webhooks.answers.flows import DIFFERENCE, TASK, VERDICT
from webhooks.api.flows import BASE, YAML, missing_flow, verdict_on
from webhooks.call import Call
from webhooks.parameters import REVISION, number, required
from webhooks.routes import Endpoint
from webhooks.schemas import MAP, TEXT

_SECTIONS: Final = ("TASKS", "TRIGGERS")


def diff(call: Call) -> dict[str, Any]:
    """Answer with what the revision `to` changed since `from`, by meaning: tasks, triggers, inputs, other properties.

    Without `to` it is the active revision, without `from` the one before `to`.
    """
    namespace, flow_id = call.path("namespace"), call.path("id")
    known: list[FlowVersion] = call.services.store.read(lambda db: db.flows.revisions(namespace, flow_id))
    if not known:
        raise missing_flow(namespace, flow_id)
    numbers = [version.revision for version in known]
    new = call.number("to") or numbers[-1]
    old = call.number("from") or max((each for each in numbers if each < new), default=new)
    by_number = {version.revision: version for version in known}
    for each in (old, new):
        if each not in by_number or by_number[each].deleted:
            raise missing_flow(namespace, flow_id, each)
    index_of = call.services.catalogue.index_of
    changes = diff_flows(index_of(by_number[old]).flow, index_of(by_number[new]).flow)
    return {
        "namespace": namespace,
        "id": flow_id,
        "from": _revision(by_number[old]),
        "to": _revision(by_number[new]),
        "changes": [{**change.as_json(), "text": str(change)} for change in changes],
    }


def _revision(version: FlowVersion) -> dict[str, Any]:
    return {"revision": version.revision, "commit": version.commit}


def task(call: Call) -> dict[str, Any]:
    """Answer with one task of a flow, wherever in it the task stands."""
    namespace, flow_id, revision = call.path("namespace"), call.path("id"), call.number("revision")

    def read(db: Session) -> FlowVersion | None:
        return db.flows.get(namespace, flow_id, revision)

    version = call.services.store.read(read)
    if version is None:
        raise missing_flow(namespace, flow_id, revision)
    wanted = call.path("taskId")
    index = call.services.catalogue.index_of(version)
    found = next((each for each in _tasks(index.flow) if each.id == wanted), None)
    if found is None:
        raise NotFoundError("task.missing", f"the flow {namespace}.{flow_id} has no task {wanted!r}")
    return found.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _tasks(flow: Flow) -> list[Task]:
    open_ones = [*flow.tasks, *flow.errors, *flow.finally_, *flow.after_execution]
    found = []
    while open_ones:
        each = open_ones.pop()
        found.append(each)
        open_ones += [child for _, children in each.branches() for child in children]
    return found


def validate_task(call: Call) -> dict[str, Any]:
    """Answer with what is wrong with a single task or trigger, given as YAML or JSON."""
    return _checked(call, call.required("section").lower())


def validate_trigger(call: Call) -> dict[str, Any]:
    """Answer with what is wrong with a single trigger."""
    return _checked(call, "triggers")


def _checked(call: Call, section: str) -> dict[str, Any]:
    try:
        part = load_value(call.text())
    except FlowError as error:
        return {**verdict_on(0, ""), "constraints": error.message, "problems": [p.as_json() for p in error.problems]}
    if not isinstance(part, dict):
        raise InvalidError("request.json.invalid", "the body must be one task or trigger: a map with `id` and `type`")
    whole: dict[str, Any] = {"id": "checked", "namespace": "checked", "tasks": [{"id": "none", "type": "core.log.Log"}]}
    whole["tasks"][0]["message"] = ""
    whole[section] = [part]
    verdict = verdict_on(0, orjson.dumps(whole, default=str).decode())
    # The places are those of a flow that only exists here.
    problems = [{**each, "line": None, "column": None} for each in verdict["problems"]]
    errors = [each["message"] for each in problems if each["severity"] == "error"]
    return {**verdict, "flow": None, "namespace": None, "constraints": "\n".join(errors) or None, "problems": problems}


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, tag, json = Permission.FLOW_READ, "flows", "application/json"
    one, check = BASE + "/{namespace}/{id}", BASE + "/validate"
    of_two = (
        number("from", "The older revision; the one before `to` without it.", least=1),
        number("to", "The newer revision; the active one without it.", least=1),
    )
    section = (required("section", "What the body is.", choices=_SECTIONS),)
    changed, check_task = "What changed between two revisions", "Check one task or trigger"
    return [
        Endpoint("GET", one + "/revisions/diff", read, diff, changed, tag, query=of_two, answer=DIFFERENCE),
        Endpoint("GET", one + "/tasks/{taskId}", read, task, "One task of a flow", tag, query=(REVISION,), answer=TASK),
        Endpoint(
            "POST",
            check + "/task",
            read,
            validate_task,
            check_task,
            tag,
            takes=YAML,
            query=section,
            body=TEXT,
            answer=VERDICT,
        ),
        Endpoint(
            "POST",
            check + "/trigger",
            read,
            validate_trigger,
            "Check one trigger",
            tag,
            takes=json,
            body=MAP,
            answer=VERDICT,
        ),
    ]
