"""Workers: the processes that carry tasks out, their groups, and what they hold."""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import Response

from runner.access import Permission
from runner.errors import NotFoundError
from webhooks.call import Call, page_of
from webhooks.routes import Endpoint
from webhooks.schemas import FLAG, TEXT, TIME, WHOLE, listed, page, record

_BASE: Final = "/api/v1/{tenant}/workers"


def everyone(call: Call) -> dict[str, Any]:
    """Answer with all workers; one whose `beats` stand still for ten seconds is lost."""
    store = call.services.store
    held = store.read(lambda db: {row.id: len(db.claims.owned_by(row.id)) for row in db.workers.all()})
    rows = [
        {
            "id": row.id,
            "host": row.host,
            "pid": row.pid,
            "startedAt": row.started_at.isoformat(),
            "beats": row.beats,
            "draining": row.draining,
            "groups": list(row.groups),
            "taskRuns": held.get(row.id, 0),
        }
        for row in store.read(lambda db: db.workers.all())
    ]
    return page_of(rows, len(rows))


def drain(call: Call) -> Response:
    """Have a worker take no more runs: it learns so with its next heartbeat, and lets what runs finish."""
    worker_id = call.path("id")
    if not call.services.store.write(lambda db: db.workers.set_draining(worker_id)):
        raise NotFoundError("worker.missing", f"there is no worker {worker_id!r}")
    return Response(status_code=204)


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    worker = record(
        id=TEXT,
        host=TEXT,
        pid=WHOLE,
        startedAt=TIME,
        beats=WHOLE,
        draining=FLAG,
        groups=listed(TEXT),
        taskRuns=WHOLE,
    )
    return [
        Endpoint("GET", _BASE, Permission.METRICS_READ, everyone, "All workers", "workers", answer=page(worker)),
        Endpoint("POST", _BASE + "/{id}/drain", Permission.SYNC_FORCE, drain, "Drain a worker", "workers", status=204),
    ]
