"""The verbs of triggers for many at once: those that are named, or all that a query finds.

What does not fit a trigger (one that is not locked cannot be unlocked) is left out and named in the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from runner.access import Permission
from runner.errors import InvalidError, MainstemError
from runner.ids import new_id
from runner.store import Session
from runner.store.records import TriggerState
from runner.triggers.backfill import ended, paused, unpaused
from webhooks.answers.executions import BULK
from webhooks.answers.instance import TRIGGER_NAME
from webhooks.api.triggers import delete_row, switch, unlock_row
from webhooks.call import Call
from webhooks.filters import filters_from_json
from webhooks.parameters import flag
from webhooks.routes import Endpoint
from webhooks.schemas import FLAG, MAP, listed, optional, record
from webhooks.search import TRIGGER_FIELDS
from webhooks.trigger_rows import BASE, TRIGGER_SEARCH, Identity, changed, identity_from, wanted

_MOST: Final = 10_000

Act = Callable[[Identity], object]


@dataclass(frozen=True, slots=True)
class _Bulk:
    """A verb: its path and method, and what gives, from the call and its body, what is done to one trigger."""

    name: str
    prepare: Callable[[Call, Any], Act]
    method: str = "POST"


def _by_triggers(bulk: _Bulk, call: Call) -> dict[str, Any]:
    body = call.json()
    items = body.get("triggers") if isinstance(body, Mapping) else body
    if not isinstance(items, list) or len(items) > _MOST:
        raise InvalidError("trigger.identity.invalid", f"the body must be a list of at most {_MOST} triggers")
    names = [identity_from(item) for item in items]
    for name in names:
        call.require(name.namespace)
    return _carry_out(bulk, call, body, names)


def _by_query(bulk: _Bulk, call: Call) -> dict[str, Any]:
    body = call.json()
    given = body.get("filters") if isinstance(body, Mapping) else None
    rows = wanted(call, filters_from_json(given, TRIGGER_FIELDS) if given else None)
    return _carry_out(bulk, call, body, [Identity(row.namespace, row.flow_id, row.trigger_id) for row in rows])


def _carry_out(bulk: _Bulk, call: Call, body: Any, names: Iterable[Identity]) -> dict[str, Any]:
    act, done, left = bulk.prepare(call, body), 0, []
    for name in dict.fromkeys(names):
        try:
            act(name)
            done += 1
        except MainstemError as error:
            left.append(f"{name}: {error.message}")
    call.note(f"{done} triggers", verb=bulk.name)
    return {"count": done, "operationId": new_id(), "totalItems": done, "invalids": left}


# -------------------------------------------------------------------- what is done to each


def _changing(change: Callable[[Call, TriggerState], TriggerState]) -> Callable[[Call, Any], Act]:
    return lambda call, _body: lambda name: changed(call, name, partial(change, call))


def _set_disabled(call: Call, body: Any) -> Act:
    given = body.get("disabled") if isinstance(body, Mapping) else None
    disabled = given if isinstance(given, bool) else call.flag("disabled")
    return lambda name: changed(call, name, lambda row: switch(call, row, disabled=disabled))


def _delete(call: Call, _body: Any) -> Act:
    def forget(name: Identity) -> None:
        def write(db: Session) -> None:
            delete_row(call, db, name)

        call.services.store.write(write)

    return forget


def _backfill(change: Callable[[TriggerState, datetime], TriggerState]) -> Callable[[Call, Any], Act]:
    return _changing(lambda _call, row: change(row, datetime.now(UTC)))


_VERBS: Final = (
    _Bulk("set-disabled", _set_disabled),
    _Bulk("unlock", _changing(unlock_row)),
    _Bulk("delete", _delete, "DELETE"),
    _Bulk("backfill/delete", _backfill(ended)),
    _Bulk("backfill/pause", _backfill(paused)),
    _Bulk("backfill/unpause", _backfill(unpaused)),
)


_SWITCH: Final = (flag("disabled", "Off, or on.", default=True),)


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    named, found = listed(TRIGGER_NAME), record(filters=optional(listed(MAP)))
    return [
        Endpoint(
            bulk.method,
            f"{BASE}/{bulk.name}/{place}",
            Permission.TRIGGER_WRITE,
            partial(handler, bulk),
            f"{bulk.name.replace('/', ': ').capitalize()} {place.replace('-', ' ')}",
            "triggers",
            takes="application/json",
            query=(*(_SWITCH if bulk.name == "set-disabled" else ()), *query),
            body=record(triggers=named, disabled=FLAG) if body is named and bulk.name == "set-disabled" else body,
            answer=BULK,
        )
        for bulk in _VERBS
        for place, handler, query, body in (
            ("by-triggers", _by_triggers, (), named),
            ("by-query", _by_query, TRIGGER_SEARCH, found),
        )
    ]
