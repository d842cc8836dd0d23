"""The audit log: who wrote what, and what was refused."""

from __future__ import annotations

from typing import Any, Final

from runner.access import Permission
from webhooks.answers.instance import AUDIT_ENTRY
from webhooks.call import Call
from webhooks.filters import instant
from webhooks.parameters import number, text
from webhooks.routes import Endpoint
from webhooks.schemas import listed, record
from webhooks.shapes import audit_json

_MOST_ROWS: Final = 1_000


def latest(call: Call) -> dict[str, Any]:
    """Answer with the latest rows, the newest first; `before` reads on from the id of the last one."""
    limit, before = call.count("limit"), call.number("before")
    wanted = {name: call.query(name) for name in ("actor", "action", "target", "result")}
    since = instant(date) if (date := call.query("since")) else None
    rows = call.services.store.read(lambda db: db.audit.list(limit, before=before, since=since, **wanted))
    return {"results": [audit_json(row) for row in rows]}


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    some = (
        number("limit", "At most so many.", 100, least=1, most=_MOST_ROWS),
        number("before", "Only those with a lower id: to read on.", least=1),
        text("actor", "Only what this token did."),
        text("action", "Only this action, or those that begin with it and a dot."),
        text("target", "Only what was done to this."),
        text("result", "Only what was done, or what was refused.", choices=("OK", "REFUSED")),
        text("since", "Only what was done at this time or later."),
    )
    rows = record(results=listed(AUDIT_ENTRY))
    return [
        Endpoint(
            "GET",
            "/api/v1/{tenant}/audit",
            Permission.AUDIT_READ,
            latest,
            "The audit log",
            "tokens",
            query=some,
            answer=rows,
        )
    ]
