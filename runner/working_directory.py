"""The job of a WorkingDirectory: its tasks one after the other, on one worker, in one directory.

The tasks have runs of their own, written by this job under the claim of the WorkingDirectory: a job whose claim is
over writes nothing more. A job that starts again after a lost worker starts with an empty directory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from runner.context import TaskContext, make_work_dir, remove_work_dir
from runner.errors import MainstemError, TaskError
from runner.executions.models import Attempt, Commit, Loaded, TaskRun
from runner.executions.outputs import kept
from runner.executions.retries import next_try
from runner.executions.tree import Node, Tree
from runner.expressions import is_truthy
from runner.outcomes import failed
from runner.plugin import Outcome
from runner.states import State
from runner.tasks.flow import WorkingDirectory

if TYPE_CHECKING:
    from runner.claim import Claim
    from runner.executions.burst import BurstActions
    from runner.worker import Worker


def run_working_directory(worker: Worker, claim: Claim, tree: Tree, node: Node, actions: BurstActions) -> Outcome:
    """Run all tasks of a WorkingDirectory and return its own outcome, with what `outputFiles` collected."""
    return _Job(worker, claim, tree, node, actions).run()


class _Job:
    def __init__(self, worker: Worker, claim: Claim, tree: Tree, node: Node, actions: BurstActions) -> None:
        assert isinstance(node.task, WorkingDirectory)
        self.worker = worker
        self.claim = claim
        self.tree = tree
        self.node = node
        self.task = node.task
        self.actions = actions
        host = worker.engine.host
        self.path = make_work_dir(host.settings.work_root, f"{node.row.id}-{node.row.attempts}")

    def run(self) -> Outcome:
        """Stage, run the tasks until one fails, collect."""
        try:
            with self._context(self.node) as context:
                return self._run_in(context)
        finally:
            remove_work_dir(self.path)

    def _run_in(self, context: TaskContext) -> Outcome:
        self._forget_earlier_children()
        from runner.tasks.script_files import collect_outputs, stage_inputs
        from runner.tasks.working_cache import restore_cache, save_cache

        cache = self.task.cache
        try:
            is_cached = cache is None or restore_cache(context, cache)
            stage_inputs(context, self.task.input_files, self.task.namespace_files)
        except MainstemError as error:
            context.log("ERROR", error.message)
            return failed(error)
        state, message = self._run_tasks()
        outputs: dict[str, Any] = {}
        if self.task.output_files:
            try:
                outputs["outputFiles"] = dict(collect_outputs(context, self.task.output_files))
            except MainstemError as error:
                context.log("ERROR", error.message)
                state, message = State.FAILED, error.message
        if cache is not None and not is_cached and state in {State.SUCCESS, State.WARNING}:
            try:
                save_cache(context, cache)
            except MainstemError as error:
                context.log("WARN", f"the cache is not kept: {error.message}")
        return Outcome(outputs, state, message)

    def _run_tasks(self) -> tuple[State, str | None]:
        worst = State.SUCCESS
        for task in self.tree.index.enabled(self.task.id, "tasks"):
            if self.claim.cancelled.is_set():
                return State.KILLED, "the task was killed"
            now = self._now()
            child = self.tree.create(self.node, task, self.worker.engine.host.new_id(), now, branch="tasks")
            ended = self._run_child(child)
            if ended.state in {State.FAILED, State.KILLED}:
                return ended.state, ended.error
            if ended.state is State.WARNING:
                worst = State.WARNING
        return worst, None

    def _run_child(self, child: Node) -> TaskRun:
        assert child.task is not None
        try:
            skipped = not is_truthy(self.actions.render(child, child.task.run_if))
        except MainstemError as error:
            return self._end(child, failed(error), ())
        if skipped:
            return self._end(child, Outcome({}, State.SKIPPED), ())
        attempts: list[Attempt] = []
        while True:
            started = self._now()
            run = child.row.enter(State.RUNNING, started)
            child.run = replace(run, attempts=run.attempts + 1)
            if not self._write(child.row, {}, attempts):
                return child.row.enter(State.KILLED, started)
            outcome = self._run_body(child)
            attempts.append(_attempt(child.row, outcome, started, self._now(), self.worker.id))
            again = self._retry_at(child, outcome)
            if again is None:
                return self._end(child, outcome, attempts)
            child.run = child.row.enter(State.RETRYING, self._now())
            self._write(child.row, {}, attempts)
            self.worker.engine.host.wait(self.claim.cancelled, max((again - self._now()) / timedelta(seconds=1), 0.0))

    def _run_body(self, child: Node) -> Outcome:
        """Run the body of one task within its own timeout, which must not end the whole job."""
        with self.claim.inside() as claim, self._context(child, claim) as context:
            try:
                context.deadline_s = self.worker.deadline(self.actions, child)
            except MainstemError as error:
                context.log("ERROR", error.message)
                return failed(error)
            return self.worker.run_body(claim, child, context)

    def _retry_at(self, child: Node, outcome: Outcome) -> datetime | None:
        retry = self.tree.index.retry_of(child.task) if child.task else None
        if outcome.state is not State.FAILED or retry is None or self.claim.cancelled.is_set():
            return None
        if retry.behavior == "CREATE_NEW_EXECUTION":
            return None
        run = child.row
        return next_try(
            retry,
            run.attempts,
            first_started=run.started_at or run.created_at,
            ended=self._now(),
            fraction=self.actions.fraction(),
        )

    def _end(self, child: Node, outcome: Outcome, attempts: Sequence[Attempt]) -> TaskRun:
        state, task = outcome.state, child.task
        if task is not None and state is State.FAILED and task.allow_failure:
            state = State.WARNING
        if task is not None and state is State.WARNING and task.allow_warning:
            state = State.SUCCESS
        child.run = replace(child.row.enter(state, self._now()), error=outcome.error)
        outputs = dict(outcome.outputs)
        try:
            row = kept(self.worker.engine.host.storage, self.tree.execution, child.row, outputs)
        except TaskError as error:
            return self._end(child, failed(error), attempts)
        if outputs:
            self.tree.outputs[child.row.id] = outputs
        self._write(child.row, row, attempts)
        return child.row

    def _context(self, node: Node, claim: Claim | None = None) -> TaskContext:
        return self.worker.context(
            claim or self.claim, self.tree, node, self.actions, work_dir_factory=lambda: self.path
        )

    def _now(self) -> datetime:
        return self.worker.engine.host.clock()

    # ---------------------------------------------------------------- writing under the claim

    def _forget_earlier_children(self) -> None:
        gone = [node for nodes in list(self.node.children.values()) for node in list(nodes)]
        if not gone:
            return
        removed = tuple(node.row.id for node in gone)
        for node in gone:
            self.tree.remove(node)
        self._commit(lambda _loaded, commit: replace(commit, removed_runs=removed))

    def _write(self, run: TaskRun, outputs: Mapping[str, Any], attempts: Sequence[Attempt]) -> bool:
        """Write a run of this job; False when it is new and the execution is being killed: it must not begin."""
        kept = {run.id: dict(outputs)} if outputs else {}
        refused = False

        def place(loaded: Loaded, commit: Commit) -> Commit | None:
            nonlocal refused
            known = any(each.id == run.id for each in loaded.runs)
            refused = not known and loaded.execution.state is State.KILLING
            if refused:
                return None
            commit = replace(commit, changed_runs=(run,)) if known else replace(commit, new_runs=(run,))
            return replace(commit, task_outputs=kept, attempts=tuple(attempts))

        self._commit(place)
        return not refused

    def _commit(self, place: Callable[[Loaded, Commit], Commit | None]) -> None:
        run = self.node.row

        def decide(loaded: Loaded, _now: datetime) -> Commit | None:
            current = next((each for each in loaded.runs if each.id == run.id), None)
            if current is None or current.epoch != run.epoch or current.state is not State.RUNNING:
                raise TaskError("claim.lost", "another worker carries this task out now")
            version = loaded.execution.version
            # What this job writes asks for no decision before its result, so others go on leaving it out.
            commit = Commit(replace(loaded.execution, version=version + 1), version, quiet=loaded.quiet)
            return place(loaded, commit)

        self.worker.engine.change(run.execution_id, decide, ring=False, within=run)


def _attempt(run: TaskRun, outcome: Outcome, started: datetime, ended: datetime, worker_id: str) -> Attempt:
    histories = ((State.CREATED, started), (State.RUNNING, started), (outcome.state, ended))
    return Attempt(
        task_run_id=run.id,
        execution_id=run.execution_id,
        number=run.attempts,
        epoch=run.attempts,
        state=outcome.state,
        worker_id=worker_id,
        started_at=started,
        ended_at=ended,
        exit_code=outcome.exit_code,
        failure_reason=outcome.failure_reason,
        message=outcome.error,
        histories=histories,
        log_file=outcome.log_file,
    )
