"""What triggers remember: listed, switched off and on, unlocked, begun anew, forgotten. States, no commits."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Any, Final, cast

from starlette.responses import Response

from runner.access import Permission
from runner.errors import ConflictError, InvalidError
from runner.store import Session
from runner.store.records import TriggerState
from runner.triggers.control import restarted, switched, unlocked
from runner.triggers.models import RecoverMissed
from webhooks.answers.instance import TRIGGER_NAME, TRIGGER_STATE, TRIGGERS
from webhooks.call import Call, page_of
from webhooks.filters import in_order
from webhooks.parameters import paging, text
from webhooks.routes import Endpoint
from webhooks.schemas import FLAG, TEXT, extended, optional, page, word
from webhooks.trigger_rows import (
    BASE,
    TRIGGER_SEARCH,
    Identity,
    changed,
    declaration,
    identity_from,
    identity_in,
    locked,
    shown,
    stored,
    wanted,
)

_SORTS: Final = {
    "flowId": lambda row: row.flow_id,
    "triggerId": lambda row: row.trigger_id,
    "namespace": lambda row: row.namespace,
    "nextExecutionDate": lambda row: row.next_at,
    "lastTriggeredDate": lambda row: row.last_at,
}
_RULES: Final = ("ALL", "LAST", "NONE")
_COLUMNS: Final = (
    "namespace",
    "flowId",
    "triggerId",
    "kind",
    "disabled",
    "locked",
    "nextEvaluationDate",
    "lastTriggeredDate",
    "executionId",
)


def search(call: Call) -> dict[str, Any]:
    """Answer with a page of triggers: the declaration and what it remembers."""
    pages, rows = call.paging(), wanted(call)
    some = in_order(rows, pages.sort, _SORTS)[pages.offset : pages.offset + pages.size]
    return page_of(
        ({"trigger": _declared(call, row), "state": state} for row, state in zip(some, shown(call, some), strict=True)),
        len(rows),
    )


def export(call: Call) -> Response:
    """Answer with all triggers that the filters find, as CSV."""
    content = io.StringIO()
    table = csv.DictWriter(content, _COLUMNS, extrasaction="ignore")
    table.writeheader()
    table.writerows(shown(call, wanted(call)))
    return Response(content.getvalue(), media_type="text/csv")


def of_flow(call: Call) -> dict[str, Any]:
    """Answer with a page of what the triggers of one flow remember."""
    pages, q = call.paging(), call.query("q") or ""
    namespace, flow_id = call.path("namespace"), call.path("flowId")
    rows = call.services.store.read(lambda db: db.triggers.of_flow(namespace, flow_id))
    found = [row for row in rows if q.lower() in row.trigger_id.lower()]
    some = in_order(found, pages.sort, _SORTS)[pages.offset : pages.offset + pages.size]
    return page_of(shown(call, some), len(found))


def set_disabled(call: Call) -> dict[str, Any]:
    """Switch a trigger off or on; `recoverMissedSchedules` says what becomes of the dates that passed meanwhile."""
    body = call.json_map()
    name, disabled = identity_from(body), body.get("disabled")
    if not isinstance(disabled, bool):
        raise InvalidError("trigger.identity.invalid", "the body must say `disabled`: true or false")
    row = changed(call, name, lambda row: switch(call, row, disabled=disabled, rule=body.get("recoverMissedSchedules")))
    call.note(str(name), disabled=disabled)
    return shown(call, [row])[0]


def switch(call: Call, row: TriggerState, *, disabled: bool, rule: Any = None) -> TriggerState:
    """Return the row switched off or on.

    Raises:
        InvalidError: `trigger.identity.invalid` for an unknown rule.
        ConflictError: `trigger.disabled` when the flow itself says that the trigger is off.
    """
    if rule is not None and rule not in _RULES:
        raise InvalidError("trigger.identity.invalid", "recoverMissedSchedules must be ALL, LAST or NONE")
    declared = declaration(call, row)
    if not disabled and declared is not None and declared[1].disabled:
        raise ConflictError("trigger.disabled", f"the flow declares the trigger {row.trigger_id!r} as disabled")
    return switched(row, datetime.now(UTC), disabled=disabled, recover=cast("RecoverMissed", rule or "NONE"))


def unlock(call: Call) -> dict[str, Any]:
    """Let a trigger go on that waits for the execution it started last."""
    name = identity_in(call)
    row = changed(call, name, lambda row: unlock_row(call, row))
    call.note(str(name), verb="unlock")
    return shown(call, [row])[0]


def unlock_row(call: Call, row: TriggerState) -> TriggerState:
    """Return the row of a trigger that waits no longer. Raises `ConflictError` `trigger.unlocked`."""
    if row.execution_id not in locked(call, [row]):
        raise ConflictError("trigger.unlocked", f"the trigger {row.trigger_id!r} is not locked")
    return unlocked(row, datetime.now(UTC))


def restart(call: Call) -> dict[str, Any]:
    """Have a trigger begin as if it were new."""
    name = identity_in(call)
    declared = declaration(call, name)
    zone = call.services.host.zone

    def begin(row: TriggerState) -> TriggerState:
        now = datetime.now(UTC)
        return restarted(row, declared[1], now, zone) if declared is not None else unlocked(row, now)

    row = changed(call, name, begin)
    call.note(str(name), verb="restart")
    return shown(call, [row])[0]


def delete(call: Call) -> Response:
    """Forget a trigger that no flow declares any more."""
    name = identity_in(call)
    call.require(name.namespace)
    call.services.store.write(lambda db: delete_row(call, db, name))
    call.note(str(name), verb="delete")
    return Response(status_code=204)


def delete_row(call: Call, db: Session, name: Identity) -> None:
    """Delete what a trigger remembers. Raises `ConflictError` `trigger.declared`."""
    row = stored(db, name)
    if declaration(call, row) is not None:
        raise ConflictError(
            "trigger.declared", f"the trigger {name} cannot be deleted because the flow still declares it"
        )
    db.triggers.delete(row.namespace, row.flow_id, row.trigger_id)


def _declared(call: Call, row: TriggerState) -> dict[str, Any]:
    found = declaration(call, row)
    if found is None:
        return {"id": row.trigger_id, "type": None}
    return found[1].model_dump(mode="json", by_alias=True, exclude_unset=True)


def endpoints() -> list[Endpoint]:
    """Return the routes of this file; switching also under its 1.x path."""
    read, write, tag = Permission.TRIGGER_READ, Permission.TRIGGER_WRITE, "triggers"
    flow = BASE + "/{namespace}/{flowId}"
    one = flow + "/{triggerId}"
    rule = optional(word(*_RULES))
    switching: dict[str, Any] = {
        "takes": "application/json",
        "body": extended(TRIGGER_NAME, disabled=FLAG, recoverMissedSchedules=rule),
        "answer": TRIGGER_STATE,
    }
    of_one = (text("q", "Only triggers with this in their id."), *paging())
    return [
        Endpoint(
            "GET",
            BASE + "/search",
            read,
            search,
            "A page of triggers",
            tag,
            query=(*TRIGGER_SEARCH, *paging()),
            answer=TRIGGERS,
        ),
        Endpoint(
            "GET",
            BASE + "/export/by-query/csv",
            read,
            export,
            "Triggers as CSV",
            tag,
            gives="text/csv",
            query=TRIGGER_SEARCH,
            answer=TEXT,
        ),
        Endpoint("GET", flow, read, of_flow, "The triggers of a flow", tag, query=of_one, answer=page(TRIGGER_STATE)),
        Endpoint("PUT", BASE + "/set-disabled", write, set_disabled, "Switch a trigger off or on", tag, **switching),
        Endpoint("PUT", BASE, write, set_disabled, "Switch a trigger off or on (1.x)", tag, **switching),
        Endpoint("POST", one + "/unlock", write, unlock, "Let a trigger wait no longer", tag, answer=TRIGGER_STATE),
        Endpoint("POST", one + "/restart", write, restart, "Begin a trigger anew", tag, answer=TRIGGER_STATE),
        Endpoint("DELETE", one, write, delete, "Forget a trigger that no flow declares", tag, status=204),
    ]
