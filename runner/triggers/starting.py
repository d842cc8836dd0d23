"""From a trigger that fires to the request for an execution: its inputs, labels and what it sees as `trigger`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from runner.errors import MainstemError, StoreError
from runner.executions.creation import NewExecution, creation_variables
from runner.executions.models import Execution, TriggerInfo
from runner.expressions import Scope, render
from runner.flows.aliases import canonical
from runner.flows.models import Flow, Trigger
from runner.services import Host
from runner.states import State
from runner.store.records import FlowVersion
from runner.triggers.conditions import RenderText, labels_of
from runner.triggers.models import FlowTrigger

log = logging.getLogger(__name__)


def request(
    flow: Flow,
    trigger: Trigger,
    variables: Mapping[str, Any],
    render_text: RenderText,
    *,
    schedule_date: datetime | None = None,
    correlation_id: str | None = None,
    depth: int = 0,
    scope: Mapping[str, Any] | None = None,
) -> NewExecution:
    """Return the request for the execution that a trigger starts.

    Args:
        flow: the flow of the trigger.
        trigger: the trigger.
        variables: what the execution sees as `trigger`.
        render_text: renders templates for this flow.
        schedule_date: the date the execution stands for, if it is one of a list.
        correlation_id: that of the execution which caused this one.
        depth: how many executions lie between the first of the chain and this one.
        scope: variables for the trigger's own expressions, over `trigger`.

    Raises:
        MainstemError: when an input of the trigger does not render. A label that does not is left out with a warning.
    """
    seen = {"trigger": dict(variables), **(scope or {})}
    return NewExecution(
        namespace=flow.namespace,
        flow_id=flow.id,
        inputs=_deep(trigger.inputs or {}, seen, render_text),
        labels=_labels(flow, trigger, seen, render_text),
        trigger=TriggerInfo(trigger.id, canonical(trigger.type), dict(variables)),
        schedule_date=schedule_date,
        correlation_id=correlation_id,
        depth=depth,
        typed_inputs=True,
        inputs_optional=isinstance(trigger, FlowTrigger) and trigger.inputs is None,
    )


def renderer(host: Host, flow: Flow, version: FlowVersion, now: datetime) -> RenderText:
    """Return what renders the templates of a flow's triggers: there is no execution yet, only the flow."""
    nobody = Execution(
        id="",
        namespace=flow.namespace,
        flow_id=flow.id,
        flow_revision=version.revision,
        state=State.CREATED,
        created_at=now,
        environment=version.environment,
        commit=version.commit,
    )
    known = creation_variables(nobody, flow, host)
    services = host.expression_services(flow, nobody)

    def text(template: str, variables: Mapping[str, Any] | None = None, /) -> str:
        return render(template, Scope(known.plus(variables or {}), services))

    return text


def trigger_key(flow: Flow, trigger: Trigger) -> str:
    """Return the name under which the ticks of a trigger are unique."""
    return f"{flow.namespace}/{flow.id}/{trigger.id}"


def _labels(flow: Flow, trigger: Trigger, seen: Mapping[str, Any], render_text: RenderText) -> dict[str, str]:
    labels = {}
    for key, text in labels_of(trigger.labels).items():
        if key.startswith("system."):
            log.warning(
                "a trigger cannot set a system label", extra={"trigger": trigger_key(flow, trigger), "key": key}
            )
            continue
        try:
            labels[key] = render_text(text, seen) if "{" in text else text
        except StoreError:
            raise  # it says nothing about the label
        except MainstemError as error:
            log.warning(
                "a label of a trigger does not render",
                extra={"trigger": trigger_key(flow, trigger), "key": key, "code": error.code},
            )
    return labels


def _deep(value: Any, seen: Mapping[str, Any], render_text: RenderText) -> Any:
    if isinstance(value, str):
        return render_text(value, seen) if "{" in value else value
    if isinstance(value, Mapping):
        return {key: _deep(item, seen, render_text) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_deep(item, seen, render_text) for item in value]
    return value
