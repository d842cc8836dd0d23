"""What follows commits and must happen at least once: waiting parents hear of their children, flow triggers fire.

Each row of the outbox is handled in one transaction that also removes it, so that two workers that see the same row
do it once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from runner.errors import ConflictError, FlowError, MainstemError, NotFoundError, StoreError, TaskError
from runner.executions.engine import Engine
from runner.executions.items import counted, is_complete, items_outputs, items_state
from runner.executions.models import (
    OUTBOX_CHILD_ENDED,
    OUTBOX_CHILD_RESTART,
    OUTBOX_FLOW_EVENT,
    Execution,
    OutboxRow,
    TaskRun,
)
from runner.executions.outputs import kept
from runner.executions.reruns import Reruns
from runner.executions.subflows import subflow_result, waits_for
from runner.states import State
from runner.store import Session
from runner.tasks.flow import Subflow
from runner.tasks.for_each_item import Items

log = logging.getLogger(__name__)

_AT_ONCE = 200


class Effects:
    """Handles the follow-up rows of the outbox. `run_once` may be called from any thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = engine.store
        self._handlers: dict[str, Callable[[OutboxRow], None]] = {
            OUTBOX_CHILD_ENDED: self._child_ended,
            OUTBOX_CHILD_RESTART: self._restart_child,
            OUTBOX_FLOW_EVENT: self._flow_event,
        }

    def run_once(self) -> int:
        """Handle the rows that are due and return how many there were."""
        now = self._engine.host.clock()
        rows = self._store.read(lambda db: db.outbox.take(tuple(self._handlers), _AT_ONCE, now))
        for row in rows:
            try:
                self._handlers[row.kind](row)
            except StoreError:
                raise  # the store is away: the row stays and is taken again
            except MainstemError as error:
                # What cannot be done now will not be possible later either: say so and go on with the others.
                log.warning(
                    "a follow-up failed",
                    extra={"kind": row.kind, "key": row.key, "error": self._engine.host.masker.mask(error.message)},
                )
                self._drop(row)
            except Exception:  # one row that nobody expected must not keep all others waiting behind it for ever
                log.exception("a follow-up failed", extra={"kind": row.kind, "key": row.key})
                self._drop(row)
        return len(rows)

    def _drop(self, row: OutboxRow) -> None:
        self._store.write(lambda db: db.outbox.delete([row.id]))

    def _child_ended(self, row: OutboxRow) -> None:
        child = self._store.read(lambda db: db.executions.get(row.key))
        run_id = child.parent_task_run_id if child else None
        run = self._store.read(lambda db: db.executions.run(run_id)) if run_id else None
        if child is None or run is None or not waits_for(run, child):
            self._drop(row)
            return
        parent = self._engine.get(run.execution_id)
        try:
            flow = self._engine.catalogue.index(parent.namespace, parent.flow_id, parent.flow_revision)
        except (FlowError, NotFoundError):
            task = None  # the parent has no usable flow any more, and learns that when it hears of its child
        else:
            task = flow.tasks.get(run.task_id)
        if isinstance(task, Items):
            self._count(row, run, task, child.state)
            return
        state, outputs = subflow_result(task if isinstance(task, Subflow) else None, child)

        message = None if state is State.SUCCESS else f"the subflow ended {child.state.value}"
        try:
            outputs = kept(self._engine.host.storage, parent, run, outputs)
        except TaskError as error:  # the parent must hear of the end all the same
            state, outputs, message = State.FAILED, {"executionId": child.id}, error.message

        def record(db: Session) -> bool:
            if db.outbox.delete([row.id]) != 1:
                return False
            recorded = db.claims.record(
                run.id,
                run.epoch,
                result=state,
                outputs=outputs,
                error=message,
                exit_code=None,
                failure_reason=None,
                at=self._engine.host.clock(),
            )
            return recorded is not None

        if self._store.write(record):
            self._engine.ring([run.execution_id])

    def _restart_child(self, row: OutboxRow) -> None:
        """Restart the execution of a Subflow task; a task whose execution cannot be restarted fails."""
        child_id = str(row.payload.get("child", row.key))  # older rows have the child as their key
        child = self._store.read(lambda db: db.executions.get(child_id))
        run = self._waiting(row, child)
        if run is None or (child is not None and not child.state.is_terminal):
            self._drop(row)  # nobody waits any more, or it goes on already, and its end will be heard of
            return
        try:
            Reruns(self._engine).restart(child_id, asked_by=row)
            if self._engine.get(run.execution_id).state is State.KILLING:
                self._engine.kill_children(run.execution_id)  # whoever killed it found this one ended
            self._engine.ring([child_id])
        except StoreError:
            raise
        except ConflictError:
            self._drop(row)  # somebody restarted it meanwhile
        except MainstemError as error:
            state = child.state if child is not None else State.KILLED
            outputs = {"executionId": child_id, "state": state.value}
            self._fail_parent(row, run, outputs, f"the subflow {child_id} could not be restarted: {error.message}")

    def _waiting(self, row: OutboxRow, child: Execution | None) -> TaskRun | None:
        """Return the run that waits for the restart of its execution; None when it does no longer."""
        of_child = child.parent_task_run_id if child is not None else None
        run_id = row.key if "child" in row.payload else of_child
        run = self._store.read(lambda db: db.executions.run(run_id)) if run_id else None
        return run if run is not None and not run.state.is_terminal else None

    def _fail_parent(self, row: OutboxRow, run: TaskRun, outputs: dict[str, str], message: str) -> None:
        def record(db: Session) -> None:
            if db.outbox.delete([row.id]) == 1:
                db.claims.record(
                    run.id,
                    run.epoch,
                    result=State.FAILED,
                    outputs=outputs,
                    error=message,
                    exit_code=None,
                    failure_reason=None,
                    at=self._engine.host.clock(),
                )

        self._store.write(record)
        self._engine.ring([run.execution_id])

    def _count(self, row: OutboxRow, run: TaskRun, task: Items, ended: State) -> None:
        """Count an execution of a ForEachItem that has ended; the last one gives the task its result."""

        def count(db: Session) -> bool:
            if db.outbox.delete([row.id]) != 1:
                return False
            current = db.claims.held(run.id, run.epoch)
            if current is None:
                return False
            memory = counted(current.memory, ended)
            db.claims.remember(run.id, memory, items_outputs(memory))
            if not is_complete(memory):
                return False
            state = items_state(memory, transmits=task.transmit_failed)
            recorded = db.claims.record(
                run.id,
                run.epoch,
                result=state,
                outputs=items_outputs(memory),
                error=None if state is State.SUCCESS else f"of the executions {memory['ended']}",
                exit_code=None,
                failure_reason=None,
                at=self._engine.host.clock(),
            )
            return recorded is not None

        if self._store.write(count):
            self._engine.ring([run.execution_id])

    def _flow_event(self, row: OutboxRow) -> None:
        from runner.triggers.control import stopped_by, switch_off_after
        from runner.triggers.flow_trigger import requests_after

        execution = self._engine.get(row.key)
        state = State(row.payload["state"])
        wanted = requests_after(self._engine, execution, state)
        stopped = stopped_by(self._engine.catalogue, execution)

        def start(db: Session) -> list[str]:
            if db.outbox.delete([row.id]) != 1:
                return []
            if stopped is not None:
                switch_off_after(db, execution, stopped, self._engine.host.clock())
            started = []
            for new in wanted(db):
                try:
                    started.append(self._engine.create_in(db, new).id)
                except StoreError:
                    raise  # nothing is refused: the row stays and is taken again
                except MainstemError as error:
                    # Refused before anything was written; the flows that listen beside it must start all the same.
                    name = f"{new.namespace}.{new.flow_id}"
                    log.warning(
                        "a flow trigger could not start",
                        extra={"flow": name, "error": self._engine.host.masker.mask(error.message)},
                    )
            return started

        self._engine.ring(self._store.write(start))
