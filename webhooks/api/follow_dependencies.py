"""Server-sent events of an execution and of those that hang together with it: one frame for each state they enter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from runner.access import Permission
from runner.executions.models import Execution
from runner.store import ExecutionQuery, Session
from webhooks.answers.executions import STATUS
from webhooks.api.executions import BASE, visible_execution
from webhooks.api.follow import frame, stream
from webhooks.call import Call
from webhooks.following import bell_of
from webhooks.parameters import flag
from webhooks.routes import TENANT, Endpoint
from webhooks.shapes import state_json

_MOST: Final = 200  # executions of one stream
_POLL_S: Final = 0.5
_LATE_S: Final = 1.0  # in which an execution that has just ended may still start others
_ALIVE_S: Final = 15.0
_COMMENT: Final = b": alive\n\n"


@dataclass(frozen=True, slots=True)
class _Reach:
    """How far a stream looks: `upstream` to what an execution came from, `expand` to what hangs on that in turn."""

    upstream: bool
    expand: bool


async def follow(call: Call) -> Response:
    """Answer with the state of an execution, of what it started and came from, and a frame for each change.

    `end` follows when all of them have ended.
    """
    start = await run_in_threadpool(visible_execution, call, call.path("id"))
    reach = _Reach(upstream=not call.flag("destinationOnly"), expand=call.flag("expandAll"))
    return stream(call, _frames(call, start, reach))


async def _frames(call: Call, start: Execution, reach: _Reach) -> AsyncGenerator[bytes, None]:
    loop, seen = asyncio.get_running_loop(), dict[str, int]()
    quiet_since, over_since = loop.time(), None
    async with bell_of(call.services, start.id) as bell:
        while not call.services.closing.is_set():
            related = await run_in_threadpool(_related, call, start.id, reach)
            for execution in related:
                if seen.get(execution.id) != execution.version:
                    seen[execution.id], quiet_since, over_since = execution.version, loop.time(), None
                    yield frame("start" if len(seen) == 1 else "progress", _status(execution))
            if all(execution.state.is_terminal for execution in related):
                over_since = over_since or loop.time()
                if loop.time() - over_since >= _LATE_S:
                    yield frame("end", {})
                    return
            if loop.time() - quiet_since > _ALIVE_S:
                quiet_since = loop.time()
                yield _COMMENT
            await bell.wait(_POLL_S)


def _related(call: Call, execution_id: str, reach: _Reach) -> list[Execution]:
    """Return an execution and those that hang together with it, as far as the caller sees them, itself first."""

    def read(db: Session) -> list[Execution]:
        found: dict[str, Execution] = {}
        down, up = [execution_id], [execution_id] if reach.upstream else []
        while (down or up) and len(found) < _MOST:
            up_id = up.pop(0) if up else None
            each_id = up_id or down.pop(0)
            execution = found.get(each_id) or db.executions.get(each_id)
            if execution is None or not call.sees(execution.namespace):
                continue
            found.setdefault(each_id, execution)
            if up_id is not None:
                sources = [each for each in _sources(execution) if each not in found]
                up += sources
                down += sources if reach.expand else []
            else:
                down += [each for each in _started_by(db, each_id) if each not in found]
        return list(found.values())

    return call.services.store.read(read)


def _sources(execution: Execution) -> list[str]:
    """Return the executions that one was started by."""
    by = execution.trigger.variables.get("executionId") if execution.trigger else None
    return sorted({each for each in (execution.parent_execution_id, by) if isinstance(each, str)})


def _started_by(db: Session, execution_id: str) -> list[str]:
    query = ExecutionQuery(trigger_execution_id=execution_id, size=_MOST)
    return [each.id for each in db.executions.search(query).items]


def _status(execution: Execution) -> dict[str, Any]:
    return {
        "executionId": execution.id,
        "tenantId": TENANT,
        "namespace": execution.namespace,
        "flowId": execution.flow_id,
        "state": state_json(execution.state, execution.histories, execution.created_at),
    }


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    reach = (
        flag("destinationOnly", "Only what it started, not what it came from."),
        flag("expandAll", "Also what hangs on what it came from."),
    )
    return [
        Endpoint(
            "GET",
            BASE + "/{id}/follow-dependencies",
            Permission.EXECUTION_READ,
            follow,
            "Follow executions that hang together",
            "executions",
            gives="text/event-stream",
            query=reach,
            answer=STATUS,
        )
    ]
