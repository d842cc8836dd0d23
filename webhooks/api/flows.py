"""Flows: read from the store, written as commits."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import Response

from runner.access import Permission, covers
from runner.errors import ConflictError, FlowError, InvalidError, MainstemError, NotFoundError, Problem, Severity
from runner.flows.edits import with_draft
from runner.flows.inherited import Inherited
from runner.flows.models import Flow
from runner.flows.namespace_defaults import stated_namespace
from runner.flows.parse import parse_flow
from runner.flowtests.suites import is_suite_file
from runner.store import Session
from runner.store.records import FlowVersion
from webhooks.answers.flows import FLOW, FLOWS, VERDICT
from webhooks.call import Call, page_of
from webhooks.filters import holds, in_order
from webhooks.parameters import REVISION, filters, flag, paging, text
from webhooks.problems import Json
from webhooks.routes import Endpoint
from webhooks.schemas import TEXT, listed
from webhooks.search import FLOW_FIELDS, scope_of
from webhooks.shapes import broken_flow_json, flow_json

if TYPE_CHECKING:
    from sync.service import SyncService

_DOCUMENT = re.compile(r"^---(?:[ \t].*)?$", re.MULTILINE)
YAML = "application/x-yaml"
BASE = "/api/v1/{tenant}/flows"
_MOST_DOCUMENTS = 1_000
_NOTHING: Final = Inherited()
# Words that other methods have routes for; an empty list of flows would look like an answer.
_RESERVED = frozenset({"graph", "expressions"})


def create(call: Call) -> Response | dict[str, Any]:
    """Commit a new flow and answer with it."""
    source = _source(call)
    flow = parsed_flow(call, source)
    call.require(flow.namespace)
    if active_flow(call, flow.namespace, flow.id) is not None:
        raise ConflictError(
            "flow.exists", f"the flow {flow.namespace}.{flow.id} exists already", hint="PUT changes a flow"
        )
    return _written(
        call, sync_of(call).write_flow(source, actor=call.actor, mode="create", proposed=call.proposals.append)
    )


def update(call: Call) -> Response | dict[str, Any]:
    """Commit a changed flow and answer with its new revision."""
    namespace, flow_id = call.path("namespace"), call.path("id")
    if active_flow(call, namespace, flow_id) is None:
        raise missing_flow(namespace, flow_id)
    source = _source(call)
    flow = parsed_flow(call, source)
    if (flow.namespace, flow.id) != (namespace, flow_id):
        raise InvalidError(
            "flow.identity.changed",
            f"the body is the flow {flow.namespace}.{flow.id}, the address names {namespace}.{flow_id}",
            hint="create the flow under its new name, then delete the old one",
        )
    return _written(
        call, sync_of(call).write_flow(source, actor=call.actor, mode="update", proposed=call.proposals.append)
    )


def _source(call: Call) -> str:
    """Return the source in the body, with `draft: true` in it where the query asks for a draft.

    Raises:
        FlowError, InvalidError: `flow.edit.impossible` and the rest, as `with_draft`.
    """
    return with_draft(call.text()) if call.flag("draft") else call.text()


def delete(call: Call) -> Response:
    """Commit the removal of a flow."""
    namespace, flow_id = call.path("namespace"), call.path("id")
    if active_flow(call, namespace, flow_id) is None:
        raise missing_flow(namespace, flow_id)
    sync_of(call).delete_flow(namespace, flow_id, actor=call.actor, proposed=call.proposals.append)
    call.services.catalogue.invalidate()
    call.note(f"{namespace}.{flow_id}", verb="delete")
    return Response(status_code=204)


def get(call: Call) -> dict[str, Any]:
    """Answer with one flow, at its active or at a named revision."""
    namespace, flow_id, revision = call.path("namespace"), call.path("id"), call.number("revision")
    deleted_too = call.flag("allowDeleted")
    version = call.services.store.read(lambda db: db.flows.get(namespace, flow_id, revision, allow_deleted=deleted_too))
    if version is None or (version.deleted and not deleted_too):
        raise missing_flow(namespace, flow_id, revision)
    return shape(call, version, source=call.flag("source"))


def revisions(call: Call) -> list[dict[str, Any]]:
    """Answer with all revisions of a flow, the oldest first, with their sources."""
    namespace, flow_id = call.path("namespace"), call.path("id")
    found: list[FlowVersion] = call.services.store.read(lambda db: db.flows.revisions(namespace, flow_id))
    deleted_too = call.flag("allowDelete")
    if not found:
        raise missing_flow(namespace, flow_id)
    return [shape(call, item, source=True) for item in found if deleted_too or not item.deleted]


def of_namespace(call: Call) -> list[dict[str, Any]]:
    """Answer with the flows of exactly one namespace."""
    namespace = namespace_in(call)
    return [shape(call, item) for item in call.services.store.read(lambda db: db.flows.list(namespace))]


def namespace_in(call: Call) -> str:
    """Return the namespace of the path. Raises `NotFoundError` for a word that Kestra has a route for."""
    namespace = call.path("namespace")
    if namespace in _RESERVED:
        raise NotFoundError("route.missing", f"there is no such route /flows/{namespace}")
    return namespace


def search(call: Call) -> dict[str, Any]:
    """Answer with a page of flows."""
    paging = call.paging()
    wanted = found_flows(call)
    keys = {
        "id": lambda item: item.flow_id,
        "flowId": lambda item: item.flow_id,
        "namespace": lambda item: item.namespace,
        "revision": lambda item: item.revision,
        "updated": lambda item: item.created_at,
    }
    page = in_order(wanted, paging.sort, keys)[paging.offset : paging.offset + paging.size]
    return page_of((shape(call, item) for item in page), len(wanted))


def found_flows(call: Call) -> list[FlowVersion]:
    """Return the active flows that the filters of the query let through and the caller may see."""
    conditions = call.conditions()
    now = datetime.now(UTC)
    q, within = call.query("q"), call.query("namespace")

    def is_wanted(version: FlowVersion) -> bool:
        if not call.sees(version.namespace) or (within is not None and not covers([within], version.namespace)):
            return False
        if q is not None and q.lower() not in f"{version.namespace}.{version.flow_id}".lower():
            return False
        return holds(conditions, lambda field: _value(call, version, field), now)

    return [item for item in call.services.store.read(lambda db: db.flows.list()) if is_wanted(item)]


def namespaces(call: Call) -> list[str]:
    """Answer with the namespaces that have flows and begin with `q`."""
    q = call.query("q") or ""
    found = call.services.store.read(lambda db: db.flows.namespaces())
    return [item for item in found if item.startswith(q) and call.sees(item)]


async def validate(call: Call) -> list[dict[str, Any]]:
    """Answer with one entry per document, whether it is valid or not; never an error."""
    if call.request.headers.get("content-type", "").startswith("multipart/"):
        form = await call.request.form(max_files=_MOST_DOCUMENTS)
        sources = [
            await item.read() if isinstance(item, UploadFile) else item.encode() for _, item in form.multi_items()
        ]
        text = "\n---\n".join(item.decode(errors="replace") for item in sources)
    else:
        text = (await call.request.body()).decode(errors="replace")
    return await run_in_threadpool(
        lambda: [verdict_on(index, item, inherited_for(call, item)) for index, item in enumerate(documents(text))]
    )


def documents(text: str) -> list[str]:
    """Return the documents of a YAML stream; a line that begins with three hyphens parts them.

    Tests that follow a flow in its file are left out.

    Raises:
        InvalidError: `flow.documents.many`.
    """
    parts = [part for part in _DOCUMENT.split(text) if part.strip() and not is_suite_file(part.encode())]
    if len(parts) > _MOST_DOCUMENTS:
        raise InvalidError("flow.documents.many", f"{len(parts)} documents, at most {_MOST_DOCUMENTS} at once")
    return parts


def shape(call: Call, version: FlowVersion, *, source: bool = False) -> dict[str, Any]:
    """Return the JSON of a version, also of one that no longer parses, or is proposed only."""
    if call.proposals:  # the catalogue would take it for the revision that may have this number one day
        return flow_json(parsed_flow(call, version.source), version, source=source)
    try:
        return flow_json(call.services.catalogue.index_of(version).flow, version, source=source)
    except MainstemError as error:
        return broken_flow_json(version, error.message, source=source)


def inherited_for(call: Call, source: str) -> Inherited:
    """Return what a flow with this source gets from the namespaces around it: nothing of one the caller is not in."""
    sync = call.services.sync
    namespace = stated_namespace(source.encode()) or ""
    return sync.flow_writer().inherited(namespace, source) if sync is not None and call.sees(namespace) else _NOTHING


def verdict_on(index: int, source: str, inherited: Inherited = _NOTHING) -> dict[str, Any]:
    """Return what is wrong with a source, as an entry of a validation."""
    parsed = parse_flow(source, inherited=inherited)
    flow = parsed.flow.id if parsed.flow else _scalar(source, "id")
    namespace = parsed.flow.namespace if parsed.flow else _scalar(source, "namespace")
    return {**verdict(parsed.problems), "index": index, "flow": flow, "namespace": namespace}


def verdict(problems: Iterable[Problem]) -> dict[str, Any]:
    """Return problems as the one entry of a validation that is about no flow."""
    found = list(problems)

    def texts(severity: Severity) -> list[str]:
        return [_line(problem) for problem in found if problem.severity is severity]

    return {
        "index": 0,
        "flow": None,
        "namespace": None,
        "constraints": "\n".join(texts(Severity.ERROR)) or None,
        "outdated": False,
        "deprecationPaths": [],
        "warnings": texts(Severity.WARNING),
        "infos": texts(Severity.INFO),
        "problems": [problem.as_json() for problem in found],
    }


def _line(problem: Problem) -> str:
    place = f"{problem.line}:{problem.column}: " if problem.line else ""
    hint = f" ({problem.hint})" if problem.hint else ""
    # Kestra's words for an unknown type stand beside ours, for clients that look for them.
    unknown = re.search(r"named '([^']+)'$", problem.message) if problem.code.endswith(".type.unknown") else None
    words = f"Invalid type: {unknown[1]}, " if unknown else ""
    return f"{place}{words}{problem.message}{hint}"


def _scalar(source: str, key: str) -> str | None:
    match = re.search(rf"^{key}:[ \t]*['\"]?([A-Za-z0-9._-]{{1,150}})", source, re.MULTILINE)
    return match[1] if match else None


def parsed_flow(call: Call, source: str) -> Flow:
    """Return the flow of a source that names its namespace. Raises `FlowError`."""
    flow = parse_flow(source, inherited=inherited_for(call, source)).require()
    if not flow.namespace:
        raise FlowError("flow.namespace.missing", "the flow names no namespace")
    return flow


def active_flow(call: Call, namespace: str, flow_id: str) -> FlowVersion | None:
    """Return the active version of a flow."""

    def find(db: Session) -> FlowVersion | None:
        return db.flows.active(namespace, flow_id)

    return call.services.store.read(find)


def sync_of(call: Call) -> SyncService:
    """Return what writes flows. Raises `ConflictError` `sync.elsewhere`."""
    if call.services.sync is None:
        raise ConflictError(
            "sync.elsewhere",
            "this process does not write to repositories",
            hint="push the flow to its repository instead",
        )
    return call.services.sync


def _written(call: Call, version: FlowVersion) -> Response | dict[str, Any]:
    call.services.catalogue.invalidate()
    call.note(f"{version.namespace}.{version.flow_id}", verb="write", revision=version.revision, commit=version.commit)
    if call.proposals:
        return shape(call, version, source=True)
    headers = {"etag": f'"{version.blob}"'}
    if version.commit:
        headers["x-mainstem-commit"] = version.commit
    return Json(shape(call, version, source=True), headers=headers)


def missing_flow(namespace: str, flow_id: str, revision: int | None = None) -> NotFoundError:
    """Return the error for a flow, or a revision of it, that is not there."""
    what = f"revision {revision} of the flow" if revision else "flow named"
    return NotFoundError("flow.missing", f"no {what} {namespace}.{flow_id}")


def _value(call: Call, version: FlowVersion, field: str) -> Any:
    if field == "labels":
        try:
            return call.services.catalogue.index_of(version).flow.labels
        except MainstemError:
            return {}
    return {
        "q": f"{version.namespace}.{version.flow_id}",
        "scope": scope_of(version.namespace),
        "namespace": version.namespace,
        "flowId": version.flow_id,
    }[field]


FLOW_SEARCH: Final = (
    filters(FLOW_FIELDS),
    text("q", "Only flows with this in their namespace or id."),
    text("namespace", "Only this namespace and those below it."),
)
"""What finds flows."""
_DRAFT: Final = flag("draft", "Write `draft: true` into the flow: only who names its revision can run it.")
_SOURCE: Final = {"takes": YAML, "body": TEXT, "answer": FLOW}


def endpoints() -> Iterable[Endpoint]:
    """Return the routes of this file."""
    read, write, tag = Permission.FLOW_READ, Permission.FLOW_WRITE, "flows"
    one = BASE + "/{namespace}/{id}"
    shown = (REVISION, flag("source", "With the source."), flag("allowDeleted", "Also when it is deleted."))
    deleted = (flag("allowDelete", "With the revision that deleted it."),)
    return [
        Endpoint(
            "POST", BASE, write, create, "Create a flow (a commit)", tag, query=(_DRAFT,), proposes=True, **_SOURCE
        ),
        Endpoint("PUT", one, write, update, "Change a flow (a commit)", tag, query=(_DRAFT,), proposes=True, **_SOURCE),
        Endpoint("DELETE", one, write, delete, "Delete a flow (a commit)", tag, status=204, proposes=True),
        Endpoint("GET", one, read, get, "One flow", tag, query=shown, answer=FLOW),
        Endpoint(
            "GET",
            one + "/revisions",
            read,
            revisions,
            "All revisions of a flow",
            tag,
            query=deleted,
            answer=listed(FLOW),
        ),
        Endpoint(
            "GET", BASE + "/{namespace}", read, of_namespace, "The flows of a namespace", tag, answer=listed(FLOW)
        ),
        Endpoint(
            "GET", BASE + "/search", read, search, "A page of flows", tag, query=(*FLOW_SEARCH, *paging()), answer=FLOWS
        ),
        Endpoint(
            "GET",
            BASE + "/distinct-namespaces",
            read,
            namespaces,
            "Namespaces that have flows",
            tag,
            query=(text("q", "Only those that begin with this."),),
            answer=listed(TEXT),
        ),
        Endpoint(
            "POST",
            BASE + "/validate",
            read,
            validate,
            "Check flows",
            tag,
            takes=YAML,
            reads_body=False,
            body=TEXT,
            answer=listed(VERDICT),
        ),
    ]
