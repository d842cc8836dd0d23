"""A stretch of the past that a schedule runs again: every date from one to another, then it goes on as before.

A backfill lives in the memory of the trigger's row. While it runs, the row's next date is the backfill's; the date
that the schedule had to come waits in `resume_at` and is taken up again afterwards, or while the backfill is paused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from runner.errors import ConflictError, InvalidError, MainstemError
from runner.store.records import TriggerState
from runner.triggers.conditions import RenderText
from runner.triggers.models import Schedule
from runner.triggers.schedule import plan

_KEY: Final = "backfill"


@dataclass(frozen=True, slots=True)
class Backfill:
    """The dates from `start` to `end`, both counted in; `at` is the next of them.

    `inputs` and `labels` are plain values, never rendered. `id` sets its dates apart from the same dates of the
    schedule itself and of other backfills.
    """

    id: str
    start: datetime
    end: datetime
    at: datetime
    resume_at: datetime | None
    paused: bool = False
    inputs: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return what the row remembers."""
        return {
            "id": self.id,
            "start": _text(self.start),
            "end": _text(self.end),
            "currentDate": _text(self.at),
            "previousNextExecutionDate": _text(self.resume_at) if self.resume_at else None,
            "paused": self.paused,
            "inputs": dict(self.inputs),
            "labels": dict(self.labels),
        }


def backfill_of(row: TriggerState) -> Backfill | None:
    """Return the backfill of a trigger, paused or not; None when it has none."""
    stored = row.memory.get(_KEY)
    if not stored:
        return None
    resume_at = stored["previousNextExecutionDate"]
    return Backfill(
        stored["id"],
        datetime.fromisoformat(stored["start"]),
        datetime.fromisoformat(stored["end"]),
        datetime.fromisoformat(stored["currentDate"]),
        datetime.fromisoformat(resume_at) if resume_at else None,
        stored["paused"],
        stored["inputs"],
        stored["labels"],
    )


def running(row: TriggerState) -> Backfill | None:
    """Return the backfill whose dates the trigger runs now; None when it has none, or a paused one."""
    backfill = backfill_of(row)
    return backfill if backfill is not None and not backfill.paused else None


def begun(
    row: TriggerState, trigger: Schedule, asked: Backfill, now: datetime, zone: ZoneInfo, render: RenderText
) -> TriggerState:
    """Return the row with a backfill; its `at` and `resume_at` are found here, and its end is `now` at the latest.

    Raises:
        ConflictError: `trigger.backfill.present` when it has one already, `trigger.backfill.off` when it is off.
        InvalidError: `trigger.backfill.invalid` when it begins after its end, or has no date.
    """
    if backfill_of(row) is not None:
        raise ConflictError("trigger.backfill.present", f"the trigger {row.trigger_id!r} has a backfill already")
    if row.disabled or trigger.disabled or row.next_at is None:
        raise ConflictError("trigger.backfill.off", f"the trigger {row.trigger_id!r} is off and runs nothing")
    end = min(asked.end, now)
    first = plan(trigger, asked.start - timedelta(microseconds=1), zone, render)
    if first is None or first > end:
        raise InvalidError(
            "trigger.backfill.invalid",
            f"the schedule has no date from {_text(asked.start)} to {_text(end)}",
            hint="a backfill begins in the past and before its end",
        )
    return _with(row, replace(asked, end=end, at=first, resume_at=row.next_at), first, now)


def paused(row: TriggerState, now: datetime) -> TriggerState:
    """Return the row with its backfill at rest: the schedule's own dates go on. Raises `ConflictError`."""
    backfill = _demand(row)
    if backfill.paused:
        raise ConflictError("trigger.backfill.paused", f"the backfill of {row.trigger_id!r} is paused already")
    return _with(row, replace(backfill, paused=True), backfill.resume_at, now)


def unpaused(row: TriggerState, now: datetime) -> TriggerState:
    """Return the row with its backfill going on where it was. Raises `ConflictError`."""
    backfill = _demand(row)
    if not backfill.paused:
        raise ConflictError("trigger.backfill.running", f"the backfill of {row.trigger_id!r} is not paused")
    return _with(row, replace(backfill, paused=False, resume_at=row.next_at), backfill.at, now)


def ended(row: TriggerState, now: datetime) -> TriggerState:
    """Return the row without its backfill, its own dates going on. Raises `ConflictError` when it has none."""
    backfill = _demand(row)
    return _with(row, None, row.next_at if backfill.paused else backfill.resume_at, now)


def onward(row: TriggerState, next_at: datetime | None) -> TriggerState:
    """Return the row moved on to a date: a running backfill ends behind its last one."""
    backfill = running(row)
    if backfill is None:
        return replace(row, next_at=next_at)
    if next_at is None or next_at > backfill.end:
        return _with(row, None, backfill.resume_at, row.updated_at)
    return _with(row, replace(backfill, at=next_at), next_at, row.updated_at)


def carried(
    row: TriggerState, before: TriggerState | None, trigger: Schedule, zone: ZoneInfo, render: RenderText
) -> TriggerState:
    """Return the row of a schedule whose declaration changed, with the backfill it had; its dates follow the new one.

    A schedule that is off now loses its backfill.
    """
    backfill = backfill_of(before) if before is not None else None
    if backfill is None or row.next_at is None:
        return row
    try:
        at = plan(trigger, backfill.at - timedelta(microseconds=1), zone, render)
    except MainstemError:
        return row
    if at is None or at > backfill.end:
        return row
    kept = replace(backfill, at=at, resume_at=row.next_at)
    return _with(row, kept, row.next_at if backfill.paused else at, row.updated_at)


def _demand(row: TriggerState) -> Backfill:
    backfill = backfill_of(row)
    if backfill is None:
        raise ConflictError("trigger.backfill.missing", f"the trigger {row.trigger_id!r} has no backfill")
    return backfill


def _with(row: TriggerState, backfill: Backfill | None, next_at: datetime | None, now: datetime | None) -> TriggerState:
    memory = {name: value for name, value in row.memory.items() if name != _KEY}
    if backfill is not None:
        memory[_KEY] = backfill.as_json()
    return replace(row, memory=memory, next_at=next_at, updated_at=now)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
