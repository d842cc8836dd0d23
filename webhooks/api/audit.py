"""The audit log: who wrote what, and what was refused."""

from __future__ import annotations

from typing import Any, Final

from runner.access import Permission
from runner.errors import InvalidError
from webhooks.call import Call
from webhooks.routes import Endpoint
from webhooks.shapes import audit_json

_MOST_ROWS: Final = 1_000


def latest(call: Call) -> dict[str, Any]:
    """Answer with the latest rows, the newest first; `before` reads on from the id of the last one."""
    limit, before = call.number("limit", 100, least=1) or 100, call.number("before", least=1)
    if limit > _MOST_ROWS:
        raise InvalidError("request.page.invalid", f"limit={limit} is more than {_MOST_ROWS}")
    actor = call.query("actor")
    rows = call.services.store.read(lambda db: db.audit.list(limit, before=before, actor=actor))
    return {"results": [audit_json(row) for row in rows]}


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    return [Endpoint("GET", "/api/v1/{tenant}/audit", Permission.AUDIT_READ, latest, "The audit log", "tokens")]
