"""Server-sent events: an execution and its log as they change, and a last frame when it has ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from runner.access import Permission
from runner.errors import AccessError
from runner.executions.models import Execution, LogEntry
from webhooks.answers.executions import EXECUTION, LOG_LINE
from webhooks.api.executions import BASE, full, visible_execution
from webhooks.api.logs import LINES, execution_query
from webhooks.call import Call
from webhooks.following import as_long_as, bell_of, current
from webhooks.routes import Endpoint
from webhooks.shapes import log_json

_POLL_S: Final = 0.5
_ALIVE_S: Final = 15.0  # proxies close what is silent for a minute
_BATCH: Final = 1_000
_LATE_S: Final = 1.0
_LONG_AGO: Final = timedelta(seconds=30)  # more than clocks of machines differ
_HEADERS: Final = {"cache-control": "no-cache", "x-accel-buffering": "no"}
_COMMENT: Final = b": alive\n\n"


async def execution(call: Call) -> Response:
    """Answer with a frame for the state now and for each change; `end` is the last."""
    await run_in_threadpool(visible_execution, call, call.path("id"))
    return stream(call, _execution_frames(call, call.path("id")))


async def log(call: Call) -> Response:
    """Answer with the lines so far and each new one; `end` follows when the execution has ended."""
    query = await run_in_threadpool(execution_query, call)
    return stream(call, _log_frames(call, call.path("id"), query.min_level, query.task_run_id, query.task_id))


def stream(call: Call, frames: AsyncGenerator[bytes, None]) -> Response:
    """Return the answer that sends frames until there are no more, or the caller's token counts no longer."""
    known = as_long_as(partial(_is_known, call), frames)
    return StreamingResponse(known, media_type="text/event-stream", headers=_HEADERS)


async def _is_known(call: Call) -> bool:
    access, header = call.services.access, call.request.headers.get("authorization")
    if access.known(header) is not None:
        return True
    try:
        await run_in_threadpool(access.authenticate, header, target=call.request.url.path)
    except AccessError:
        return False
    return True


def frame(kind: str, body: Any) -> bytes:
    """Return a frame: its kind as id and event, its body as JSON."""
    return b"id: " + kind.encode() + b"\nevent: " + kind.encode() + b"\ndata: " + orjson.dumps(body) + b"\n\n"


async def _execution_frames(call: Call, execution_id: str) -> AsyncGenerator[bytes, None]:
    async with bell_of(call.services, execution_id) as bell:
        seen: int | None = None
        quiet_since = _now()
        while not call.services.closing.is_set():
            state = await current(call.services, execution_id)
            if state is None:
                return
            if state.version != seen or state.state.is_terminal:
                body = await run_in_threadpool(full, call, execution_id)
                seen, quiet_since = state.version, _now()
                # The body was read after the state, so it may be newer: what it says decides.
                is_over = body["state"]["endDate"] is not None
                yield frame("end" if is_over else "progress", body)
                if is_over:
                    return
            elif _now() - quiet_since > _ALIVE_S:
                quiet_since = _now()
                yield _COMMENT
            await bell.wait(_POLL_S)


async def _log_frames(
    call: Call, execution_id: str, min_level: str | None, task_run_id: str | None, task_id: str | None
) -> AsyncGenerator[bytes, None]:
    def is_wanted(entry: LogEntry) -> bool:
        return (task_run_id is None or entry.task_run_id == task_run_id) and (
            task_id is None or entry.task_id == task_id
        )

    async with bell_of(call.services, execution_id) as bell:
        position = 0
        last_look: float | None = None
        quiet_since = _now()
        yield _COMMENT  # so that a client knows the stream is open before the first line is written
        while not call.services.closing.is_set():
            state = await current(call.services, execution_id)
            if state is not None and not state.state.is_terminal:
                last_look = None
            elif last_look is None:
                last_look = _now() + late_s(call, state)
            is_over = last_look is not None and _now() >= last_look
            rows = await run_in_threadpool(_lines, call, execution_id, position, min_level)
            for number, entry in rows:
                position = number
                if is_wanted(entry):
                    quiet_since = _now()
                    yield frame("progress", log_json(entry))
            if len(rows) == _BATCH:
                continue
            if is_over:
                yield frame("end", {})
                return
            if _now() - quiet_since > _ALIVE_S:
                quiet_since = _now()
                yield _COMMENT
            await bell.wait(_POLL_S)


def late_s(call: Call, execution: Execution | None) -> float:
    """Return the seconds after the end of an execution in which a worker elsewhere may still write its last lines."""
    if call.services.settings.is_embedded or execution is None or execution.ended_at is None:
        return 0.0
    is_long_ago = datetime.now(UTC) - execution.ended_at > _LONG_AGO
    return 0.0 if is_long_ago else _LATE_S


def _lines(call: Call, execution_id: str, position: int, min_level: str | None) -> list[tuple[int, LogEntry]]:
    # Lines are written in batches beside the transitions: without waiting for them the last ones of an execution
    # that has just ended would be missed.
    logs = call.services.store.logs
    logs.flush()
    return logs.after(execution_id, position, min_level=min_level, limit=_BATCH)


def _now() -> float:
    return asyncio.get_running_loop().time()


def endpoints() -> list[Endpoint]:
    """Return the routes of this file; each frame of a stream holds what the route answers with."""
    kind, read = "text/event-stream", Permission.EXECUTION_READ
    lines = "/api/v1/{tenant}/logs/{id}/follow"
    return [
        Endpoint(
            "GET",
            BASE + "/{id}/follow",
            read,
            execution,
            "Follow an execution",
            "executions",
            gives=kind,
            answer=EXECUTION,
        ),
        Endpoint(
            "GET",
            lines,
            Permission.LOG_READ,
            log,
            "Follow the log of an execution",
            "logs",
            gives=kind,
            query=LINES,
            answer=LOG_LINE,
        ),
    ]
