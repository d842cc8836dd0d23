"""Executions that failed before they began: what a trigger could not start leaves one that says why."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from runner.errors import MainstemError
from runner.executions.creation import CORRELATION
from runner.executions.models import Execution, HistoryRow, LogEntry, TriggerInfo
from runner.flows.aliases import canonical
from runner.flows.models import Flow, Trigger
from runner.ids import new_id
from runner.states import State
from runner.store import Session
from runner.store.records import FlowVersion


def stillborn(
    flow: Flow,
    trigger: Trigger,
    version: FlowVersion,
    variables: Mapping[str, Any],
    now: datetime,
    error: MainstemError,
) -> Execution:
    """Return a FAILED execution of a trigger with the reason; `variables` are what it would have seen as `trigger`."""
    execution_id = new_id()
    labels = {name: text for name, text in flow.labels.items() if not name.startswith("system.")}
    created = Execution(
        id=execution_id,
        namespace=flow.namespace,
        flow_id=flow.id,
        flow_revision=version.revision,
        state=State.CREATED,
        created_at=now,
        environment=version.environment,
        commit=version.commit,
        labels={**labels, CORRELATION: execution_id},
        trigger=TriggerInfo(trigger.id, canonical(trigger.type), dict(variables)),
        original_id=execution_id,
        histories=((State.CREATED, now),),
        error=error.message,
    )
    return created.enter(State.FAILED, now)


def insert(db: Session, execution: Execution) -> None:
    """Store such an execution with its history."""
    history = [HistoryRow(execution.id, 0, state.value, at) for state, at in execution.histories]
    db.executions.insert(execution, history=history)


def line_of(execution: Execution, message: str) -> LogEntry:
    """Return the line of its log; `message` is masked already."""
    assert execution.trigger is not None
    return LogEntry(
        execution.id,
        execution.namespace,
        execution.flow_id,
        execution.created_at,
        "ERROR",
        message,
        trigger_id=execution.trigger.id,
    )
