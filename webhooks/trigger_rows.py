"""The rows of triggers as requests name, find, change and show them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from runner.access import covers
from runner.errors import InvalidError, MainstemError, NotFoundError
from runner.flows.models import Flow, Trigger
from runner.store import Session
from runner.store.records import TriggerState
from webhooks.call import Call
from webhooks.filters import Group, holds
from webhooks.parameters import filters, text
from webhooks.search import TRIGGER_FIELDS, scope_of
from webhooks.shapes import trigger_state_json

BASE: Final = "/api/v1/{tenant}/triggers"
TRIGGER_SEARCH: Final = (
    filters(TRIGGER_FIELDS),
    text("q", "Only triggers with this in their namespace, flow or id."),
    text("namespace", "Only this namespace and those below it."),
    text(
        "dateFilter",
        "What `startDate`, `endDate` and `timeRange` look at.",
        choices=("NEXT_EXECUTION_DATE", "LAST_TRIGGERED_DATE"),
    ),
)
"""What finds triggers."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What names a trigger."""

    namespace: str
    flow_id: str
    trigger_id: str

    def __str__(self) -> str:
        """Return the name for people."""
        return f"{self.namespace}.{self.flow_id}/{self.trigger_id}"


def identity_from(body: Any) -> Identity:
    """Return the trigger that a body names. Raises `InvalidError` `trigger.identity.invalid`."""
    named = body if isinstance(body, Mapping) else {}
    match [named.get(key) for key in ("namespace", "flowId", "triggerId")]:
        case [str(namespace), str(flow_id), str(trigger_id)] if all(map(_is_name, (namespace, flow_id, trigger_id))):
            return Identity(namespace, flow_id, trigger_id)
    raise InvalidError("trigger.identity.invalid", "the body must hold namespace, flowId and triggerId")


def _is_name(text: str) -> bool:
    return bool(text) and "\0" not in text  # which PostgreSQL does not take in a text


def identity_in(call: Call) -> Identity:
    """Return the trigger that the path names."""
    return Identity(call.path("namespace"), call.path("flowId"), call.path("triggerId"))


def changed(call: Call, name: Identity, change: Callable[[TriggerState], TriggerState]) -> TriggerState:
    """Change what a trigger remembers and return it.

    Raises:
        NotFoundError: `trigger.missing`.
        AccessError: when the caller may not do this in the namespace.
        MainstemError: what `change` raises; nothing is written then.
    """
    call.require(name.namespace)

    def write(db: Session) -> TriggerState:
        row = change(stored(db, name))
        db.triggers.put(row)
        return row

    row = call.services.store.write(write)
    call.services.engine.doorbell.ring_timers()
    return row


def stored(db: Session, name: Identity) -> TriggerState:
    """Return what a trigger remembers. Raises `NotFoundError` `trigger.missing`."""
    row = db.triggers.get(name.namespace, name.flow_id, name.trigger_id)
    if row is None:
        raise NotFoundError(
            "trigger.missing", f"no trigger {name.trigger_id!r} in the flow {name.namespace}.{name.flow_id}"
        )
    return row


def declaration(call: Call, row: TriggerState | Identity) -> tuple[Flow, Trigger] | None:
    """Return the trigger as its flow declares it now; None when it does not any more, or cannot be read."""
    try:
        flow = call.services.catalogue.get(row.namespace, row.flow_id)
    except MainstemError:
        return None
    return next(((flow, trigger) for trigger in flow.triggers if trigger.id == row.trigger_id), None)


def shown(call: Call, rows: Iterable[TriggerState]) -> list[dict[str, Any]]:
    """Return what triggers remember, as the API shows it."""
    rows = list(rows)
    waiting = locked(call, rows)
    found = []
    for row in rows:
        declared = declaration(call, row)
        stop_after = declared[1].stop_after if declared else ()
        found.append(trigger_state_json(row, is_locked=row.execution_id in waiting, stop_after=stop_after))
    return found


def locked(call: Call, rows: Iterable[TriggerState]) -> frozenset[str | None]:
    """Return the executions, started last by one of `rows`, that still go on."""
    ids = [row.execution_id for row in rows if row.execution_id is not None]
    found = call.services.store.read(lambda db: db.executions.get_many(ids)) if ids else {}
    return frozenset(key for key, execution in found.items() if not execution.state.is_terminal)


def wanted(call: Call, given: Group | None = None) -> list[TriggerState]:
    """Return the triggers that the caller may see and that pass the filters, those of the query if none are given."""
    conditions = given or call.conditions()
    rows, now = call.services.store.read(lambda db: db.triggers.all()), datetime.now(UTC)
    visible, within, q = call.namespaces(), call.query("namespace"), call.query("q")
    dates, waiting = call.query("dateFilter"), _Lazily(lambda: locked(call, rows))

    def is_wanted(row: TriggerState) -> bool:
        if visible is not None and not covers(visible, row.namespace):
            return False
        if within is not None and not covers([within], row.namespace):
            return False
        if q is not None and q.lower() not in f"{row.namespace}.{row.flow_id}.{row.trigger_id}".lower():
            return False
        return holds(conditions, lambda field: _value(row, field, dates, waiting), now)

    return [row for row in rows if is_wanted(row)]


class _Lazily:
    """Which triggers are locked, asked for only when a filter wants to know."""

    def __init__(self, ask: Callable[[], frozenset[str | None]]) -> None:
        self._ask = ask
        self._known: frozenset[str | None] | None = None

    def holds(self, row: TriggerState) -> bool:
        """Return whether the trigger is locked."""
        if self._known is None:
            self._known = self._ask()
        return row.execution_id in self._known


def _value(row: TriggerState, field: str, dates: str | None, waiting: _Lazily) -> Any:
    by_last = dates == "LAST_TRIGGERED_DATE"
    values: dict[str, Callable[[], Any]] = {
        "q": lambda: f"{row.namespace}.{row.flow_id}.{row.trigger_id}",
        "scope": lambda: scope_of(row.namespace),
        "namespace": lambda: row.namespace,
        "flowId": lambda: row.flow_id,
        "triggerId": lambda: row.trigger_id,
        "workerId": lambda: None,
        "triggerState": lambda: "DISABLED" if row.disabled else "ENABLED",
        "startDate": lambda: row.last_at if by_last else row.next_at,
        "endDate": lambda: row.last_at if by_last else row.next_at,
        "timeRange": lambda: row.next_at if dates == "NEXT_EXECUTION_DATE" else row.last_at,
        "locked": lambda: waiting.holds(row),
        "lastTriggeredDate": lambda: row.last_at,
        "nextExecutionDate": lambda: row.next_at,
    }
    return values[field]()
