"""Load, decide, commit, ring: the shell around `step`, for a burst of executions at a time.

One burst reads its executions in one snapshot, decides each, hands all commits to the store's group commit and waits
once. An execution whose commit lost against another one is decided again from what is stored now.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from runner.errors import MainstemError, StoreError
from runner.executions.burst import BurstActions, StartSubflow
from runner.executions.changes import Changes
from runner.executions.following import history_between, rows_after
from runner.executions.models import (
    OUTBOX_ADVANCE,
    OUTBOX_CHILD_ENDED,
    OUTBOX_CHILD_RESTART,
    OUTBOX_FLOW_EVENT,
    OUTBOX_RUN,
    Commit,
    Execution,
    Loaded,
    LogEntry,
    OutboxRow,
)
from runner.executions.places import Places
from runner.executions.ports import Doorbell
from runner.executions.rest import StoredRuns
from runner.executions.step import step
from runner.executions.tree import Tree
from runner.executions.turns import Turns
from runner.flows.catalogue import Catalogue
from runner.flows.models import Concurrency
from runner.services import Host
from runner.states import State
from runner.store import Session, Store
from runner.triggers.control import stopped_by
from runner.triggers.models import FlowTrigger

log = logging.getLogger(__name__)

_MOST_ROUNDS = 100  # of one execution on one thread, before the next doorbell takes it further


@dataclass(frozen=True, slots=True)
class _Decided:
    """A decision on its way to the store. `refused` is written instead when the flow's concurrency limit is reached."""

    admitted: Commit
    refused: Commit | None = None
    places: Places | None = None
    again: bool = False  # it was restarted
    logs: tuple[LogEntry, ...] = ()
    stop_runs: tuple[str, ...] = ()
    kills_children: bool = False


@dataclass(frozen=True, slots=True)
class _Written:
    """A decision that stands in the store, and who was rung for because it made room."""

    commit: Commit
    next_ones: Sequence[str] = ()


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
        self._turns = Turns()

    def advance(self, execution_ids: Iterable[str]) -> None:
        """Bring executions as far as they can go now. Unknown ids are ignored; running it again changes nothing.

        One that another thread has is left to that thread, which takes what is stored by now into account.
        """
        pending = self._turns.take(dict.fromkeys(execution_ids))
        try:
            for _ in range(_MOST_ROUNDS):
                if not pending:
                    return
                pending = self._round(pending)
        except BaseException:  # what others rang for meanwhile must be rung again
            if noted := self._turns.drop(pending):
                self._doorbell.ring_executions(noted)
            raise
        self._turns.drop(pending)
        self._doorbell.ring_executions(pending)

    def _round(self, execution_ids: list[str]) -> list[str]:
        """Advance each id once; return those to be advanced again: they lost their commit, or were rung for."""
        # Lines are appended after their commit: who sees the commit and flushes the log gets them.
        with self._store.logs.announced():
            lost = self._burst(execution_ids)
        return lost + self._turns.leave(each for each in execution_ids if each not in lost)

    def _burst(self, execution_ids: list[str]) -> list[str]:
        """Advance each id once; return those whose commit lost."""
        loaded = self._store.read(lambda db: db.executions.load_many(execution_ids))
        waiting: list[tuple[_Decided, Future[_Written | None]]] = []
        idle: list[int] = []
        for each in loaded:
            try:
                decided = self._decide(each)
            except StoreError as error:
                _left(each.execution.id, error)
                continue
            if decided is None:
                idle.extend(each.doorbells)
            else:
                waiting.append((decided, self._store.submit(partial(_write, decided))))
        if idle:
            self._store.submit(lambda db: db.outbox.delete(idle))
        return [execution_id for decided, future in waiting if (execution_id := self._finish(decided, future))]

    def _finish(self, decided: _Decided, future: Future[_Written | None]) -> str | None:
        """Wait for a commit and do what follows it; return the execution when the commit lost against another one."""
        execution_id = decided.admitted.execution.id
        try:
            written = future.result()
        except StoreError as error:
            _left(execution_id, error)
            return None
        if written is None:
            return execution_id
        self._after(decided, written)
        return None

    def places_of(self, execution: Execution) -> Places | None:
        """Return the places of the flow of an execution; None when it has no limit."""
        namespace, flow_id = execution.namespace, execution.flow_id
        try:
            flow = self._catalogue.index(namespace, flow_id, execution.flow_revision).flow
        except StoreError:
            raise
        except MainstemError:
            return Places(namespace, flow_id, None)
        return Places(namespace, flow_id, flow.concurrency.limit) if flow.concurrency is not None else None

    def _decide(self, loaded: Loaded) -> _Decided | None:
        now = self._host.clock()
        execution = loaded.execution
        if execution.state is State.CREATED and execution.due_at is not None and execution.due_at > now:
            return None
        try:
            index = self._catalogue.index(execution.namespace, execution.flow_id, execution.flow_revision)
        except StoreError:
            raise
        except MainstemError as error:
            return self._without_flow(loaded, error.message, now)
        rest = StoredRuns(self._store, execution.id)
        tree = Tree(index, loaded, rest)
        try:
            actions = BurstActions(tree, self._host, now, rest.outputs, self._start_subflow)
            step(tree, actions)
            if actions.fault is not None:
                raise actions.fault
        except StoreError:
            raise
        except Exception as error:  # one execution that cannot be decided must not keep the others of its burst waiting
            log.exception("an execution cannot be decided", extra={"execution": execution.id})
            return self._without_flow(loaded, f"internal error: {type(error).__name__}: {error}", now)
        if not tree.is_changed:
            self._stop_bodies(execution.id, tree.stop_runs, kills_children=bool(tree.kill_children))
            return None
        limit = index.flow.concurrency
        self._add_effects(tree, execution)
        waits = limit is not None and execution.state in {State.CREATED, State.QUEUED, State.RESTARTED}
        return _Decided(
            admitted=replace(tree.commit(), task_outputs=actions.rows_of(tree.outputs), quiet=tree.quiet()),
            refused=self._refusal(loaded, limit, now) if limit and waits else None,
            places=Places(execution.namespace, execution.flow_id, limit.limit) if limit is not None else None,
            again=execution.state is State.RESTARTED,
            logs=tuple(tree.logs),
            stop_runs=tuple(tree.stop_runs),
            kills_children=bool(tree.kill_children),
        )

    def _add_effects(self, tree: Tree, before: Execution) -> None:
        """Add what must follow the commit: reports, waiting parents, flows that listen."""
        tree.outbox.extend(self.rows_after(before, tree.execution))
        for child in tree.started_children:
            if child.state.is_terminal:  # refused by a check of its flow
                tree.outbox.extend(self.rows_after(None, child))

    def rows_after(self, before: Execution | None, after: Execution) -> list[OutboxRow]:
        """Return the outbox rows that go with a commit which makes `after` of `before`; None: it was created."""
        if before is not None and before.histories == after.histories:
            return []
        listened = bool(self._catalogue.triggers(FlowTrigger)) or stopped_by(self._catalogue, after) is not None
        return rows_after(before, after, reports=self._host.settings.reports.enabled, listened=listened)

    def _refusal(self, loaded: Loaded, concurrency: Concurrency, now: datetime) -> Commit:
        """Return what is written when the flow's limit is reached: QUEUED, CANCELLED or FAILED; a restart waits."""
        execution = loaded.execution
        behavior = concurrency.behavior if not loaded.runs else "QUEUE"
        state = {"QUEUE": State.QUEUED, "CANCEL": State.CANCELLED, "FAIL": State.FAILED}[behavior]
        refused = execution.enter(state, now)
        if state is State.FAILED:
            refused = replace(refused, error=f"the flow already runs {concurrency.limit} executions, its limit")
        return Commit(
            execution=replace(refused, version=execution.version + 1),
            expected_version=execution.version,
            history=history_between(execution, refused),
            outbox=tuple(self.rows_after(execution, refused)),
            answered=loaded.doorbells,
        )

    def _without_flow(self, loaded: Loaded, reason: str, now: datetime) -> _Decided | None:
        """Fail an execution whose flow cannot be used (any more): it must end, and must not stop the others."""
        whole = self._store.read(lambda db: db.executions.load(loaded.execution.id)) if loaded.omitted else loaded
        if whole is None or whole.execution.state.is_terminal:
            return None
        loaded, execution = whole, whole.execution
        log.warning(
            "an execution has no usable flow",
            extra={"execution": execution.id, "error": self._host.masker.mask(reason)},
        )
        failed = replace(execution.enter(State.FAILED, now), error=reason, version=execution.version + 1)
        open_runs = [run for run in loaded.runs if not run.state.is_terminal]
        running = tuple(run.id for run in open_runs if run.state is State.RUNNING)
        return _Decided(
            Commit(
                execution=failed,
                expected_version=execution.version,
                changed_runs=tuple(replace(run.enter(State.FAILED, now), due_at=None) for run in open_runs),
                given_up=running,
                history=history_between(execution, failed),
                outbox=tuple(self.rows_after(execution, failed)),
                answered=loaded.doorbells,
            ),
            places=self.places_of(execution),
            stop_runs=running,
        )

    def _after(self, decided: _Decided, written: _Written) -> None:
        """Do what follows a durable commit. Whatever is lost here by a crash, the sweeper does later."""
        execution = written.commit.execution
        if decided.logs and written.commit is decided.admitted:
            mask = self._host.masker.mask
            self._store.logs.append([replace(entry, message=mask(entry.message)) for entry in decided.logs])
        self._changes.publish(execution)
        self._ring(written.commit)
        if written.next_ones:
            self._doorbell.ring_executions(written.next_ones)
        self._stop_bodies(execution.id, decided.stop_runs, kills_children=decided.kills_children)

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
        if any(row.kind in {OUTBOX_CHILD_ENDED, OUTBOX_CHILD_RESTART, OUTBOX_FLOW_EVENT} for row in written.outbox):
            self._doorbell.ring_effects()
        timed = [run.due_at for run in (*written.new_runs, *written.changed_runs)]
        if any((*timed, *(child.due_at for child in written.children))):
            self._doorbell.ring_timers()

    def _stop_bodies(self, execution_id: str, runs: Sequence[str], *, kills_children: bool) -> None:
        if runs:
            self._doorbell.stop_runs(runs)
        if kills_children:
            self._doorbell.kill_children(execution_id)


def _write(decided: _Decided, db: Session) -> _Written | None:
    """Write a decision, or its refusal when the flow is full; None when it is out of date."""
    commit, places = decided.admitted, decided.places
    ends = places is not None and commit.execution.state.is_terminal
    if places is not None and ends:
        places.lock(db)
    if (
        places is not None
        and decided.refused is not None
        and not places.has_room_for(db, commit.execution.id, again=decided.again)
    ):
        commit = decided.refused
    if not db.executions.commit(commit):
        return None
    return _Written(commit, places.ring_next(db) if places is not None and ends else ())


def _left(execution_id: str, error: StoreError) -> None:
    # Its doorbell stands in the store and rings again.
    log.warning("an execution is left for later", extra={"execution": execution_id, "error": error.message})
