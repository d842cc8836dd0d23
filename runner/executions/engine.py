"""Starting executions and acting on them: create, kill, pause, resume, wait, delete.

Each verb loads the execution, decides on what is stored, and commits with a version check; it is tried again when
somebody was faster. The engine holds no state of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime
from typing import Any

from runner.errors import ConflictError, InvalidError, MainstemError, NotFoundError, OverloadedError
from runner.executions.advance import Advancer
from runner.executions.burst import BurstActions
from runner.executions.changes import Changes
from runner.executions.creation import NewExecution, make_execution
from runner.executions.following import history_between
from runner.executions.items import Batch
from runner.executions.models import OUTBOX_ADVANCE, Commit, Execution, HistoryRow, Loaded, OutboxRow, TaskRun
from runner.executions.pauses import resumed_outputs
from runner.executions.places import Places
from runner.executions.ports import Doorbell
from runner.executions.subflows import subflow_request
from runner.executions.tree import Node, Tree
from runner.expressions import Scope, render, render_typed
from runner.flows.catalogue import Catalogue
from runner.flows.inputs import FileInput, InputValue, resolve_inputs, validate_inputs
from runner.previews import demand_inside, demand_room
from runner.services import Host
from runner.states import State
from runner.storage.uris import execution_uri, input_uri
from runner.store import Session, Store
from runner.tasks.flow import Pause

_MOST_TRIES = 100
Decide = Callable[[Loaded, datetime], Commit | None]


class Engine:
    """The door to executions for the API, the scheduler, triggers and the command line. Safe for any thread."""

    def __init__(
        self, store: Store, catalogue: Catalogue, host: Host, doorbell: Doorbell, *, max_backlog: int = 20_000
    ) -> None:
        self.store = store
        self.catalogue = catalogue
        self.host = host = replace(host, engine=self)
        self.doorbell = doorbell
        self.changes = Changes()
        self.advancer = Advancer(store, catalogue, host, doorbell, self.changes, self.start_subflow)
        self.backlog: Callable[[], int] = lambda: 0
        self._max_backlog = max_backlog

    # ---------------------------------------------------------------- creating

    def create(self, new: NewExecution) -> Execution:
        """Start a flow: check the inputs, store the execution durably, ring.

        Raises:
            NotFoundError: `flow.missing`.
            ConflictError: `flow.disabled`, `flow.draft`, `check.failed`, `preview.quota`.
            InvalidError: `input.invalid`, `label.reserved`.
            OverloadedError: `backlog.full` when too many executions wait.
        """
        return self.submit(new).result()

    def submit(self, new: NewExecution) -> Future[Execution]:
        """As `create`, without waiting for the commit. The checks happen now and raise now."""
        self._shed()
        execution = self.make(new)
        done: Future[Execution] = Future()
        done.set_running_or_notify_cancel()  # the caller may go away, the execution is created all the same

        def committed(future: Future[Execution]) -> None:
            error = future.exception()
            if error is not None:
                done.set_exception(error)
                return
            self._after_creation(execution)
            done.set_result(execution)

        self.store.submit(lambda db: self._insert(db, execution)).add_done_callback(committed)
        return done

    def create_in(self, db: Session, new: NewExecution) -> Execution:
        """As `create`, inside an open write transaction; ring it with `ring` after the commit."""
        return self._insert(db, self.make(new))

    def make(self, new: NewExecution) -> Execution:
        """Return the execution that a request asks for, checked and not stored yet. Raises as `create`."""
        demand_room(self.store, self.host.settings.previews, new.namespace)
        version = self.catalogue.version(new.namespace, new.flow_id, new.revision)
        index = self.catalogue.index_of(version)
        return make_execution(new, version, index, self.host, self.host.clock(), self._store_input)

    def _insert(self, db: Session, execution: Execution) -> Execution:
        after = self.advancer.rows_after(None, execution) if execution.state.is_terminal else []
        db.executions.insert(
            execution,
            history=[HistoryRow(execution.id, 0, state.value, at) for state, at in execution.histories],
            outbox=[OutboxRow(OUTBOX_ADVANCE, execution.id), *after],
        )
        return execution

    def _after_creation(self, execution: Execution) -> None:
        if execution.due_at is not None and execution.due_at > self.host.clock():
            self.doorbell.ring_timers()
        else:
            self.doorbell.ring_executions([execution.id])

    def _shed(self) -> None:
        waiting = self.backlog()
        if waiting > self._max_backlog:
            raise OverloadedError(
                "backlog.full",
                f"{waiting} executions wait, more than the limit of {self._max_backlog}",
                retry_after_s=2,
            )

    def _store_input(self, execution: Execution, input_id: str, file: FileInput) -> str:
        own = execution_uri(execution.namespace, execution.flow_id, execution.id)
        uri = input_uri(own, input_id, file.name)
        self.host.storage.put(uri, file.source)
        return uri

    def start_subflow(self, tree: Tree, node: Node, actions: BurstActions, batch: Batch | None = None) -> Execution:
        """Return the execution that a Subflow task creates, not stored yet. Raises as `create`."""
        new = subflow_request(tree, node, actions, batch)
        demand_inside(tree.execution.namespace, new.namespace)
        try:
            return self.make(new)
        except NotFoundError as error:
            # The words by which users of Kestra know this failure, since it stands in the log of their flow.
            revision = f" with revision '{new.revision}'" if new.revision is not None else ""
            message = f"Unable to find flow '{new.namespace}'.'{new.flow_id}'{revision}"
            raise NotFoundError(error.code, message, hint=error.hint) from None

    # ---------------------------------------------------------------- looking

    def get(self, execution_id: str) -> Execution:
        """Return an execution. Raises `NotFoundError` `execution.missing`."""
        found = self.store.read(lambda db: db.executions.get(execution_id))
        if found is None:
            raise NotFoundError("execution.missing", f"there is no execution {execution_id}")
        return found

    def wait(self, execution_id: str, timeout_s: float) -> Execution | None:
        """Wait until an execution has ended and return it; None after `timeout_s` seconds."""
        ended = threading.Event()
        unsubscribe = self.changes.subscribe(
            execution_id, lambda execution: ended.set() if execution.state.is_terminal else None
        )
        try:
            clock = _Deadline(timeout_s)
            while True:
                execution = self.get(execution_id)
                if execution.state.is_terminal:
                    return execution
                if clock.is_over():
                    return None
                # In a deployment of several processes the end may happen elsewhere: look again now and then.
                ended.wait(min(clock.left(), 0.5))
        finally:
            unsubscribe()

    def ring(self, execution_ids: Iterable[str]) -> None:
        """Have executions advanced soon."""
        self.doorbell.ring_executions(execution_ids)

    # ---------------------------------------------------------------- acting

    def kill(self, execution_id: str, *, cascade: bool = True) -> Execution:
        """Stop an execution and everything in it; with `cascade` also what its subflows started.

        Raises:
            ConflictError: `execution.state` when it has ended.
        """

        def decide(loaded: Loaded, now: datetime) -> Commit | None:
            execution = loaded.execution
            if execution.state.is_terminal:
                raise _state_conflict(execution, "cannot be killed")
            if execution.state is State.KILLING:
                return None
            if execution.state in {State.CREATED, State.QUEUED} and not loaded.runs:
                return commit_of(loaded, replace(execution.enter(State.KILLED, now), due_at=None))
            if execution.state is State.PAUSED:
                execution = execution.enter(State.RESTARTED, now)  # it goes on, in order to be killed
            return commit_of(loaded, replace(execution.enter(State.KILLING, now), due_at=None))

        execution = self.change(execution_id, decide)
        if cascade:
            self.kill_children(execution_id)
        return execution

    def kill_children(self, execution_id: str) -> None:
        """Kill the open executions that subflow tasks of this one started."""
        for child in self.store.read(lambda db: db.executions.children(execution_id)):
            if not child.state.is_terminal and child.state is not State.KILLING:
                try:
                    self.kill(child.id)
                except ConflictError:
                    continue  # it ended meanwhile, which is what was wanted

    def pause(self, execution_id: str) -> Execution:
        """Let nothing new start in a running execution until it is resumed; what runs goes on.

        Raises:
            ConflictError: `execution.state` when it is not running.
        """

        def decide(loaded: Loaded, now: datetime) -> Commit | None:
            execution = loaded.execution
            if execution.state is not State.RUNNING and not (execution.state is State.CREATED and not execution.due_at):
                raise _state_conflict(execution, "cannot be paused: it is not running")
            return commit_of(loaded, execution.enter(State.PAUSED, now), ring=False)

        return self.change(execution_id, decide, ring=False)

    def resume(self, execution_id: str, inputs: Mapping[str, Any] | None = None, by: str | None = None) -> Execution:
        """Let a paused execution go on, with the inputs that its Pause task asks for.

        Raises:
            ConflictError: `execution.state` when it is not paused.
            InvalidError: `input.invalid`.
        """

        def decide(loaded: Loaded, now: datetime) -> Commit | None:
            execution = loaded.execution
            if execution.state is not State.PAUSED:
                raise _state_conflict(execution, "can't be resumed: it is not paused")
            changed, outputs = [], {}
            index = self.catalogue.index(execution.namespace, execution.flow_id, execution.flow_revision)
            for run in loaded.runs:
                if run.state is not State.PAUSED:
                    continue
                task = index.tasks.get(run.task_id)
                if isinstance(task, Pause):
                    given = self._resume_inputs(execution, task, inputs or {})
                    outputs[run.id] = resumed_outputs(given, now, by)
                resumed = run.enter(State.RUNNING, now)
                changed.append(replace(resumed, due_at=None, memory={**run.memory, "resumed": True}))
            resumed_execution = execution.enter(State.RESTARTED, now)
            if execution.started_at is not None:  # else it has yet to ask for a place among those of its flow
                resumed_execution = resumed_execution.enter(State.RUNNING, now)
            return commit_of(loaded, resumed_execution, changed_runs=tuple(changed), task_outputs=outputs)

        return self.change(execution_id, decide)

    def _resume_inputs(self, execution: Execution, task: Pause, given: Mapping[str, Any]) -> dict[str, Any]:
        flow = self.catalogue.get(execution.namespace, execution.flow_id, execution.flow_revision)
        services = self.host.expression_services(flow, execution)
        encryption = self.host.encryption
        return resolve_inputs(
            task.on_resume,
            given,
            render=lambda template, extra: render_typed(template, Scope(extra, services)),
            render_text=lambda template, extra: render(template, Scope(extra, services)),
            store_file=lambda name, file: self._store_input(execution, name, file),
            encrypt=encryption.seal if encryption else None,
        )

    def inspect_resume(self, execution_id: str, given: Mapping[str, Any]) -> list[InputValue]:
        """Return what would become of each input that the pauses of an execution ask for; nothing goes on.

        Raises:
            ConflictError: `execution.state` when it is not paused.
        """
        execution = self.get(execution_id)
        if execution.state is not State.PAUSED:
            raise _state_conflict(execution, "can't be resumed: it is not paused")
        index = self.catalogue.index(execution.namespace, execution.flow_id, execution.flow_revision)
        services = self.host.expression_services(index.flow, execution)
        runs = self.store.read(lambda db: db.executions.runs(execution_id))
        tasks = [index.tasks.get(run.task_id) for run in runs if run.state is State.PAUSED]
        return [
            entry
            for task in tasks
            if isinstance(task, Pause)
            for entry in validate_inputs(
                task.on_resume,
                given,
                render=lambda template, extra: render_typed(template, Scope(extra, services)),
                render_text=lambda template, extra: render(template, Scope(extra, services)),
            )
        ]

    def set_labels(self, execution_id: str, labels: Mapping[str, str]) -> Execution:
        """Merge labels into those of an ended execution.

        Raises:
            ConflictError: `execution.state` when it has not ended.
            InvalidError: `label.reserved`.
        """
        reserved = next((name for name in labels if name.startswith("system.")), None)
        if reserved is not None:
            raise InvalidError("label.reserved", f"the label {reserved} can only be set by the system itself")

        def decide(loaded: Loaded, _now: datetime) -> Commit | None:
            execution = loaded.execution
            if not execution.state.is_terminal:
                raise _state_conflict(execution, "cannot be labelled before its end")
            return commit_of(loaded, replace(execution, labels={**execution.labels, **labels}), ring=False)

        return self.change(execution_id, decide, ring=False)

    def delete(self, execution_id: str, *, logs: bool = True, storage: bool = True) -> None:
        """Remove an ended execution with what it left; what a crash leaves of that, the retention removes.

        Raises:
            ConflictError: `execution.state` when it has not ended, or its parent has yet to hear of its end.
        """
        execution = self.get(execution_id)
        asking = self.store.write(lambda db: db.expiry.delete(execution_id, logs=logs, storage=storage))
        if asking is None:  # also when it was restarted meanwhile
            current = self.get(execution_id)
            if current.state.is_terminal:
                raise _state_conflict(current, "is being heard of by its parent", hint="try again in a moment")
            raise _state_conflict(current, "cannot be deleted before its end", hint="kill it first")
        if logs:
            self.store.logs.delete(execution_id)
        if storage:
            self.host.storage.delete(execution_uri(execution.namespace, execution.flow_id, execution.id))
        self.store.submit(lambda db: db.outbox.delete(asking))

    def change(
        self, execution_id: str, decide: Decide, *, ring: bool = True, within: TaskRun | None = None
    ) -> Execution:
        """Load, decide and commit until the commit holds; a decision of None changes nothing.

        What is decided `within` a run of the execution is decided on that run and what is around and inside it.

        Raises:
            NotFoundError: `execution.missing`.
            MainstemError: `execution.busy` when others were faster a hundred times.
        """
        for _ in range(_MOST_TRIES):
            loaded = self.store.read(
                lambda db: db.executions.load(execution_id) if within is None else db.executions.load_for(within)
            )
            if loaded is None:
                raise NotFoundError("execution.missing", f"there is no execution {execution_id}")
            commit = decide(loaded, self.host.clock())
            if commit is None:
                return loaded.execution
            after = self.advancer.rows_after(loaded.execution, commit.execution)
            ends = commit.execution.state.is_terminal and not loaded.execution.state.is_terminal
            places = self.advancer.places_of(commit.execution) if ends else None
            next_ones = self._commit(replace(commit, outbox=(*commit.outbox, *after)), places)
            if next_ones is not None:
                self.changes.publish(commit.execution)
                self.doorbell.ring_executions([execution_id, *next_ones] if ring else next_ones)
                if after:
                    self.doorbell.ring_effects()
                return commit.execution
        raise MainstemError("execution.busy", f"the execution {execution_id} changes too fast to be acted on")

    def _commit(self, commit: Commit, places: Places | None) -> list[str] | None:
        """Write a commit; return who may take the place that it frees, None when the commit is out of date."""

        def write(db: Session) -> list[str] | None:
            if places is None:
                return [] if db.executions.commit(commit) else None
            places.lock(db)
            return places.ring_next(db) if db.executions.commit(commit) else None

        return self.store.write(write)


class _Deadline:
    """A time limit on the monotonic clock."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        return max(self._end - time.monotonic(), 0.0)

    def is_over(self) -> bool:
        return self.left() <= 0


def commit_of(loaded: Loaded, execution: Execution, *, ring: bool = True, **fields: Any) -> Commit:
    """Return the commit that turns a loaded execution into `execution`; `fields` are those of `Commit`."""
    before = loaded.execution
    return Commit(
        execution=replace(execution, version=before.version + 1),
        expected_version=before.version,
        history=history_between(before, execution),
        outbox=(OutboxRow(OUTBOX_ADVANCE, execution.id),) if ring else (),
        **fields,
    )


def _state_conflict(execution: Execution, what: str, hint: str | None = None) -> ConflictError:
    return ConflictError(
        "execution.state", f"the execution {execution.id} is {execution.state.value} and {what}", hint=hint
    )
