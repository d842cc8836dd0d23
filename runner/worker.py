"""A worker: claims task runs, carries them out, records their one result.

A claim raises the epoch of the run; everything written afterwards names that epoch and is refused once it is old. A
worker that learns that its claim is over stops the body and forgets what it did. A body whose job runs elsewhere needs
no thread meanwhile: the follower looks at it, and the task runs once more to take the results when it has ended.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from runner.claim import Claim
from runner.context import TaskContext
from runner.durations import parse_duration
from runner.errors import MainstemError, StoreError, TaskError
from runner.executions.burst import BurstActions
from runner.executions.engine import Engine
from runner.executions.groups import serves
from runner.executions.models import Loaded, TaskRun
from runner.executions.outputs import kept
from runner.executions.rest import StoredRuns
from runner.executions.tree import Node, Tree
from runner.expressions import render
from runner.follower import Follower
from runner.job import AttemptJob, Ended, Parked, is_started_by
from runner.log_file import with_log_file
from runner.outcomes import cached_or_run, failed, runner_of
from runner.plugin import Outcome, Task
from runner.states import State
from runner.store import Session
from runner.store.records import Worker as WorkerRow
from runner.sweeper import RESTARTED, STOPPED
from runner.tasks.flow import WorkingDirectory
from runner.working_directory import run_working_directory
from task_runners.base import JobGoneError, JobLeftError
from task_runners.errors import JobInterruptedError

log = logging.getLogger(__name__)

HEARTBEAT_S = 2.0
FENCE_S = 5.0  # bodies are told to end so long after the last heartbeat: they are gone before others may take over
MAX_LOSSES = 3  # a body that took its worker down this often is not started again
DRAINED = "worker drained"
_LOST = frozenset({"LOST", "runner.supervisor.lost"})  # nobody saw how the body ended, or whether it began
_BODY_LOST = "its body was lost"
_BLAMED = frozenset({STOPPED, RESTARTED, _BODY_LOST})
_NOT_OURS = "its job is one of another installation"
_AWAY = frozenset({"store.unreachable", "store.busy", "store.commit.unknown", "store.closed"})
_END_S = 10.0  # bodies have five seconds between SIGTERM and SIGKILL


class Worker:
    """Carries out task runs on the threads that call `work`. Safe for any number of them."""

    def __init__(
        self,
        engine: Engine,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        hands_over: bool = True,
        groups: frozenset[str] | None = None,
    ) -> None:
        self.id = engine.host.new_id()
        self.engine = engine
        self._store = engine.store
        self._monotonic = monotonic
        self._claims: dict[str, Claim] = {}
        self._unclaimed: set[tuple[str, int]] = set()
        self._beaten_at = monotonic()
        self._lock = threading.Lock()
        self._draining = False
        self._hurried = False
        self._groups = groups  # None: those of all tasks
        self._hands_over = hands_over  # others can go on with its jobs; else they end with it
        self.follower = Follower(self.finish, monotonic=monotonic)

    # ---------------------------------------------------------------- life

    def register(self) -> None:
        """Make this worker known; its heartbeat begins with the first `beat`."""
        groups = ("*",) if self._groups is None else tuple(sorted(self._groups))
        row = WorkerRow(self.id, socket.gethostname(), os.getpid(), self.engine.host.clock(), groups=groups)
        self._store.write(lambda db: db.workers.register(row))
        self._beaten_at = self._monotonic()

    def beat(self) -> None:
        """Count one heartbeat; stop what was killed, give up what others have taken over, give back what got lost."""
        begun = self._monotonic()
        if not self._store.write(lambda db: db.workers.beat(self.id)):
            self._begin_anew()
            return
        self._beaten_at = begun
        with self._lock:
            claims = list(self._claims.values())
        owned, killed = self._store.read(lambda db: (db.claims.owned_by(self.id), db.claims.killed(self.id)))
        current = {run.id: run.epoch for run in owned}
        for claim in claims:
            if current.get(claim.run.id) != claim.run.epoch:
                self._give_up(claim, "another worker has it")
            elif claim.run.id in killed:
                claim.cancel()
        self._return_unclaimed(owned)

    def _begin_anew(self) -> None:
        """Go on under another name: others believed this worker dead and took its runs."""
        log.warning("others took this worker for lost; it goes on as a new one", extra={"worker": self.id})
        with self._lock:
            claims = list(self._claims.values())
        for claim in claims:
            self._give_up(claim, "the worker was taken for lost")
        self.id = self.engine.host.new_id()
        self.register()

    def _return_unclaimed(self, owned: Sequence[TaskRun]) -> None:
        """Give back runs that the store says are ours and nobody here carries out: a write about them got lost.

        Seen at two heartbeats in a row, since a claim may be on its way from the store to its thread.
        """
        unclaimed = {(run.id, run.epoch) for run in owned if run.id not in self._claims}
        for run in owned:
            if (run.id, run.epoch) in unclaimed & self._unclaimed:
                log.warning("a task run was lost by its worker", extra={"task_run": run.id, "worker": self.id})
                self._release(run, "the worker could not write its result")
        self._unclaimed = unclaimed

    def fence(self) -> None:
        """Stop all bodies when no heartbeat has reached the store for `FENCE_S`: others may soon start them anew."""
        if self._monotonic() - self._beaten_at < FENCE_S:
            return
        with self._lock:
            claims = list(self._claims.values())
        for claim in claims:
            if claim.given_up is None:
                log.warning("the store is out of reach: a body is stopped", extra={"task_run": claim.run.id})
                self._give_up(claim, "the worker did not reach the store")

    @property
    def silent_s(self) -> float:
        """Return the seconds since the last heartbeat that reached the store."""
        return self._monotonic() - self._beaten_at

    @property
    def is_draining(self) -> bool:
        """Whether no more runs are claimed."""
        return self._draining

    @property
    def busy(self) -> int:
        """How many attempts run now."""
        return len(self._claims)

    def drain(self, grace_s: float) -> None:
        """Claim nothing more, let what runs finish for `grace_s` seconds, then end it and hand it back for others."""
        self.rest()
        self._wait_for_claims(grace_s, unless_hurried=True)
        with self._lock:
            claims = list(self._claims.values())
        for claim in claims:
            self._give_up(claim, DRAINED)
        self._wait_for_claims(_END_S)
        for claim in list(self._claims.values()):  # what cannot be ended must not keep others from going on
            self._release(claim.run, DRAINED)
        self.follower.stop(_END_S)  # the store is closed next
        self._store.write(lambda db: db.workers.remove(self.id))

    def rest(self) -> None:
        """Claim nothing more; what runs may finish."""
        self._draining = True
        self._leave_jobs()

    def _leave_jobs(self) -> None:
        """Leave the jobs that run elsewhere to others at once: waiting for them would gain nothing."""
        if not self._hands_over:
            return
        with self._lock:
            claims = [claim for claim in self._claims.values() if claim.job.outlives]
        for claim in claims:
            self._give_up(claim, DRAINED)

    def _wait_for_claims(self, seconds: float, *, unless_hurried: bool = False) -> None:
        deadline = time.monotonic() + seconds
        while self._claims and time.monotonic() < deadline and not (unless_hurried and self._hurried):
            time.sleep(0.02)

    def hurry(self) -> None:
        """Let a drain wait no longer."""
        self._hurried = True

    def _give_up(self, claim: Claim, reason: str) -> None:
        """Have a body ended or its job left; nothing of it counts here any more, and its run is handed on then."""
        claim.is_current = False
        claim.given_up = claim.given_up or reason
        if self._hands_over:
            claim.leave()
        else:
            claim.cancel()
        if claim.job.left.is_set() and self.follower.remove(claim.run.id):
            self._let_go(claim)

    def _let_go(self, claim: Claim) -> None:
        with self._lock:
            self._claims.pop(claim.run.id, None)
        if claim.given_up is None:
            return
        try:
            if claim.job.left.is_set():
                self._hand_over(claim.run)
            else:
                self._release(claim.run, claim.given_up)
        except StoreError as error:  # the store is away: whoever sees this worker silent takes the run back
            log.warning("a run cannot be handed on", extra={"task_run": claim.run.id, "code": error.code})

    def _hand_over(self, run: TaskRun) -> None:
        now = self.engine.host.clock()
        if self._store.write(lambda db: db.claims.hand_over(run.id, run.epoch, now)):
            self.engine.doorbell.ring_runs([(run.id, run.epoch, run.queue)])

    def _release(self, run: TaskRun, reason: str) -> None:
        now = self.engine.host.clock()
        if self._store.write(lambda db: db.claims.release(run.id, run.epoch, now, reason)):
            self.engine.doorbell.ring_runs([(run.id, run.epoch, run.queue)])

    def stop_runs(self, task_run_ids: Iterable[str]) -> None:
        """Stop the bodies of these runs, as far as they run here."""
        for task_run_id in task_run_ids:
            with self._lock:
                claim = self._claims.get(task_run_id)
            if claim is not None:
                claim.cancel()

    # ---------------------------------------------------------------- work

    def work(self, task_run_id: str, epoch: int) -> None:
        """Claim a submitted run and carry it out; nothing happens when somebody else has it or it is gone."""
        if self._draining:
            return  # the row in the outbox stays, and rings again
        now = self.engine.host.clock()
        taken = self._store.write(lambda db: db.claims.take(task_run_id, epoch, self.id, now))
        if taken is None:
            return
        run, stored = taken
        if stored and not is_started_by(self.engine.host.settings.installation, stored):
            log.warning("a job of another installation is left to it", extra={"job": stored["id"], "task_run": run.id})
            self._release(run, _NOT_OURS)
            return
        claim = Claim(run, job=AttemptJob(run.epoch, stored=stored, may_park=True))
        claim.job.save = lambda document: self._save_handle(claim, document)
        with self._lock:
            self._claims[run.id] = claim
        self._until_parked(claim)

    def adopt(self, most: int = 50) -> int:
        """Go on with jobs that run elsewhere and that nobody follows now; return how many there were.

        Without a thread of the tasks: all of them may be busy for hours. A job that needs one is rung for instead.
        """
        if self._draining:
            return 0
        found = self._store.read(lambda db: db.claims.handed_over(most))
        runs = [run for run, handle in found if "watch" in handle and serves(self._groups, run.queue)]
        for run in runs:
            self.follower.soon(partial(self.work, run.id, run.epoch))
        return len(runs)

    def refuse(self, task_run_id: str, epoch: int, state: State, message: str) -> None:
        """End a run that no worker will take; a job of it is left to the janitor of workers that reach its engine."""
        taken = self._store.write(lambda db: db.claims.take(task_run_id, epoch, self.id, self.engine.host.clock()))
        if taken is not None:
            run, _ = taken
            self._record(Claim(run), Outcome({}, state, message, failure_reason="NO_WORKER"))
            self.engine.advancer.advance([run.execution_id])

    def finish(self, claim: Claim, ended: Ended) -> None:
        """Take the results of a job that has ended elsewhere."""
        claim.job.ended = ended
        self._until_parked(claim)

    def _until_parked(self, claim: Claim) -> None:
        """Carry a claim out to its result, or until its job runs elsewhere and is followed."""
        try:
            self._carry_out(claim)
        except Parked as parked:
            self._follow(claim, parked)
            return
        except JobLeftError:
            pass  # somebody else goes on with it
        except JobGoneError:
            claim.given_up = "its job was gone"
        except JobInterruptedError as error:
            claim.job.tidy()
            claim.given_up = error.reason.value
        except BaseException:  # whatever it is, the claim must not be held further
            self._let_go(claim)
            raise
        self._let_go(claim)
        self.engine.advancer.advance([claim.run.execution_id])

    def _follow(self, claim: Claim, parked: Parked) -> None:
        self.follower.add(claim, parked)
        if claim.given_up is not None and self.follower.remove(claim.run.id):
            self._let_go(claim)  # it was given up while it was being submitted

    def _carry_out(self, claim: Claim) -> None:
        loaded = self._store.read(lambda db: db.executions.load_for(claim.run))
        if loaded is None:
            return
        if loaded.execution.state is State.KILLING:
            claim.cancel()
        if claim.run.losses:
            self._look_back(claim)
        if claim.run.losses >= MAX_LOSSES and claim.job.stored is None and self._is_poison(claim.run):
            message = f"the worker was lost {claim.run.losses} times while it ran this task"
            self._record(claim, Outcome({}, State.FAILED, message, failure_reason="POISON"))
            return
        try:
            outcome = self._storable(claim, loaded, self._outcome(claim, loaded))
        except StoreError as error:  # it says nothing about the task, which is to run when the store is back
            log.warning("a body is given up: the store is away", extra={"task_run": claim.run.id, "code": error.code})
            self._give_up(claim, "the store was out of reach")
        if claim.is_current:
            # Others read the log of a run as soon as they see its result, and no crash may part the two.
            self._store.logs.flush_appended()
            self._record(claim, outcome)

    def _look_back(self, claim: Claim) -> None:
        """Note the jobs that were left behind, which must not go on beside this attempt, and why."""
        attempts = self._store.read(lambda db: db.executions.attempts(claim.run.execution_id))
        own = [each for each in attempts if each.task_run_id == claim.run.id]
        claim.job.look_back(own, self.engine.host.settings.installation)

    def _is_poison(self, run: TaskRun) -> bool:
        """Return whether a body took down its workers; losses that no body can bring about do not count."""
        attempts = self._store.read(lambda db: db.executions.attempts(run.execution_id))
        lost = [each for each in attempts if each.task_run_id == run.id and each.state is State.KILLED]
        return sum(each.failure_reason in _BLAMED for each in lost) >= MAX_LOSSES

    def _storable(self, claim: Claim, loaded: Loaded, outcome: Outcome) -> Outcome:
        """Return an outcome whose outputs fit into a row; what cannot be stored at all is a failure of the task."""
        try:
            storage = self.engine.host.storage
            return replace(outcome, outputs=kept(storage, loaded.execution, claim.run, outcome.outputs))
        except TaskError as error:
            return replace(outcome, outputs={}, state=State.FAILED, error=error.message, failure_reason=error.code)

    def _outcome(self, claim: Claim, loaded: Loaded) -> Outcome:
        """Run the body; whatever it raises becomes a failed outcome."""
        execution = loaded.execution
        try:
            index = self.engine.catalogue.index(execution.namespace, execution.flow_id, execution.flow_revision)
        except StoreError:
            raise
        except MainstemError as error:
            return failed(error)
        tree = Tree(index, loaded, StoredRuns(self._store, execution.id))
        node = tree.nodes.get(claim.run.id)
        if node is None or node.task is None:
            return Outcome({}, State.FAILED, f"the flow has no task {claim.run.task_id!r}")
        node.run = claim.run
        claim.job.policy = node.task.on_worker_loss
        if claim.job.policy == "FAIL" and claim.run.losses and claim.job.stored is None:
            return self._lost(claim, tree, node)
        actions = self.actions(tree)
        if isinstance(node.task, WorkingDirectory):
            return run_working_directory(self, claim, tree, node, actions)
        with self.context(claim, tree, node, actions) as context:
            try:
                context.deadline_s = self.deadline(actions, node)
            except StoreError:
                raise
            except MainstemError as error:
                context.log("ERROR", error.message)
                return failed(error)
            return self.run_body(claim, node, context)

    def _lost(self, claim: Claim, tree: Tree, node: Node) -> Outcome:
        """Return the outcome of a task whose body may have begun and must not begin twice."""
        message = "the worker was lost, and `onWorkerLoss: FAIL` forbids to start the task again"
        with self.context(claim, tree, node, self.actions(tree)) as context:
            context.log("ERROR", message)
        return Outcome({}, State.FAILED, message, failure_reason="WORKER_LOST")

    def actions(self, tree: Tree) -> BurstActions:
        """Return what renders the expressions of a run that a worker carries out."""
        execution = tree.execution
        return BurstActions(
            tree,
            self.engine.host,
            self.engine.host.clock(),
            StoredRuns(self._store, execution.id).outputs,
            self.engine.start_subflow,
        )

    def context(self, claim: Claim, tree: Tree, node: Node, actions: BurstActions, **options: Any) -> TaskContext:
        """Return the context of an attempt."""
        return TaskContext(
            self.engine.host,
            tree.flow,
            tree.execution,
            node.row,
            actions.variables(node),
            cancelled=claim.cancelled,
            task=node.task,
            job=claim.job,
            claimed=claim.run,
            **options,
        )

    def run_body(self, claim: Claim, node: Node, context: TaskContext) -> Outcome:
        """Run one task's body to its outcome, within its timeout."""
        task = node.task
        assert isinstance(task, Task)
        with suppress(MainstemError):  # a file that is wrong is told to the tasks that ask for a secret
            self.engine.host.secrets.renew()  # an output may hold what another worker's task read
        timer = (
            claim.end_after(context.deadline_s) if not context.is_resumed and context.deadline_s is not None else None
        )
        try:
            outcome = cached_or_run(task, context)
        except (JobLeftError, JobGoneError, JobInterruptedError):
            raise
        except TaskError as error:
            context.log("ERROR", error.message)
            outcome = failed(error)
        except MainstemError as error:
            if error.code in _AWAY:
                raise
            context.log("ERROR", error.message)
            outcome = failed(error)
        except Exception as error:  # the task boundary: a plugin may raise anything
            log.exception("a task raised what is no TaskError", extra={"task_run": claim.run.id})
            context.log("ERROR", f"{type(error).__name__}: {error}")
            outcome = Outcome({}, State.FAILED, f"{type(error).__name__}: {error}")
        finally:
            if timer is not None:
                timer.cancel()
        return with_log_file(claim, context, self._judged(claim, context, outcome))

    def _judged(self, claim: Claim, context: TaskContext, outcome: Outcome) -> Outcome:
        """Return an outcome with what the claim knows of its end."""
        is_late = outcome.failure_reason == "DEADLINE" and context.deadline_s is not None
        if claim.timed_out or is_late:
            message = f"Timeout: the task ran longer than {context.deadline_s:g} s"
            context.log("ERROR", message)
            return replace(outcome, state=State.FAILED, error=message, failure_reason="TIMEOUT")
        if outcome.failure_reason in _LOST and not claim.cancelled.is_set():
            self._give_up(claim, _BODY_LOST)
        if claim.cancelled.is_set():
            return replace(outcome, state=State.KILLED, error="the task was killed", failure_reason="CANCELLED")
        return outcome

    def deadline(self, actions: BurstActions, node: Node) -> float | None:
        """Return the seconds that an attempt of a run may take; None without a timeout. Raises `MainstemError`."""
        assert node.task is not None
        timeout = node.task.timeout
        if isinstance(timeout, str):
            text = render(timeout, actions.scope(node))
            timeout = parse_duration(text) if text else None
        return timeout / timedelta(seconds=1) if timeout is not None else None

    def _save_handle(self, claim: Claim, document: Mapping[str, Any]) -> None:
        run = claim.run
        if not self._store.write(lambda db: db.claims.save_handle(run.id, run.epoch, document)):
            self._give_up(claim, "another worker has it")

    def _record(self, claim: Claim, outcome: Outcome) -> None:
        run = claim.run
        outputs = dict(outcome.outputs)

        def write(db: Session) -> int | None:
            return db.claims.record(
                run.id,
                run.epoch,
                result=outcome.state,
                outputs=outputs,
                error=self.engine.host.masker.mask(outcome.error) if outcome.error else None,
                exit_code=outcome.exit_code,
                failure_reason=outcome.failure_reason,
                log_file=outcome.log_file,
                at=self.engine.host.clock(),
                runner=runner_of(outputs),
            )

        if self._store.write(write) is None:
            log.info("a result came too late and was dropped", extra={"task_run": run.id, "epoch": run.epoch})
            return
        claim.tidy()
