"""Backfills of schedules: begun, paused, taken up again, ended. States of the server, no commits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from runner.access import Permission
from runner.errors import ConflictError, InvalidError
from runner.flows.models import Flow
from runner.ids import new_id
from runner.store.records import TriggerState
from runner.triggers.backfill import Backfill, begun, ended, paused, unpaused
from runner.triggers.dates import parse_date
from runner.triggers.models import Schedule
from runner.triggers.starting import renderer
from webhooks.answers.executions import LABELS
from webhooks.answers.instance import TRIGGER_NAME, TRIGGER_STATE
from webhooks.api.execution_verbs import labels_from
from webhooks.call import Call
from webhooks.routes import Endpoint
from webhooks.schemas import MAP, TIME, extended, optional, record
from webhooks.trigger_rows import BASE, changed, declaration, identity_from, shown

_SYSTEM_LABELS: Final = "system."
_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 9000


def create(call: Call) -> dict[str, Any]:
    """Begin a backfill: the schedule runs every date from `start` to `end` (now), with `inputs` and `labels` added."""
    body = call.json_map()
    name, now = identity_from(body), datetime.now(UTC)
    call.require(name.namespace)
    declared = declaration(call, name)

    def begin(row: TriggerState) -> TriggerState:
        flow, trigger = declared or (None, None)
        if flow is None or not isinstance(trigger, Schedule):
            raise ConflictError("trigger.backfill.kind", f"the trigger {name} is not a Schedule of a flow")
        asked = backfill_from(body.get("backfill"), flow, now)
        engine = call.services.engine
        render = renderer(engine.host, flow, engine.catalogue.version(flow.namespace, flow.id), now)
        return begun(row, trigger, asked, now, engine.host.zone, render)

    row = changed(call, name, begin)
    call.note(str(name), verb="backfill")
    return shown(call, [row])[0]


def backfill_from(content: Any, flow: Flow, now: datetime) -> Backfill:
    """Return the backfill that a body asks for.

    Raises:
        InvalidError: `trigger.backfill.invalid`, `condition.date.invalid` or `label.invalid`.
    """
    if not isinstance(content, Mapping) or not isinstance(content.get("start"), str):
        raise InvalidError("trigger.backfill.invalid", "the body must hold `backfill` with the date `start`")
    inputs, end = content.get("inputs") or {}, content.get("end")
    if not isinstance(inputs, Mapping):
        raise InvalidError("trigger.backfill.invalid", "the inputs of a backfill must be a map")
    secret = {one.id for one in flow.inputs if one.type == "SECRET"} & set(inputs)
    if secret:
        # What a trigger remembers is shown to everybody who may look at triggers.
        raise InvalidError("trigger.backfill.invalid", f"a backfill takes no inputs of type SECRET: {sorted(secret)}")
    labels = labels_from(content.get("labels") or [])
    if any(key.startswith(_SYSTEM_LABELS) for key in labels):
        raise InvalidError("label.invalid", "system labels are set by the system")
    start = _date(content["start"])
    return Backfill(new_id(), start, _date(str(end)) if end else now, start, None, inputs=dict(inputs), labels=labels)


def _date(text: str) -> datetime:
    """Return a date far enough from the ends of the calendar to be counted with."""
    date = parse_date(text)
    if not _FIRST_YEAR <= date.year <= _LAST_YEAR:
        raise InvalidError("trigger.backfill.invalid", f"{text!r} lies outside of the years that schedules know")
    return date


def _verb(change: Callable[[TriggerState, datetime], TriggerState], word: str, call: Call) -> dict[str, Any]:
    name = identity_from(call.json_map())
    row = changed(call, name, lambda row: change(row, datetime.now(UTC)))
    call.note(str(name), verb=f"backfill {word}")
    return shown(call, [row])[0]


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    asked = record(start=TIME, end=optional(TIME), inputs=optional(MAP), labels=optional(LABELS))
    begins = extended(TRIGGER_NAME, backfill=asked)
    verbs = (
        ("PUT", "create", create, "Begin a backfill", begins),
        ("PUT", "pause", partial(_verb, paused, "pause"), "Pause a backfill", TRIGGER_NAME),
        ("PUT", "unpause", partial(_verb, unpaused, "unpause"), "Go on with a backfill", TRIGGER_NAME),
        ("POST", "delete", partial(_verb, ended, "delete"), "End a backfill", TRIGGER_NAME),
    )
    return [
        Endpoint(
            method,
            f"{BASE}/backfill/{word}",
            Permission.TRIGGER_WRITE,
            handler,
            summary,
            "triggers",
            takes="application/json",
            body=body,
            answer=TRIGGER_STATE,
        )
        for method, word, handler, summary, body in verbs
    ]
