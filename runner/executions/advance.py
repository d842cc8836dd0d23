"""Load, decide, commit, ring: the shell around `step`, for a burst of executions at a time.

One burst reads its executions in one snapshot, decides each, hands all commits to the store's group commit and waits
once. An execution whose commit lost against another one is decided again from what is stored now.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from runner.errors import MainstemError
from runner.executions.burst import BurstActions, StartSubflow
from runner.executions.changes import Changes
from runner.executions.models import (
    OUTBOX_ADVANCE,
    OUTBOX_CHILD_ENDED,
    OUTBOX_FLOW_EVENT,
    OUTBOX_REPORT,
    OUTBOX_RUN,
    Commit,
    Execution,
    Loaded,
    LogEntry,
    OutboxRow,
)
from runner.executions.ports import Doorbell
from runner.executions.step import step
from runner.executions.tree import Tree
from runner.flows.catalogue import Catalogue
from runner.flows.models import Concurrency
from runner.services import Host
from runner.states import State
from runner.store import Session, Store
from runner.triggers.models import FlowTrigger

log = logging.getLogger(__name__)

_MOST_TRIES = 100  # of one execution against concurrent commits, before it is left to the next doorbell


@dataclass(frozen=True, slots=True)
class _Decided:
    """A decision on its way to the store. `refused` is written instead when the flow's concurrency limit is reached."""

    admitted: Commit
    refused: Commit | None = None
    limit: int = 0
    logs: tuple[LogEntry, ...] = ()
    stop_runs: tuple[str, ...] = ()
    kills_children: bool = False


class Advancer:
    """Moves executions forward. Safe for any thread."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        host: Host,
        doorbell: Doorbell,
        changes: Changes,
        start_subflow: StartSubflow,
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._host = host
        self._doorbell = doorbell
        self._changes = changes
        self._start_subflow = start_subflow

    def advance(self, execution_ids: Iterable[str]) -> None:
        """Bring executions as far as they can go now. Unknown ids are ignored; running it again changes nothing."""
        pending = list(dict.fromkeys(execution_ids))
        for _ in range(_MOST_TRIES):
            if not pending:
                return
            pending = self._burst(pending)
        log.warning("executions kept losing their commits", extra={"executions": len(pending)})

    def _burst(self, execution_ids: list[str]) -> list[str]:
        """Advance each id once; return those whose commit lost."""
        loaded = self._store.read(lambda db: db.executions.load_many(execution_ids))
        waiting: list[tuple[_Decided, Future[Commit | None]]] = []
        idle: list[int] = []
        for each in loaded:
            decided = self._decide(each)
            if decided is None:
                idle.extend(each.doorbells)
            else:
                waiting.append((decided, self._store.submit(partial(_write, decided))))
        if idle:
            self._store.submit(lambda db: db.outbox.delete(idle))
        lost = []
        for decided, future in waiting:
            written = future.result()
            if written is None:
                lost.append(decided.admitted.execution.id)
            else:
                self._after(decided, written)
        return lost

    def _decide(self, loaded: Loaded) -> _Decided | None:
        now = self._host.clock()
        execution = loaded.execution
        if execution.state is State.CREATED and execution.due_at is not None and execution.due_at > now:
            return None
        try:
            index = self._catalogue.index(execution.namespace, execution.flow_id, execution.flow_revision)
        except MainstemError as error:
            return _without_flow(loaded, error, now)
        tree = Tree(index, loaded)
        step(tree, BurstActions(tree, self._host, now, lambda: self._outputs(execution.id), self._start_subflow))
        if not tree.is_changed:
            self._stop_bodies(execution.id, tree.stop_runs, kills_children=bool(tree.kill_children))
            return None
        self._add_effects(tree, execution)
        limit = index.flow.concurrency
        waits = limit is not None and execution.state in {State.CREATED, State.QUEUED}
        return _Decided(
            admitted=tree.commit(),
            refused=_refusal(loaded, limit, now) if limit and waits else None,
            limit=limit.limit if limit else 0,
            logs=tuple(tree.logs),
            stop_runs=tuple(tree.stop_runs),
            kills_children=bool(tree.kill_children),
        )

    def _outputs(self, execution_id: str) -> Mapping[str, dict[str, Any]]:
        return self._store.read(lambda db: db.executions.outputs(execution_id))

    def _add_effects(self, tree: Tree, before: Execution) -> None:
        """Add what must follow the commit: the report, the waiting parent, flows that listen to this one."""
        entered = tree.execution.histories[len(before.histories) :]
        ended = tree.execution.state.is_terminal and not before.state.is_terminal
        if ended:
            tree.outbox.extend(rows_at_end(tree.execution, reports=self._host.settings.reports.enabled))
        if entered and self._catalogue.triggers(FlowTrigger):
            tree.outbox.extend(
                OutboxRow(OUTBOX_FLOW_EVENT, tree.execution.id, {"state": state.value}) for state, _ in entered
            )

    def _after(self, decided: _Decided, written: Commit) -> None:
        """Do what follows a durable commit. Whatever is lost here by a crash, the sweeper does later."""
        execution = written.execution
        if decided.logs and written is decided.admitted:
            mask = self._host.masker.mask
            self._store.logs.append([replace(entry, message=mask(entry.message)) for entry in decided.logs])
        self._changes.publish(execution)
        self._ring(written)
        self._stop_bodies(execution.id, decided.stop_runs, kills_children=decided.kills_children)
        if decided.limit and execution.state.is_terminal:
            queued = self._store.read(lambda db: db.executions.queued(execution.namespace, execution.flow_id))
            self._doorbell.ring_executions(queued[:1])

    def _ring(self, written: Commit) -> None:
        runs = [
            (row.key, int(row.payload["epoch"]), str(row.payload["queue"]))
            for row in written.outbox
            if row.kind == OUTBOX_RUN
        ]
        executions = [row.key for row in written.outbox if row.kind == OUTBOX_ADVANCE]
        executions += [child.id for child in written.children if child.due_at is None]
        if runs:
            self._doorbell.ring_runs(runs)
        if executions:
            self._doorbell.ring_executions(executions)
        if any(row.kind in {OUTBOX_CHILD_ENDED, OUTBOX_FLOW_EVENT} for row in written.outbox):
            self._doorbell.ring_effects()
        timed = [run.due_at for run in (*written.new_runs, *written.changed_runs)]
        if any((*timed, *(child.due_at for child in written.children))):
            self._doorbell.ring_timers()

    def _stop_bodies(self, execution_id: str, runs: Sequence[str], *, kills_children: bool) -> None:
        if runs:
            self._doorbell.stop_runs(runs)
        if kills_children:
            self._doorbell.kill_children(execution_id)


def rows_at_end(execution: Execution, *, reports: bool) -> list[OutboxRow]:
    """Return what follows the end of any execution: its report, and the result for a parent that waits."""
    rows = []
    if execution.environment is not None and reports:
        rows.append(OutboxRow(OUTBOX_REPORT, execution.id, {"environment": execution.environment}))
    if execution.parent_task_run_id is not None and execution.state is not State.RETRIED:
        rows.append(OutboxRow(OUTBOX_CHILD_ENDED, execution.id))
    return rows


def _write(decided: _Decided, db: Session) -> Commit | None:
    """Write a decision, or its refusal when the flow is full; None when it is out of date."""
    commit, execution = decided.admitted, decided.admitted.execution
    if decided.refused is not None and not _has_place(db, execution, decided.limit):
        commit = decided.refused
    return commit if db.executions.commit(commit) else None


def _has_place(db: Session, execution: Execution, limit: int) -> bool:
    """Return whether an execution may start: there is room, and nobody has waited longer for it."""
    namespace, flow_id = execution.namespace, execution.flow_id
    if not db.executions.admit(execution.id, namespace, flow_id, limit):
        return False
    queued = db.executions.queued(namespace, flow_id)
    return not queued or execution.id in queued[: limit - db.executions.running_count(namespace, flow_id)]


def _refusal(loaded: Loaded, concurrency: Concurrency, now: datetime) -> Commit:
    """Return what is written when the flow's limit is reached: QUEUED, CANCELLED or FAILED."""
    execution = loaded.execution
    state = {"QUEUE": State.QUEUED, "CANCEL": State.CANCELLED, "FAIL": State.FAILED}[concurrency.behavior]
    refused = execution.enter(state, now)
    if state is State.FAILED:
        refused = replace(refused, error=f"the flow already runs {concurrency.limit} executions, its limit")
    return Commit(
        execution=replace(refused, version=execution.version + 1),
        expected_version=execution.version,
        outbox=tuple(rows_at_end(refused, reports=True)) if state.is_terminal else (),
        answered=loaded.doorbells,
    )


def _without_flow(loaded: Loaded, error: MainstemError, now: datetime) -> _Decided | None:
    """Fail an execution whose flow cannot be read (any more): it must end, and must not stop the others."""
    execution = loaded.execution
    if execution.state.is_terminal:
        return None
    log.warning("an execution has no usable flow", extra={"execution": execution.id, "error": error.message})
    failed = replace(execution.enter(State.FAILED, now), error=error.message, version=execution.version + 1)
    open_runs = [run for run in loaded.runs if not run.state.is_terminal]
    return _Decided(
        Commit(
            execution=failed,
            expected_version=execution.version,
            changed_runs=tuple(replace(run.enter(State.FAILED, now), due_at=None) for run in open_runs),
            outbox=tuple(rows_at_end(failed, reports=True)),
            answered=loaded.doorbells,
        ),
        stop_runs=tuple(run.id for run in open_runs if run.state is State.RUNNING),
    )
