"""What triggers remember, and switching them off and on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from runner.access import Permission, covers
from runner.errors import InvalidError, MainstemError, NotFoundError
from runner.store import Session
from runner.store.records import TriggerState
from webhooks.call import Call, page_of
from webhooks.filters import holds, in_order, parse_filters
from webhooks.routes import Endpoint
from webhooks.search import TRIGGER_FIELDS, scope_of
from webhooks.shapes import trigger_state_json

_BASE: Final = "/api/v1/{tenant}/triggers"
_SORTS: Final = {
    "flowId": lambda row: row.flow_id,
    "triggerId": lambda row: row.trigger_id,
    "namespace": lambda row: row.namespace,
    "nextExecutionDate": lambda row: row.next_at,
    "lastTriggeredDate": lambda row: row.last_at,
}


def search(call: Call) -> dict[str, Any]:
    """Answer with a page of triggers: the declaration and what it remembers."""
    paging, now = call.paging(), datetime.now(UTC)
    filters = parse_filters(call.request.query_params.multi_items(), TRIGGER_FIELDS)
    visible, within, q = call.namespaces(), call.query("namespace"), call.query("q")

    def is_wanted(row: TriggerState) -> bool:
        if visible is not None and not covers(visible, row.namespace):
            return False
        if within is not None and not covers([within], row.namespace):
            return False
        if q is not None and q.lower() not in f"{row.namespace}.{row.flow_id}.{row.trigger_id}".lower():
            return False
        return holds(filters, lambda field: _value(row, field), now)

    wanted = [row for row in call.services.store.read(lambda db: db.triggers.all()) if is_wanted(row)]
    page = in_order(wanted, paging.sort, _SORTS)[paging.offset : paging.offset + paging.size]
    return page_of(
        ({"trigger": _declaration(call, row), "state": trigger_state_json(row)} for row in page), len(wanted)
    )


def of_flow(call: Call) -> dict[str, Any]:
    """Answer with a page of what the triggers of one flow remember."""
    paging, q = call.paging(), call.query("q") or ""
    namespace, flow_id = call.path("namespace"), call.path("flowId")
    rows = call.services.store.read(lambda db: db.triggers.of_flow(namespace, flow_id))
    wanted = [row for row in rows if q.lower() in row.trigger_id.lower()]
    page = in_order(wanted, paging.sort, _SORTS)[paging.offset : paging.offset + paging.size]
    return page_of((trigger_state_json(row) for row in page), len(wanted))


def set_disabled(call: Call) -> dict[str, Any]:
    """Switch a trigger off or on; this is a state of the server and no commit."""
    body = call.json_map()
    names = [body.get(key) for key in ("namespace", "flowId", "triggerId")]
    disabled = body.get("disabled")
    if not all(isinstance(name, str) and name for name in names) or not isinstance(disabled, bool):
        raise InvalidError(
            "trigger.identity.invalid", "the body must hold namespace, flowId, triggerId and disabled (true or false)"
        )
    namespace, flow_id, trigger_id = (str(name) for name in names)
    call.require(namespace)
    now = datetime.now(UTC)

    def change(db: Session) -> TriggerState:
        row = db.triggers.get(namespace, flow_id, trigger_id)
        if row is None:
            raise NotFoundError("trigger.missing", f"no trigger {trigger_id!r} in the flow {namespace}.{flow_id}")
        changed = replace(row, disabled=disabled, updated_at=now)
        db.triggers.put(changed)
        return changed

    changed = call.services.store.write(change)
    call.note(f"{namespace}.{flow_id}.{trigger_id}", disabled=disabled)
    return trigger_state_json(changed)


def _declaration(call: Call, row: TriggerState) -> dict[str, Any]:
    try:
        flow = call.services.catalogue.get(row.namespace, row.flow_id)
    except MainstemError:
        return {"id": row.trigger_id, "type": None}
    for trigger in flow.triggers:
        if trigger.id == row.trigger_id:
            return trigger.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return {"id": row.trigger_id, "type": None}


def _value(row: TriggerState, field: str) -> Any:
    return {
        "q": f"{row.namespace}.{row.flow_id}.{row.trigger_id}",
        "scope": scope_of(row.namespace),
        "namespace": row.namespace,
        "flowId": row.flow_id,
        "triggerId": row.trigger_id,
        "workerId": None,
        "triggerState": "DISABLED" if row.disabled else "ENABLED",
        "startDate": row.next_at,
        "endDate": row.next_at,
        "timeRange": row.last_at,
        "locked": row.locked,
        "lastTriggeredDate": row.last_at,
        "nextExecutionDate": row.next_at,
    }[field]


def endpoints() -> list[Endpoint]:
    """Return the routes of this file; switching also under its 1.x path."""
    read, write, tag, json = Permission.TRIGGER_READ, Permission.TRIGGER_WRITE, "triggers", "application/json"
    return [
        Endpoint("GET", _BASE + "/search", read, search, "A page of triggers", tag),
        Endpoint("GET", _BASE + "/{namespace}/{flowId}", read, of_flow, "The triggers of a flow", tag),
        Endpoint("PUT", _BASE + "/set-disabled", write, set_disabled, "Switch a trigger off or on", tag, takes=json),
        Endpoint("PUT", _BASE, write, set_disabled, "Switch a trigger off or on (1.x)", tag, takes=json),
    ]
