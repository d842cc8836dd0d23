"""Executions that other executions start: which flow triggers a change of state fires."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from runner.errors import MainstemError, StoreError
from runner.executions.creation import CORRELATION, NewExecution
from runner.executions.models import Attempt, Execution
from runner.flows.models import Flow
from runner.services import Host
from runner.states import State
from runner.store import Session
from runner.store.records import FlowVersion, TriggerState
from runner.triggers.conditions import RenderText
from runner.triggers.matching import Change, Match, concerns, match, needs_attempts
from runner.triggers.models import FlowTrigger
from runner.triggers.starting import renderer, request, trigger_key
from runner.triggers.stillborn import insert, stillborn

if TYPE_CHECKING:
    from runner.executions.engine import Engine

log = logging.getLogger(__name__)

FLOW = "FLOW"
"""The kind of a flow trigger's row in the store."""


def requests_after(engine: Engine, execution: Execution, state: State) -> Callable[[Session], list[NewExecution]]:
    """Return what gives, inside a write transaction, the executions to start because one entered a state.

    What the triggers remember is read and written in that transaction, so that two ends at one moment both count.
    A trigger that cannot be decided or whose inputs do not render starts nothing and is named in the log.
    """
    change = Change(execution, state, engine.host.clock())
    asked = [
        (flow, trigger) for flow, trigger in engine.catalogue.triggers(FlowTrigger) if concerns(flow, trigger, change)
    ]
    if any(needs_attempts(trigger) for _, trigger in asked):
        attempts = engine.store.read(lambda db: db.executions.attempts(execution.id))
        change = replace(change, attempts=states_of(attempts))
    versions = {(flow.namespace, flow.id): engine.catalogue.version(flow.namespace, flow.id) for flow, _ in asked}

    def start(db: Session) -> list[NewExecution]:
        found: list[NewExecution] = []
        for flow, trigger in asked:
            found.extend(_ask(db, engine.host, flow, trigger, versions[flow.namespace, flow.id], change))
        return found

    return start


def states_of(attempts: list[Attempt]) -> tuple[tuple[State, ...], ...]:
    """Return the states of attempts, one tuple per task run."""
    by_run: dict[str, list[State]] = {}
    for attempt in attempts:
        by_run.setdefault(attempt.task_run_id, []).append(attempt.state)
    return tuple(tuple(states) for states in by_run.values())


def _ask(
    db: Session, host: Host, flow: Flow, trigger: FlowTrigger, version: FlowVersion, change: Change
) -> Iterator[NewExecution]:
    db.executions.lock_flow(flow.namespace, flow.id)
    row = db.triggers.get(flow.namespace, flow.id, trigger.id)
    if row is not None and row.disabled:
        return
    row = row or TriggerState(flow.namespace, flow.id, trigger.id, FLOW)
    found: Match | None = None
    try:
        render = renderer(host, flow, version, change.at)
        found = match(trigger, change, row.memory, host.zone, render)
        wanted = [_request(flow, trigger, change, found, render)] if found.fires else []
    except StoreError:
        raise  # nothing is decided: the end of the execution is looked at again
    except MainstemError as error:
        log.warning(
            "a flow trigger could not be decided",
            extra={
                "trigger": trigger_key(flow, trigger),
                "execution": change.execution.id,
                "error": host.masker.mask(error.message),
            },
        )
        if not (trigger.fail_on_trigger_error or (found is not None and trigger.depends_on)):
            return
        # The language of 2.0: what fired and could not start leaves an execution that says why.
        insert(db, stillborn(flow, trigger, version, change.variables(), change.at, error))
        found, wanted = found or Match(fires=True, memory=dict(row.memory)), []
    if found.fires or found.memory != row.memory:
        fired = change.at if found.fires else row.last_at
        db.triggers.put(replace(row, memory=found.memory, last_at=fired, evaluated_at=change.at, updated_at=change.at))
    yield from wanted


def _request(flow: Flow, trigger: FlowTrigger, change: Change, found: Match, render: RenderText) -> NewExecution:
    upstream = change.execution
    return request(
        flow,
        trigger,
        found.variables,
        render,
        correlation_id=upstream.labels.get(CORRELATION, upstream.id),
        scope={**change.scope(), "trigger": found.variables},
    )
