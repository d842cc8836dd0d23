"""The rows of triggers when flows come, change and go."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from runner.errors import ExpressionError, MainstemError
from runner.flows.head import FlowHead
from runner.flows.models import Flow, Trigger
from runner.store import Session
from runner.store.records import TriggerState
from runner.triggers.backfill import carried
from runner.triggers.models import FlowTrigger, Schedule, ScheduleOnDates, Webhook
from runner.triggers.polling import PollingTrigger
from runner.triggers.schedule import plan

SCHEDULE = "SCHEDULE"
DECLARED = "declared"
"""The name under which a row remembers how its trigger was declared."""


def activated(
    db: Session, changed: Iterable[Flow | FlowHead], removed: Iterable[tuple[str, str]], now: datetime, zone: ZoneInfo
) -> None:
    """Bring the rows of triggers in line with flows that were added, changed or removed; inside their transaction.

    A schedule that did not change keeps its next date, so that a commit elsewhere in the file loses no tick. One that
    is new, or whose times changed, begins with the first date after `now`. Being switched off at run time survives.
    A draft changes nothing: the triggers of the version before it stay.
    """
    for namespace, flow_id in removed:
        for row in db.triggers.of_flow(namespace, flow_id):
            db.triggers.delete(row.namespace, row.flow_id, row.trigger_id)
    for flow in (each for each in changed if not each.draft):
        known = {row.trigger_id: row for row in db.triggers.of_flow(flow.namespace, flow.id)}
        for trigger in flow.triggers:
            db.triggers.put(declared(flow, trigger, known.pop(trigger.id, None), now, zone))
        for row in known.values():
            db.triggers.delete(row.namespace, row.flow_id, row.trigger_id)


def declared(
    flow: Flow | FlowHead, trigger: Trigger, row: TriggerState | None, now: datetime, zone: ZoneInfo
) -> TriggerState:
    """Return the row of a trigger as its flow declares it now, with what the old row remembers."""
    mark = _mark(flow, trigger)
    kind = kind_of(trigger)
    if row is not None and row.kind == kind and row.memory.get(DECLARED) == mark:
        return row
    row = row if row is not None and row.kind == kind else None
    memory: dict[str, Any] = {DECLARED: mark}
    if row is not None and isinstance(trigger, FlowTrigger):
        memory = {**row.memory, **memory}
    fresh = row or TriggerState(flow.namespace, flow.id, trigger.id, kind)
    is_off = flow.disabled or trigger.disabled
    next_at = None if is_off else next_look(trigger, now, zone)
    made = replace(fresh, next_at=next_at, memory=memory, updated_at=now)
    return carried(made, row, trigger, zone, _plain) if isinstance(trigger, Schedule) else made


def next_look(trigger: Trigger, after: datetime, zone: ZoneInfo) -> datetime | None:
    """Return when a trigger must be looked at next, in UTC; None for one that waits to be told, or never fires."""
    if isinstance(trigger, PollingTrigger):
        return after
    if not isinstance(trigger, Schedule | ScheduleOnDates):
        return None
    try:
        return plan(trigger, after, zone, _plain)
    except MainstemError:
        return None  # a flow with a bad schedule is not activated; one from an older version must not stop the rest


def kind_of(trigger: Trigger) -> str:
    """Return the kind of row that a trigger has."""
    match trigger:
        case Schedule() | ScheduleOnDates():
            return SCHEDULE
        case Webhook():
            return "WEBHOOK"
        case FlowTrigger():
            return "FLOW"
        case PollingTrigger():
            return "POLLING"
        case _:
            return "OTHER"


def _plain(template: str, _variables: Mapping[str, Any] | None = None, /) -> str:
    """Render nothing: planning only asks conditions that are decided by the date alone."""
    raise ExpressionError("expression.function.unavailable", f"{template!r} cannot be rendered ahead")


def _mark(flow: Flow | FlowHead, trigger: Trigger) -> str:
    """Return a digest of what decides a trigger's dates."""
    text = trigger.model_dump_json(by_alias=True, exclude={"description", "labels", "inputs"})
    return hashlib.sha256(f"{flow.disabled}{text}".encode()).hexdigest()[:16]
