"""Running ended executions again, and moving those that wait: restart, replay, marking, force-run.

As in the engine, each verb decides on what is stored and commits with a version check. Nothing is rung here when the
caller asks for the answer first (`Reruns.later`), so that an answer shows the execution as the verb left it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from runner.errors import ConflictError, InvalidError, NotFoundError
from runner.executions.creation import NewExecution
from runner.executions.engine import Engine, commit_of
from runner.executions.models import ORIGINAL, OUTBOX_ADVANCE, Attempt, Commit, Execution, HistoryRow, Loaded, OutboxRow
from runner.executions.pauses import PASSED
from runner.executions.restarting import REPLAY_LABEL, copied, mark, replay, restart
from runner.executions.tree import Tree
from runner.previews import demand_room
from runner.states import State
from runner.store import Session

_WAITING = frozenset({State.CREATED, State.QUEUED})


class Reruns:
    """The verbs that make an execution go on. The caller rings the execution each of them returns."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def restart(
        self, execution_id: str, revision: int | None = None, *, asked_by: OutboxRow | None = None
    ) -> Execution:
        """Have what failed run again: in the same execution, or in a new one when it has to be another revision.

        The row of the outbox that it is `asked_by` leaves with the same commit; once that is gone, nothing happens.

        Raises:
            ConflictError: `execution.state` when it has not ended and does not wait.
            InvalidError: `execution.restart.nothing` when no run failed.
            NotFoundError: `execution.missing`, `flow.missing`.
        """
        execution = self._engine.get(execution_id)
        if revision is not None and revision != execution.flow_revision:
            return self._copy(execution_id, revision, restart)
        children = self._engine.store.read(lambda db: db.executions.children(execution_id))
        failed = {child.id for child in children if child.state.is_failed}
        return self._changed(execution_id, lambda tree, _attempts, now: restart(tree, now, failed), asked_by)

    def replay(
        self,
        execution_id: str,
        task_run_id: str | None = None,
        revision: int | None = None,
        inputs: Mapping[str, Any] | None = None,
    ) -> Execution:
        """Start a new execution like an ended one: from its beginning, or from one of its runs.

        `inputs` replace those of the old execution by name.

        Raises:
            ConflictError: `execution.state` when it has not ended.
            InvalidError: `execution.replay.missing` for an unknown run; `input.invalid`.
            NotFoundError: `execution.missing`, `flow.missing`.
        """
        execution = self._engine.get(execution_id)
        given = self._inputs(execution, revision, inputs) if inputs else execution.inputs
        if task_run_id is not None:
            return self._copy(execution_id, revision, lambda tree, now: replay(tree, task_run_id, now), given)
        if not execution.state.is_terminal:
            raise _not_ended(execution, "replayed")
        now = self._engine.host.clock()
        fresh = replace(
            self._successor(execution, revision, given),
            state=State.CREATED,
            histories=((State.CREATED, now),),
            labels={**execution.labels, REPLAY_LABEL: "true"},
            outputs={},
            variables={},
            error=None,
            attempt_number=execution.attempt_number + 1,
        )
        self._engine.store.write(lambda db: _insert(db, fresh))
        return fresh

    def mark(self, execution_id: str, task_run_id: str, state: State) -> Execution:
        """Give a run another state and let the flow go on after it.

        Raises:
            ConflictError: `execution.state` when the execution has not ended and does not wait.
            InvalidError: `execution.replay.missing` for an unknown run.
        """
        return self._changed(execution_id, lambda tree, attempts, now: mark(tree, task_run_id, state, attempts, now))

    def change_status(self, execution_id: str, state: State) -> Execution:
        """Give an ended execution another final state; nothing runs again.

        Raises:
            ConflictError: `execution.state` when it has not ended.
            InvalidError: `execution.status.invalid` for a state that is no end.
        """
        if not state.is_terminal:
            raise InvalidError("execution.status.invalid", f"{state.value} is not a state in which an execution ends")

        def decide(loaded: Loaded, now: datetime) -> Commit | None:
            if not loaded.execution.state.is_terminal:
                raise _not_ended(loaded.execution, "given another status")
            return commit_of(loaded, loaded.execution.enter(state, now), ring=False)

        return self._engine.change(execution_id, decide, ring=False)

    def force_run(self, execution_id: str) -> Execution:
        """Let an execution go on now, whatever it waits for: a date, its turn, or a person.

        Raises:
            ConflictError: `execution.state` when it has ended.
        """
        execution = self._engine.get(execution_id)
        if execution.state is State.PAUSED:
            return self._engine.resume(execution_id)
        if execution.state is State.BREAKPOINT:
            return self.resume_from_breakpoint(execution_id)

        def decide(loaded: Loaded, now: datetime) -> Commit | None:
            current = loaded.execution
            if current.state.is_terminal:
                raise ConflictError("execution.state", f"the execution {current.id} has ended, it cannot be forced")
            if current.state not in _WAITING:
                return None
            return commit_of(loaded, replace(current.enter(State.RUNNING, now), due_at=None))

        return self._engine.change(execution_id, decide, ring=False)

    def resume_from_breakpoint(self, execution_id: str, breakpoints: Iterable[str] | None = None) -> Execution:
        """Let an execution that stopped at breakpoints go on; `breakpoints`, unless None, are those from now on.

        Raises:
            ConflictError: `execution.state` when it does not stand at a breakpoint.
        """

        def decide(loaded: Loaded, now: datetime) -> Commit:
            current = loaded.execution
            if current.state is not State.BREAKPOINT:
                message = f"the execution {current.id} is {current.state.value}, it is not at a breakpoint"
                raise ConflictError("execution.state", message)
            passed = tuple(
                replace(run.enter(State.CREATED, now), memory={**run.memory, PASSED: True})
                for run in loaded.runs
                if run.state is State.BREAKPOINT
            )
            wanted = current.breakpoints if breakpoints is None else tuple(breakpoints)
            resumed = replace(current.enter(State.RUNNING, now), breakpoints=wanted)
            return commit_of(loaded, resumed, changed_runs=passed)

        return self._engine.change(execution_id, decide, ring=False)

    def unqueue(self, execution_id: str, state: State = State.RUNNING) -> Execution:
        """Take an execution out of the queue of its flow: to run beside the others, or to end in `state`.

        Raises:
            ConflictError: `execution.state` when it does not wait in a queue.
            InvalidError: `execution.status.invalid` for a state that is neither RUNNING nor an end.
        """
        if state is not State.RUNNING and not state.is_terminal:
            raise InvalidError("execution.status.invalid", f"a queued execution cannot become {state.value}")

        def decide(loaded: Loaded, now: datetime) -> Commit | None:
            current = loaded.execution
            if current.state is not State.QUEUED:
                raise ConflictError(
                    "execution.state", f"the execution {current.id} is {current.state.value}, it is not queued"
                )
            return commit_of(loaded, current.enter(state, now))

        return self._engine.change(execution_id, decide, ring=False)

    # ---------------------------------------------------------------- the same execution

    def _changed(
        self,
        execution_id: str,
        change: Callable[[Tree, list[Attempt], datetime], None],
        asked_by: OutboxRow | None = None,
    ) -> Execution:
        attempts = self._engine.store.read(lambda db: db.executions.attempts(execution_id))
        answered = () if asked_by is None else (asked_by.id,)

        def decide(loaded: Loaded, now: datetime) -> Commit | None:
            # Looked for after the execution was loaded: who answered it meanwhile has changed the execution's version.
            if asked_by is not None and not self._waits(asked_by):
                return None
            execution = loaded.execution
            if not execution.state.is_terminal and execution.state is not State.PAUSED:
                raise _not_ended(execution, "restarted")
            index = self._engine.catalogue.index(execution.namespace, execution.flow_id, execution.flow_revision)
            tree = Tree(index, replace(loaded, doorbells=answered))
            change(tree, attempts, now)
            tree.outbox.append(OutboxRow(OUTBOX_ADVANCE, execution.id))
            return tree.commit()

        return self._engine.change(execution_id, decide, ring=False)

    def _waits(self, row: OutboxRow) -> bool:
        return row.id in self._engine.store.read(lambda db: db.outbox.of_key(row.kind, row.key))

    # ---------------------------------------------------------------- a new execution

    def _copy(
        self,
        execution_id: str,
        revision: int | None,
        change: Callable[[Tree, datetime], None],
        inputs: Mapping[str, Any] | None = None,
    ) -> Execution:
        """Start an execution with the runs of another one, after `change` chose where it begins."""
        read = self._engine.store.read(
            lambda db: (
                db.executions.load(execution_id),
                db.executions.attempts(execution_id),
                db.executions.outputs(execution_id),
            )
        )
        loaded, attempts, outputs = read
        if loaded is None:
            raise NotFoundError("execution.missing", f"there is no execution {execution_id}")
        source = loaded.execution
        if not source.state.is_terminal:
            raise _not_ended(source, "run again")
        wanted = revision or source.flow_revision
        tree = Tree(self._engine.catalogue.index(source.namespace, source.flow_id, wanted), loaded)
        now = self._engine.host.clock()
        change(tree, now)
        fresh = self._successor(tree.execution, revision, source.inputs if inputs is None else inputs)
        tree.keep_ledgers()
        copy = copied(tree, fresh.id, self._ids(), attempts, outputs)
        commit = Commit(
            execution=replace(fresh, version=1),
            expected_version=0,
            new_runs=copy.runs,
            attempts=copy.attempts,
            task_outputs=copy.outputs,
        )

        def write(db: Session) -> None:
            _insert(db, fresh)
            db.executions.commit(commit)

        self._engine.store.write(write)
        return commit.execution

    def _successor(self, execution: Execution, revision: int | None, inputs: Mapping[str, Any]) -> Execution:
        wanted, engine = revision or execution.flow_revision, self._engine
        demand_room(engine.store, engine.host.settings.previews, execution.namespace)
        version = engine.catalogue.version(execution.namespace, execution.flow_id, wanted)
        same = wanted == execution.flow_revision
        return replace(
            execution,
            id=self._engine.host.new_id(),
            flow_revision=version.revision,
            environment=execution.environment if same else version.environment,
            commit=execution.commit if same else version.commit,
            created_at=self._engine.host.clock(),
            version=0,
            inputs=dict(inputs),
            original_id=execution.original_id or execution.id,
            parent_id=execution.id,
            parent_task_run_id=None,
            memory={ORIGINAL: execution.original_created_at.isoformat()},
            due_at=None,
            started_at=None,
            ended_at=None,
        )

    def _inputs(self, execution: Execution, revision: int | None, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs of an execution with those in `given` replaced and checked."""
        encryption = self._engine.host.encryption
        old = encryption.unseal(execution.inputs) if encryption else execution.inputs
        new = NewExecution(
            namespace=execution.namespace,
            flow_id=execution.flow_id,
            revision=revision or execution.flow_revision,
            inputs={**old, **given},
            trigger=execution.trigger,
        )
        return self._engine.make(new).inputs

    def _ids(self) -> Iterator[str]:
        while True:
            yield self._engine.host.new_id()


def _insert(db: Session, execution: Execution) -> None:
    db.executions.insert(
        execution,
        history=[HistoryRow(execution.id, 0, execution.state.value, execution.created_at)],
        outbox=[OutboxRow(OUTBOX_ADVANCE, execution.id)],
    )


def _not_ended(execution: Execution, verb: str) -> ConflictError:
    return ConflictError(
        "execution.state",
        f"Execution must be terminated to be {verb}, current state is '{execution.state.value}' !",
    )
