"""Executions: start, look, delete."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import Response

from runner.access import Permission
from runner.errors import ConflictError, InvalidError, NotFoundError
from runner.executions.creation import NewExecution
from runner.executions.models import Execution
from runner.executions.outputs import restored
from runner.flows.inputs import FileInput
from runner.store import ExecutionQuery, Page, Session
from webhooks.answers.executions import EXECUTION, EXECUTIONS
from webhooks.call import Call, Paging, page_of
from webhooks.filters import OLDER_NAMES, Group, instant, older_filters
from webhooks.following import until_terminal
from webhooks.parameters import REVISION, filters, flag, paging, required, several, text
from webhooks.problems import Json, RequestError
from webhooks.routes import Endpoint
from webhooks.schemas import MAP
from webhooks.search import (
    EXECUTION_FIELDS,
    execution_value,
    judge,
    look_through,
    narrow_executions,
    restrict,
)
from webhooks.shapes import execution_json, execution_url, light_execution_json

BASE: Final = "/api/v1/{tenant}/executions"
MULTIPART: Final = "multipart/form-data"
_MAX_FIELD_BYTES: Final = 10 * 1024 * 1024
_MAX_FIELDS: Final = 1_000
_MAX_FILES: Final = 100
_LONGEST_WAIT_S: Final = 600.0
_KINDS: Final = ("NORMAL", "TEST", "PLAYGROUND", "LOOP")


async def create(call: Call) -> Response:
    """Start a flow; answers after the durable insert, or with `wait=true` when it has ended."""
    inputs = await form_inputs(call)
    new = NewExecution(
        namespace=call.path("namespace"),
        flow_id=call.path("flowId"),
        revision=call.number("revision"),
        inputs=inputs,
        labels=_labels(call.values("labels")),
        schedule_date=instant(date) if (date := call.query("scheduleDate")) else None,
        kind=_kind(call),
        breakpoints=tuple(item for item in (call.query("breakpoints") or "").split(",") if item),
        actor=call.actor,
    )
    execution = await _started(call, new)
    call.note(f"{execution.namespace}.{execution.flow_id}", execution=execution.id)
    if call.flag("wait"):
        await until_terminal(call.services, execution.id, _LONGEST_WAIT_S)
        return Json(await run_in_threadpool(full, call, execution.id))
    return Json(execution_json(execution, url=execution_url(call.services.settings, execution)))


async def _started(call: Call, new: NewExecution) -> Execution:
    engine = call.services.engine
    key = call.request.headers.get("idempotency-key")
    if key:
        return await run_in_threadpool(_started_once, call, new, key)
    if any(isinstance(value, FileInput) for value in new.inputs.values()):
        return await run_in_threadpool(engine.create, new)
    return await asyncio.wrap_future(engine.submit(new))


def _started_once(call: Call, new: NewExecution, key: str) -> Execution:
    """Start the flow, or give what the same request started before (Stripe's rule: same key, same parameters)."""
    if len(key) > 255:
        raise RequestError("request.key.long", "the header Idempotency-Key has more than 255 characters")
    row = hashlib.sha256(f"{call.actor}\0{new.namespace}\0{new.flow_id}\0{key}".encode()).hexdigest()
    digest = _digest_of(new)

    def start(db: Session) -> str:
        before = db.idempotency.get(row)
        if before is not None:
            if before.digest != digest:
                raise ConflictError(
                    "request.key.reused", "this Idempotency-Key came with other parameters before", hint="use a new key"
                )
            return str(before.response)
        execution = call.services.engine.create_in(db, new)
        db.idempotency.put(row, digest, execution.id)
        return execution.id

    execution_id = call.services.store.write(start)
    call.services.engine.ring([execution_id])
    return stored(call, execution_id)


def _digest_of(new: NewExecution) -> str:
    given = {key: _marker(value) for key, value in sorted(new.inputs.items())}
    parts = [given, sorted(new.labels.items()), new.revision, new.kind, str(new.schedule_date)]
    return hashlib.sha256(orjson.dumps(parts, default=str)).hexdigest()


def _marker(value: Any) -> Any:
    if not isinstance(value, FileInput):
        return value
    digest = hashlib.file_digest(value.source, "sha256").hexdigest()  # type: ignore[arg-type]  # an open binary file
    value.source.seek(0)
    return [value.name, digest]


def get(call: Call) -> dict[str, Any]:
    """Answer with an execution, its task runs, attempts and outputs."""
    visible_execution(call, call.path("id"))
    return full(call, call.path("id"))


def search(call: Call) -> dict[str, Any]:
    """Answer with a page of executions, the newest first unless sorted otherwise."""
    query, rest = narrow_executions(filters_of(call), datetime.now(UTC))
    return _page(call, query, rest, call.paging())


def filters_of(call: Call) -> Group:
    """Return what the query says about executions, in the form of 2.0 or that of 1.x."""
    conditions = call.conditions()
    older = older_filters(call.pairs(), EXECUTION_FIELDS)
    return Group((*conditions.parts, *older), is_any=conditions.is_any)


def of_flow(call: Call) -> dict[str, Any]:
    """Answer with a page of the executions of one flow."""
    query = ExecutionQuery(namespace=call.required("namespace"), exact=True, flow_id=call.required("flowId"))
    return _page(call, query, Group(()), call.paging())


def _page(call: Call, query: ExecutionQuery, rest: Group, paging: Paging) -> dict[str, Any]:
    rows, total = found(call, query, rest, paging)
    return page_of((light_execution_json(row) for row in rows), total)


def found(call: Call, query: ExecutionQuery, rest: Group, paging: Paging) -> tuple[Sequence[Execution], int]:
    """Return a page of the executions that the caller sees and that match, and how many there are."""
    visible = call.namespaces()
    namespace, must_judge = restrict(query.namespace, visible)
    sort = tuple(f"{field}:{'asc' if ascending else 'desc'}" for field, ascending in paging.sort)
    query = replace(query, namespace=namespace, sort=sort)
    store = call.services.store

    def ask(page: int, size: int) -> Page[Execution]:
        return store.read(lambda db: db.executions.search(replace(query, page=page, size=size)))

    if must_judge or rest.parts:
        is_wanted = judge(rest, visible, execution_value, datetime.now(UTC))
        return look_through(ask, is_wanted, paging)
    page = ask(paging.page, paging.size)
    return page.items, page.total


def delete(call: Call) -> Response:
    """Remove an execution that has ended, with its logs, metrics and files unless told otherwise."""
    execution = visible_execution(call, call.path("id"))
    call.services.engine.delete(
        execution.id,
        logs=call.flag("deleteLogs"),
        storage=call.flag("deleteStorage"),
    )
    call.note(execution.id, verb="delete")
    return Response(status_code=204)


def stored(call: Call, execution_id: str) -> Execution:
    """Return an execution. Raises `NotFoundError` `execution.missing`."""
    found: Execution | None = call.services.store.read(lambda db: db.executions.get(execution_id))
    if found is None:
        raise NotFoundError("execution.missing", f"no execution {execution_id!r}")
    return found


def visible_execution(call: Call, execution_id: str) -> Execution:
    """Return an execution that the caller may use.

    Raises:
        NotFoundError: `execution.missing`, also for one in a namespace that the token does not count for: its id
            must not be confirmed.
    """
    execution = stored(call, execution_id)
    if not call.sees(execution.namespace):
        assert call.identity is not None, "routes of executions know their caller"
        call.services.access.note(call.actor, str(call.permission), execution_id, result="REFUSED")
        raise NotFoundError("execution.missing", f"no execution {execution_id!r}")
    return execution


def visible_of(call: Call) -> Callable[[str], Execution | None]:
    """Return what gives an execution by its id to those who may see it, None to others."""

    def find(execution_id: str) -> Execution | None:
        found: Execution | None = call.services.store.read(lambda db: db.executions.get(execution_id))
        return found if found is not None and call.sees(found.namespace) else None

    return find


def full(call: Call, execution_id: str) -> dict[str, Any]:
    """Return an execution with everything below it, from one snapshot."""

    def read(db: Session) -> dict[str, Any]:
        execution = db.executions.get(execution_id)
        if execution is None:
            raise NotFoundError("execution.missing", f"no execution {execution_id!r}")
        return execution_json(
            execution,
            db.executions.runs(execution_id),
            attempts=db.executions.attempts(execution_id),
            outputs=restored(call.services.host.storage, db.executions.outputs(execution_id)),
            url=execution_url(call.services.settings, execution),
        )

    return call.services.store.read(read)


async def form_inputs(call: Call) -> dict[str, Any]:
    """Return the inputs of a multipart, form or JSON body; nothing when there is no body.

    A part with a file name is a file, whatever its name says; the parts are never merged with anything of ours.

    Raises:
        InvalidError: `request.json.invalid` for a JSON body that is no object.
    """
    kind = call.request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        call.body = await call.request.body()
        return call.json_map() if call.body.strip() else {}
    if kind not in {MULTIPART, "application/x-www-form-urlencoded"}:
        return {}
    form = await call.request.form(max_files=_MAX_FILES, max_fields=_MAX_FIELDS, max_part_size=_MAX_FIELD_BYTES)
    inputs = {name: _part(value) for name, value in form.multi_items()}
    for name, value in form.multi_items():
        # Clients of 1.x name every file part `files` and say by its file name which input it is.
        if name == "files" and isinstance(value, UploadFile) and value.filename:
            inputs.setdefault(value.filename, _part(value))
    return inputs


def _part(value: UploadFile | str) -> Any:
    if isinstance(value, UploadFile):
        return FileInput(value.filename or "file", value.file)
    return value


def _labels(pairs: Iterable[str]) -> Mapping[str, str]:
    labels = {}
    for pair in pairs:
        key, colon, value = pair.partition(":")
        if not colon or not key or not value:
            raise InvalidError("label.invalid", f"the label {pair!r} is not key:value")
        labels[key] = value
    return labels


def _kind(call: Call) -> str:
    kind = call.query("kind") or ""
    if kind not in _KINDS:
        raise InvalidError("execution.kind.unknown", f"no kind {kind!r}", hint=f"one of {', '.join(_KINDS)}")
    return kind


EXECUTION_SEARCH: Final = (
    filters(EXECUTION_FIELDS),
    *(several(name, "The same as a filter, as 1.x wrote it.") for name in OLDER_NAMES),
)
"""What finds executions."""
INPUTS: Final[dict[str, Any]] = {"takes": MULTIPART, "reads_body": False, "body": MAP}
"""A form with a part for each input."""
KEEPS: Final = (
    flag("deleteLogs", "With their logs.", default=True),
    flag("deleteMetrics", "Metrics leave with their execution.", default=True),
    flag("deleteStorage", "With their files.", default=True),
)
"""What leaves with executions."""


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, run, remove = Permission.EXECUTION_READ, Permission.EXECUTION_RUN, Permission.EXECUTION_DELETE
    one, tag = BASE + "/{id}", "executions"
    found = (*EXECUTION_SEARCH, *paging())
    flow = (required("namespace", "Namespace of the flow."), required("flowId", "Id of the flow."), *paging())
    how = (
        REVISION,
        several("labels", "A label, as `key:value`."),
        text("scheduleDate", "Start at this time."),
        text("breakpoints", "Ids of tasks before which it stops, parted by commas."),
        text("kind", f"What it is for: {', '.join(_KINDS)}.", default="NORMAL"),
        flag("wait", "Answer when it has ended."),
    )
    routes = [
        Endpoint("GET", BASE + "/search", read, search, "A page of executions", tag, query=found, answer=EXECUTIONS),
        Endpoint("GET", BASE, read, of_flow, "The executions of a flow", tag, query=flow, answer=EXECUTIONS),
        Endpoint("GET", one, read, get, "One execution", tag, answer=EXECUTION),
        Endpoint("DELETE", one, remove, delete, "Delete an execution that has ended", tag, status=204, query=KEEPS),
    ]
    starts = (BASE + "/{namespace}/{flowId}", BASE + "/trigger/{namespace}/{flowId}")
    routes += [
        Endpoint("POST", path, run, create, "Start a flow", tag, query=how, answer=EXECUTION, **INPUTS)
        for path in starts
    ]
    return routes
