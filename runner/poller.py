"""Looks at polling triggers when their time has come, on threads of its own: they ask networks and run programs.

A look is taken by moving the trigger's next date on, so that of several schedulers one looks. What is found and the
execution it starts are one commit. A look that fails is logged and repeated after the interval.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from runner.context import TaskContext
from runner.errors import FlowError, MainstemError, NotFoundError, StoreError
from runner.executions.creation import NewExecution, creation_variables
from runner.executions.engine import Engine
from runner.executions.models import Execution, LogEntry, TaskRun
from runner.expressions import is_truthy
from runner.flows.models import Flow
from runner.states import State
from runner.store import Session
from runner.store.records import FlowVersion, TriggerState
from runner.triggers.conditions import ConditionContext, all_hold
from runner.triggers.control import stops
from runner.triggers.polling import Look, PollingTrigger
from runner.triggers.starting import renderer, request
from runner.triggers.stillborn import insert, line_of, stillborn

log = logging.getLogger(__name__)

POLLING: Final = "POLLING"
_AT_ONCE: Final = 4
_LONGEST_S: Final = 3600.0  # a look that takes longer is ended


@dataclass(frozen=True, slots=True)
class _Due:
    """A trigger that has been taken to be looked at, with its row as it was written then."""

    row: TriggerState
    flow: Flow
    version: FlowVersion
    trigger: PollingTrigger


class Poller:
    """Takes due triggers and looks at them. `begin` returns at once; `stop` ends the looks that go on."""

    def __init__(self, engine: Engine, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._store = engine.store
        self._clock = clock
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="poll")
        self._stopping = threading.Event()
        self._going_on: set[str] = set()

    def stop(self) -> None:
        """Begin no more looks, and have those that go on ended."""
        self._stopping.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def begin(self, row: TriggerState, now: datetime) -> None:
        """Have a trigger looked at whose date has come, unless the execution it started last is still going on."""
        due = self._take(row, now)
        if due is not None and not self._stopping.is_set():
            self._going_on.add(_name(row))
            self._pool.submit(self._safely, due)

    def _take(self, row: TriggerState, now: datetime) -> _Due | None:
        """Move the trigger's next date on; None when somebody else did, or there is nothing to look at."""
        try:
            version = self._engine.catalogue.version(row.namespace, row.flow_id)
            flow = self._engine.catalogue.get(row.namespace, row.flow_id)
        except (NotFoundError, FlowError):
            self._move(row, next_at=None)
            return None
        trigger = next((one for one in flow.triggers if one.id == row.trigger_id), None)
        if not isinstance(trigger, PollingTrigger) or trigger.disabled or flow.disabled or flow.draft:
            self._move(row, next_at=None)
            return None
        last = self._last(row)
        if last is not None and stops(row, trigger, last):
            self._move(row, disabled=True, updated_at=now)
            return None
        if _name(row) in self._going_on:
            self._move(row, next_at=now + trigger.interval)
            return None
        taken = self._move(row, next_at=now + trigger.interval, evaluated_at=now, updated_at=now)
        if taken is None or (last is not None and not last.state.is_terminal and not trigger.allow_concurrent):
            return None
        return _Due(taken, flow, version, trigger)

    def _last(self, row: TriggerState) -> Execution | None:
        last_id = row.execution_id
        return self._store.read(lambda db: db.executions.get(last_id)) if last_id is not None else None

    def _move(self, row: TriggerState, **changes: Any) -> TriggerState | None:
        """Write a changed row and return it; None when the trigger has moved on since `row` was read."""

        def move(db: Session) -> TriggerState | None:
            current = db.triggers.get(row.namespace, row.flow_id, row.trigger_id)
            if current is None or current.next_at != row.next_at or current.disabled:
                return None
            changed = replace(current, **changes)
            db.triggers.put(changed)
            return changed

        return self._store.write(move)

    # ---------------------------------------------------------------- one look

    def _safely(self, due: _Due) -> None:
        try:
            self._look(due)
        except MainstemError as error:
            log.warning(
                "a trigger could not be looked at",
                extra={"trigger": _name(due.row), "error": self._engine.host.masker.mask(error.message)},
            )
            if due.trigger.fail_on_trigger_error and not isinstance(error, StoreError):
                self._fail(due, {}, error)
        except Exception:  # the thread boundary: a plugin may raise anything
            log.exception("a trigger failed", extra={"trigger": _name(due.row)})
        finally:
            self._going_on.discard(_name(due.row))

    def _look(self, due: _Due) -> None:
        lines: list[LogEntry] = []
        execution = self._future(due)
        with self._context(due, execution, lines) as context:
            timer = threading.Timer(_LONGEST_S, context.cancelled.set)
            timer.daemon = True
            timer.start()
            try:
                found = due.trigger.look(context, due.row.memory.get("seen") or {})
            finally:
                timer.cancel()
        try:
            new = self._request(due, execution, found)
            created = self._store.write(lambda db: self._keep(db, due, found, new))
        except StoreError:
            raise  # it says nothing about what was found, which is found again
        except MainstemError as error:
            self._fail(due, found.outputs or {}, error, seen=found.memory)
            return
        if created is None:
            return
        self._engine.ring([created.id])
        mask = self._engine.host.masker.mask
        entries = [replace(line, message=mask(line.message), trigger_id=due.trigger.id, task_id=None) for line in lines]
        self._store.logs.append(entries)

    def _fail(
        self, due: _Due, outputs: Mapping[str, Any], error: MainstemError, seen: Mapping[str, Any] | None = None
    ) -> None:
        """Leave an execution that says why nothing started; what was `seen` is not looked at again."""
        execution = stillborn(due.flow, due.trigger, due.version, outputs, self._clock(), error)

        def record(db: Session) -> bool:
            current = self._current(db, due)
            if current is None:
                return False
            memory = {**current.memory, "seen": dict(seen)} if seen is not None else current.memory
            db.triggers.put(replace(current, memory=memory, last_at=execution.created_at))
            insert(db, execution)
            return True

        if self._store.write(record):
            self._store.logs.append([line_of(execution, self._engine.host.masker.mask(error.message))])

    def _future(self, due: _Due) -> Execution:
        """Return the execution as it will be if the look finds something: its files are stored under its id."""
        return Execution(
            id=self._engine.host.new_id(),
            namespace=due.flow.namespace,
            flow_id=due.flow.id,
            flow_revision=due.version.revision,
            state=State.CREATED,
            created_at=self._clock(),
            environment=due.version.environment,
            commit=due.version.commit,
        )

    def _context(self, due: _Due, execution: Execution, lines: list[LogEntry]) -> TaskContext:
        host = replace(self._engine.host, log=lines.append, metric=lambda _metric: None)
        run = TaskRun(host.new_id(), execution.id, due.trigger.id, State.RUNNING, execution.created_at)
        seen = {"trigger": {"id": due.trigger.id, "type": due.trigger.type}}
        variables = creation_variables(execution, due.flow, host).plus(seen)
        return TaskContext(host, due.flow, execution, run, variables, cancelled=self._stopping)

    def _request(self, due: _Due, execution: Execution, found: Look) -> NewExecution | None:
        """Return the request for an execution; None when there is nothing to start, or the conditions do not hold."""
        if found.outputs is None:
            return None
        flow, trigger = due.flow, due.trigger
        render = renderer(self._engine.host, flow, due.version, self._clock())
        scope = {"trigger": dict(found.outputs)}
        context = ConditionContext(render, flow.namespace, flow.id, variables=scope, labels=flow.labels)
        if not all_hold(trigger.conditions, context):
            return None
        if trigger.when is not None and not is_truthy(render(trigger.when, scope)):
            return None
        return replace(request(flow, trigger, found.outputs, render), id=execution.id)

    def _keep(self, db: Session, due: _Due, found: Look, new: NewExecution | None) -> Execution | None:
        """Write what was found, and the execution it starts, unless the trigger was changed or removed meanwhile."""
        current = self._current(db, due)
        if current is None:
            return None
        execution = self._engine.create_in(db, new) if new is not None else None
        memory = {**current.memory, "seen": dict(found.memory)}
        if execution is not None:
            current = replace(current, execution_id=execution.id, last_at=self._clock())
        db.triggers.put(replace(current, memory=memory))
        return execution

    @staticmethod
    def _current(db: Session, due: _Due) -> TriggerState | None:
        """Return the trigger's row; None when it was changed, switched off or removed during the look."""
        current = db.triggers.get(due.row.namespace, due.row.flow_id, due.row.trigger_id)
        is_old = current is None or current.disabled or current.evaluated_at != due.row.evaluated_at
        return None if is_old else current


def _name(row: TriggerState) -> str:
    return f"{row.namespace}/{row.flow_id}/{row.trigger_id}"
