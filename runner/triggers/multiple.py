"""Several executions that must all be seen within one window: what is remembered, and when it is complete.

The memory is a plain map that the store keeps per trigger:
`{"windows": {id: {"start": text, "end": text, "met": {entry: {"at": text, "flowId": text, "outputs": {...}}}}}}`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from runner.triggers.windows import Span, TimeWindow


@dataclass(frozen=True, slots=True)
class Tally:
    """The memory after an execution was counted in, and whether now every entry is met.

    `outputs` are those of the flows that were met in the window, by flow id.
    """

    memory: dict[str, Any]
    is_complete: bool
    outputs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sighting:
    """The execution that is counted in: when, of which flow, with which outputs."""

    at: datetime
    flow_id: str
    outputs: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return what is remembered."""
        return {"at": _text(self.at), "flowId": self.flow_id, "outputs": dict(self.outputs)}


def count_in(
    memory: Mapping[str, Any],
    name: str,
    entries: Collection[str],
    met: Collection[str],
    sighting: Sighting,
    window: TimeWindow,
    zone: ZoneInfo,
    *,
    reset_on_success: bool = True,
) -> Tally:
    """Count an execution in and say whether that made the window complete.

    Args:
        memory: what the trigger remembers.
        name: the id of the conditions, so that one trigger can have several windows.
        entries: all that must be met.
        met: those that this execution meets.
        sighting: the execution.
        window: the window.
        zone: the server's time zone, in which days begin.
        reset_on_success: whether a complete window begins anew; else each further match completes it again.
    """
    span = window.span(sighting.at, zone)
    windows = dict(memory.get("windows") or {})
    if span is None or not met:
        return Tally({**memory, "windows": windows}, is_complete=False)
    stored = windows.get(name) or {}
    remembered, kept = _remembered(stored, span, sighting.at)
    remembered |= {entry: sighting.as_json() for entry in met}
    remembered = {entry: seen for entry, seen in remembered.items() if entry in entries}
    is_complete = len(remembered) == len(set(entries))
    outputs = {seen["flowId"]: seen["outputs"] for seen in remembered.values()}
    if is_complete and reset_on_success:
        windows.pop(name, None)
    else:
        windows[name] = {**kept, "met": remembered}
    return Tally({**memory, "windows": windows}, is_complete, outputs if is_complete else {})


def _remembered(stored: Mapping[str, Any], span: Span, now: datetime) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the entries that still count, and the bounds of the window they count in."""
    seen: dict[str, Any] = dict(stored.get("met") or {})
    if span.slides:
        return {entry: one for entry, one in seen.items() if span.holds(datetime.fromisoformat(one["at"]))}, {}
    start, end = stored.get("start"), stored.get("end")
    if start and end and Span(datetime.fromisoformat(start), datetime.fromisoformat(end)).holds(now):
        return seen, {"start": start, "end": end}
    return {}, {"start": _text(span.start), "end": _text(span.end)}


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
