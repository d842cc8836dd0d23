"""What somebody may do to a trigger at run time: switch it off or on, unlock it, begin it anew. No commit, no file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from runner.errors import FlowError, NotFoundError
from runner.executions.models import Execution
from runner.flows.aliases import canonical
from runner.flows.catalogue import Catalogue
from runner.flows.models import Trigger
from runner.store import Session
from runner.store.records import TriggerState
from runner.triggers.activation import DECLARED, next_look
from runner.triggers.backfill import running
from runner.triggers.models import RecoverMissed

_SWITCHED_ON: Final = "switchedOn"


@dataclass(frozen=True, slots=True)
class SwitchedOn:
    """When a trigger was last switched on, and what becomes of the dates that passed while it was off."""

    at: datetime
    recover: RecoverMissed


def switched(row: TriggerState, now: datetime, *, disabled: bool, recover: RecoverMissed = "NONE") -> TriggerState:
    """Return the row of a trigger that somebody switches off or on; one that is so already stays as it is.

    Dates that pass while a schedule is off are not made up, unless `recover` says ALL, or LAST for the last of them.
    """
    if row.disabled == disabled:
        return row
    memory = {name: value for name, value in row.memory.items() if name != _SWITCHED_ON}
    if not disabled:
        memory[_SWITCHED_ON] = {"at": now.astimezone(UTC).isoformat(), "recover": recover}
    return replace(row, disabled=disabled, memory=memory, updated_at=now)


def switched_on(row: TriggerState) -> SwitchedOn | None:
    """Return when the trigger was switched on; None when it never was off."""
    stored = row.memory.get(_SWITCHED_ON)
    return SwitchedOn(datetime.fromisoformat(stored["at"]), stored["recover"]) if stored else None


def stops(row: TriggerState, trigger: Trigger, last: Execution) -> bool:
    """Return whether the end of an execution that the trigger started switches it off (`stopAfter`).

    One that ended before somebody switched the trigger on again does not.
    """
    switch = switched_on(row)
    is_over = switch is not None and last.ended_at is not None and last.ended_at <= switch.at
    return last.state in trigger.stop_after and not is_over


def stopped_by(catalogue: Catalogue, execution: Execution) -> Trigger | None:
    """Return the trigger that started an execution and is switched off by its end (`stopAfter`); None otherwise."""
    cause = execution.trigger
    if cause is None or not execution.state.is_terminal:
        return None
    try:
        flow = catalogue.get(execution.namespace, execution.flow_id)
    except (NotFoundError, FlowError):
        return None
    return next(
        (
            trigger
            for trigger in flow.triggers
            if execution.state in trigger.stop_after and (trigger.id, canonical(trigger.type)) == (cause.id, cause.type)
        ),
        None,
    )


def switch_off_after(db: Session, execution: Execution, trigger: Trigger, now: datetime) -> None:
    """Switch a trigger off because an execution that it started ended as its `stopAfter` says."""
    row = db.triggers.get(execution.namespace, execution.flow_id, trigger.id)
    if row is not None and stops(row, trigger, execution):
        db.triggers.put(switched(row, now, disabled=True))


def unlocked(row: TriggerState, now: datetime) -> TriggerState:
    """Return the row of a trigger that no longer waits for the execution it started last."""
    return replace(row, execution_id=None, locked=False, updated_at=now)


def restarted(row: TriggerState, trigger: Trigger, now: datetime, zone: ZoneInfo) -> TriggerState:
    """Return the row of a trigger that begins as if it were new; being off, and a backfill, survive.

    What its polls, windows and last execution left behind is forgotten; a poll is due at once.
    """
    kept = {name: value for name, value in row.memory.items() if name in {DECLARED, _SWITCHED_ON, "backfill"}}
    next_at = row.next_at if running(row) or row.next_at is None else next_look(trigger, now, zone)
    return replace(unlocked(row, now), memory=kept, next_at=next_at)
