"""Flows started by requests: no token, the key in the address is the proof.

This is the busiest route of a server, so on SQLite it stays on the event loop: no thread, one durable insert shared
with whoever asks at the same time, and a refusal at once when too much waits already.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

import orjson
from starlette.responses import PlainTextResponse, Response

from runner.access import Permission
from runner.errors import NotFoundError
from runner.executions.models import Execution
from runner.flows.models import Flow
from runner.settings import Settings
from runner.states import State
from runner.triggers.conditions import RenderText
from runner.triggers.models import Webhook
from runner.triggers.webhook import find, request_for, variables
from webhooks.answers.executions import WEBHOOK
from webhooks.call import Call
from webhooks.following import until_terminal
from webhooks.problems import Json
from webhooks.routes import TENANT, Endpoint, client_of
from webhooks.schemas import ANYTHING, MAP
from webhooks.shapes import execution_url, labels_json, masked, state_json

T = TypeVar("T")
_LONGEST_WAIT_S: Final = 600.0
# Threads of its own: a thousand callers may wait here, and must not take those of all other requests.
_THREADS: Final = ThreadPoolExecutor(16, thread_name_prefix="webhook")
_FAILED: Final = frozenset({State.FAILED, State.KILLED, State.CANCELLED})
# What a caller sends to prove itself to somebody else must not end up in the variables of an execution.
_KEPT_BACK: Final = frozenset({"authorization", "cookie", "proxy-authorization"})


async def start(call: Call) -> Response:
    """Start the flow whose webhook has this key; 204 when its conditions do not hold."""
    flow, trigger, render = await _apart(call, partial(_opened, call))
    # Only now: who does not know a key cannot make the server wait for a body.
    body = await call.request.body()
    seen = variables(body, _headers(call), call.pairs())
    if "path" in call.request.path_params:
        seen["path"] = call.path("path")
    begun = await _apart(call, partial(_begin, call, flow, trigger, render, seen))
    if begun is None:
        return Response(status_code=204)
    execution = await asyncio.wrap_future(begun)
    _note(call, execution, trigger)
    if trigger.wait:
        ended = await until_terminal(call.services, execution.id, _LONGEST_WAIT_S)
        execution = ended or execution
        if trigger.return_outputs and trigger.response_content_type and execution.state.is_terminal:
            return _bare(execution, trigger.response_content_type)
    return Json(_answer(call.services.settings, execution, trigger))


async def _apart(call: Call, work: Callable[[], T]) -> T:
    # The file of an embedded server answers in microseconds, a thread takes longer than that. Another database may be
    # away for seconds, in which all other requests, the probes of the deployment too, must be answered.
    if call.services.settings.is_embedded:
        return work()
    return await asyncio.get_running_loop().run_in_executor(_THREADS, work)


def _opened(call: Call) -> tuple[Flow, Webhook, RenderText]:
    engine = call.services.engine
    try:
        flow = engine.catalogue.get(call.path("namespace"), call.path("id"))
    except NotFoundError:
        raise _unknown() from None
    found = find(engine, flow, call.path("key"))
    if found is None:
        raise _unknown()
    return flow, *found


def _begin(
    call: Call, flow: Flow, trigger: Webhook, render: RenderText, seen: dict[str, Any]
) -> Future[Execution] | None:
    new = request_for(flow, trigger, seen, render)
    return None if new is None else call.services.engine.submit(new)


def _note(call: Call, execution: Execution, trigger: Webhook) -> None:
    """Write a start to the audit log; of one webhook 60 a minute, for every start is an execution anyway."""
    action, target = str(Permission.EXECUTION_RUN), f"{execution.namespace}.{execution.flow_id}"
    detail: dict[str, Any] = {"execution": execution.id, "trigger": trigger.id, "client": client_of(call.request)}
    call.services.access.note_some(f"webhook {target}/{trigger.id}", "webhook", action, target, **detail)


def _headers(call: Call) -> list[tuple[str, str]]:
    return [(name, value) for name, value in call.request.headers.items() if name not in _KEPT_BACK]


def _unknown() -> NotFoundError:
    # One answer for an unknown flow, an unknown key and a trigger that is off: nothing is confirmed to who guesses.
    return NotFoundError("webhook.missing", "Flow not found or Webhook not found")


def _answer(settings: Settings, execution: Execution, trigger: Webhook) -> dict[str, Any]:
    return {
        "tenantId": TENANT,
        "id": execution.id,
        "namespace": execution.namespace,
        "flowId": execution.flow_id,
        "flowRevision": execution.flow_revision,
        "trigger": execution.trigger.as_json() if execution.trigger else None,
        "labels": labels_json(execution.labels),
        "inputs": masked(execution.inputs),
        "outputs": masked(execution.outputs) if trigger.return_outputs else {},
        "state": state_json(execution.state, execution.histories, execution.created_at),
        "url": execution_url(settings, execution),
    }


def _bare(execution: Execution, content_type: str) -> Response:
    """Return the outputs as the whole answer: as JSON, or as text, where a single output stands alone.

    Handshakes of other services want exactly that. The status is all that can tell such a caller of a failure.
    """
    status = 500 if execution.state in _FAILED else 200
    outputs = masked(execution.outputs)
    if content_type != "text/plain":
        return Json(outputs, status_code=status)
    only = next(iter(outputs.values())) if len(outputs) == 1 else outputs
    text = only if isinstance(only, str) else orjson.dumps(only).decode() if only else ""
    # Whatever a caller sent and a flow echoes must not be taken for a page.
    return PlainTextResponse(text, status_code=status, headers={"x-content-type-options": "nosniff"})


def endpoints() -> list[Endpoint]:
    """Return the routes of this file: with and without a tenant, with and without a path after the key."""
    proof, summary = Permission.OWN_PROOF, "Start a flow by its key"
    key = "/executions/webhook/{namespace}/{id}/{key}"
    return [
        Endpoint(
            method,
            base + key + rest,
            proof,
            start,
            summary,
            "webhooks",
            takes="*/*",
            reads_body=False,
            body=ANYTHING,
            also=(204, 500),
            or_gives=("text/plain",),
            answer={"anyOf": [WEBHOOK, MAP]},
        )
        for base in ("/api/v1/{tenant}", "/api/v1")
        for rest in ("", "/{path:path}")
        for method in ("POST", "GET", "PUT")
    ]
