"""Executions that a request starts: which trigger a key opens, and what the execution sees of the request."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import orjson

from runner.errors import MainstemError, StoreError
from runner.executions.creation import NewExecution
from runner.expressions import is_truthy
from runner.flows.models import Flow
from runner.triggers.conditions import ConditionContext, RenderText, all_hold
from runner.triggers.models import Webhook
from runner.triggers.starting import renderer, request

if TYPE_CHECKING:
    from runner.executions.engine import Engine

WEBHOOK = "WEBHOOK"
"""The kind of a webhook's row in the store."""


def match(flow: Flow, key: str, render: RenderText) -> Webhook | None:
    """Return the enabled webhook trigger of the flow whose key this is; a key that does not render opens nothing.

    Nor does any key of a draft.
    """
    for trigger in () if flow.draft else flow.triggers:
        if isinstance(trigger, Webhook) and not trigger.disabled and _opens(trigger, key, render):
            return trigger
    return None


def variables(body: bytes, headers: Iterable[tuple[str, str]], parameters: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Return what the execution sees as `trigger`: `body` (absent if empty), `headers` and `parameters`.

    A body of JSON is parsed, any other is its text. Names keep their case; each maps to the list of its values.
    """
    found: dict[str, Any] = {"headers": _lists(headers), "parameters": _lists(parameters)}
    if not body:
        return found
    text = body.decode("utf-8", errors="replace")
    try:
        # The strict reader: bounded nesting, no lone surrogates, no integers that the store cannot keep.
        return {"body": orjson.loads(text), **found}
    except orjson.JSONDecodeError:
        return {"body": text, **found}


def accepts(flow: Flow, trigger: Webhook, seen: Mapping[str, Any], render: RenderText) -> bool:
    """Return whether the trigger's conditions and `when` hold for a request.

    Raises:
        MainstemError: when a condition cannot be decided.
    """
    scope = {"trigger": dict(seen)}
    context = ConditionContext(render, flow.namespace, flow.id, variables=scope, labels=flow.labels)
    return all_hold(trigger.conditions, context) and (trigger.when is None or is_truthy(render(trigger.when, scope)))


def find(engine: Engine, flow: Flow, key: str) -> tuple[Webhook, RenderText] | None:
    """Return the webhook that `key` opens in the flow, unless it is switched off, and what renders its templates."""
    version = engine.catalogue.version(flow.namespace, flow.id)
    render = renderer(engine.host, flow, version, engine.host.clock())
    trigger = match(flow, key, render)
    if trigger is None:
        return None
    row = engine.store.read(lambda db: db.triggers.get(flow.namespace, flow.id, trigger.id))
    return None if row is not None and row.disabled else (trigger, render)


def request_for(flow: Flow, trigger: Webhook, seen: Mapping[str, Any], render: RenderText) -> NewExecution | None:
    """Return the execution that a request asks for; None when the trigger's conditions do not hold.

    Raises:
        MainstemError: when a condition cannot be decided or an input of the trigger does not render.
    """
    return request(flow, trigger, seen, render) if accepts(flow, trigger, seen, render) else None


def _opens(trigger: Webhook, key: str, render: RenderText) -> bool:
    try:
        own = render(trigger.key, None) if "{" in trigger.key else trigger.key
    except StoreError:
        raise  # who sends it is to send it again, which nobody does after "no such webhook"
    except MainstemError:
        return False  # a secret that is missing here must not show as anything but "no such webhook"
    return hmac.compare_digest(own.strip().encode(), key.strip().encode()) and bool(own.strip())


def _lists(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found
