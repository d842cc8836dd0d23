"""A process that does the work: engine, broker, worker threads, scheduler and sweeper, started and drained as one.

`mainstem up` runs one of these beside the web server; a deployment runs as many as it wants, each with the parts that
its role has.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import dramatiq
import redis
from dramatiq.message import Message

from runner.broker import DoorbellBroker, make_worker
from runner.errors import MainstemError
from runner.executions.effects import Effects
from runner.executions.engine import Engine
from runner.executions.groups import lists_of, lists_served, serves
from runner.executions.models import OUTBOX_ADVANCE, OUTBOX_RUN
from runner.flows.catalogue import Catalogue
from runner.janitor import EVERY_S as JANITOR_S
from runner.janitor import FIRST_S as JANITOR_FIRST_S
from runner.janitor import Janitor
from runner.news import CHANGED, STOP, TIMERS, News
from runner.periodic import Periodic
from runner.retention import Retention
from runner.ringer import Ringer
from runner.scheduler import Scheduler
from runner.services import Host
from runner.settings import Settings
from runner.store import Store
from runner.sweeper import LOST_AFTER_S, Sweeper
from runner.worker import HEARTBEAT_S, Worker

log = logging.getLogger(__name__)

EXECUTIONS_QUEUE = "executions"
TASKS_QUEUE = "tasks"

_ENGINE_THREADS = 2
_FENCE_EVERY_S = 0.5
_MESSAGES_OUT = 3  # of executions at a time; see runner.ringer


@dataclass(frozen=True, slots=True)
class Roles:
    """What a process takes part in; the embedded server does all of it, and nobody else does (`is_alone`)."""

    serves: bool = True
    works: bool = True
    schedules: bool = True
    syncs: bool = True
    is_alone: bool = True


def _actor_of(name: str) -> str:
    """Return what messages in a list of the broker are for."""
    return f"run-{name}"


def _rung(batch: list[tuple[str, tuple[str, int, str]]], token: int) -> Message[Any]:
    """Return the message for one run in one list of the broker, which this process need not serve."""
    ((name, run),) = batch
    return Message(queue_name=name, actor_name=_actor_of(name), args=([run], token), kwargs={}, options={})


class Runtime:
    """The working parts of one process. `start` once, `stop` once."""

    def __init__(
        self, settings: Settings, store: Store, catalogue: Catalogue, host: Host, broker_url: str, roles: Roles
    ) -> None:
        self.settings = settings
        self.store = store
        self.janitor = Janitor(host)
        self.host = host = replace(host, runner_used=self.janitor.note)
        self.roles = roles
        self._executions = DoorbellBroker(broker_url)
        self._tasks = DoorbellBroker(broker_url)
        self.catalogue = catalogue
        self.engine = Engine(store, catalogue, host, self, max_backlog=settings.max_backlog)
        self._groups = None if roles.is_alone else frozenset(settings.worker_groups)
        self.worker = Worker(self.engine, groups=self._groups)
        self.effects = Effects(self.engine)
        self.sweeper = Sweeper(
            self.engine,
            self.effects,
            own_worker=lambda: self.worker.id,
            messages=self._messages,
            is_rung=self._is_rung,
            adopt=self.worker.adopt,
            refuse=self.worker.refuse,
        )
        cap = _MESSAGES_OUT if roles.is_alone else None
        self._ring_executions = Ringer(self._executions, "ring-executions", cap=cap)
        # One for the lists of all groups: flows name these as they like, and nobody may serve them.
        self._ring_tasks = Ringer(self._tasks, "ring-tasks", cap=None, burst=1)
        self.scheduler = Scheduler(self.engine, store, catalogue, settings, host.clock) if roles.schedules else None
        self.news = None if roles.is_alone else self._make_news(broker_url)
        home = settings.home.absolute() if settings.is_embedded and settings.storage is None else None
        self.retention = Retention(store, host, settings.retention, home=home)
        self._housekeeping = self._make_housekeeping()
        self._dramatiq: list[dramatiq.Worker] = []
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._backlog = 0
        self.engine.backlog = lambda: max(self._ring_executions.waiting, self._backlog)

    def _make_housekeeping(self) -> Periodic:
        jobs = Periodic("housekeeping")
        if self.roles.schedules:
            jobs.every(self.settings.retention.interval_s, self.retention.run_once, name="retention")
        if self.roles.works:
            root = self.settings.work_root
            sweep = partial(self.retention.sweep_work, root)
            jobs.every(JANITOR_S, sweep, name="working folders", first_s=JANITOR_FIRST_S)
            jobs.every(JANITOR_S, self.janitor.run_once, name="janitor", first_s=JANITOR_FIRST_S)
        return jobs

    def _make_news(self, broker_url: str) -> News:
        news = News(broker_url)
        self.engine.changes.relay = lambda execution_id: news.tell(CHANGED, [execution_id])
        if self.roles.serves:
            news.on(CHANGED, self._heard_changes)
        if self.roles.works:
            news.on(STOP, self.worker.stop_runs)
        if self.scheduler is not None:
            news.on(TIMERS, lambda _texts: self.ring_timers())
        return news

    # ---------------------------------------------------------------- life

    def start(self) -> None:
        """Start the threads and bring what a crash left behind forward."""
        self._ring_executions.start(self._actor(self._executions, "advance", EXECUTIONS_QUEUE, self._advance).message)
        served = {TASKS_QUEUE} if self._groups is None else lists_served(self._groups)
        for name in {TASKS_QUEUE, *served}:
            self._actor(self._tasks, _actor_of(name), name, self._run)
        self._ring_tasks.start(_rung)
        if self.roles.works:
            self.worker.register()
            self._dramatiq = [
                make_worker(self._executions, threads=_ENGINE_THREADS, prefetch=_ENGINE_THREADS * 2),
                make_worker(self._tasks, threads=self.settings.workers, prefetch=self.settings.workers, queues=served),
            ]
            for each in self._dramatiq:
                each.start()
            self._spawn("heartbeat", self._beat)
            self._spawn("effects", self._follow_up)
            self._spawn("sweeper", self._sweep)
            self.sweeper.recover(alone=self.roles.is_alone)
            if not self.roles.is_alone:
                self._spawn("fence", self._fence)
        if self.roles.serves and not self.roles.is_alone:
            self._spawn("backlog", self._count_backlog)
        if self.news is not None:
            self.news.start()
        if self.scheduler is not None:
            self.scheduler.start()
        self._housekeeping.start()

    def stop(self, grace_s: float) -> None:
        """Drain: start nothing new, let bodies end for `grace_s` seconds, hand back the rest, write everything."""
        self.retention.stop()
        self._housekeeping.stop()
        if self.scheduler is not None:
            self.scheduler.stop()
        if self.roles.works:
            self._tasks.quiet()
            self.worker.drain(grace_s)
        self._stopping.set()
        self._wake.set()
        self._ring_executions.stop()
        self._ring_tasks.stop()
        # Side by side: each waits up to a second for its threads, and as long again for its consumers.
        for each in self._dramatiq:
            self._spawn("stop", partial(each.stop, timeout=5_000))
        for thread in self._threads:
            thread.join(timeout=10)
        if self.news is not None:
            self.news.stop()
        self._executions.close()
        self._tasks.close()
        self.store.flush()
        if self.settings.work is None:
            # Nobody else knows this folder in the shared temporary one; with anything in it, it stays.
            with contextlib.suppress(OSError):
                self.settings.work_root.rmdir()

    def hurry(self) -> None:
        """End the bodies that a drain still waits for."""
        self.worker.hurry()

    def figures(self) -> Mapping[str, float]:
        """Return gauges of this process: what waits and what runs."""
        return {
            "executions_waiting": float(self._ring_executions.waiting),
            "tasks_waiting": float(self._ring_tasks.waiting),
            "workers_busy": float(self.worker.busy - self.worker.follower.count),
            "jobs_followed": float(self.worker.follower.count),
            "workers": float(self.settings.workers if self.roles.works else 0),
            "jobs_removed": float(self.janitor.removed),
            **self.retention.figures(),
        }

    def _messages(self, kind: str) -> int:
        """Return how many messages of a kind wait in the broker; none when it is away."""
        try:
            if kind == OUTBOX_RUN:
                return self._tasks.depth(TASKS_QUEUE)
            return self._executions.depth(EXECUTIONS_QUEUE)
        except redis.RedisError:
            return 0

    def _is_rung(self, queue: str) -> bool:
        """Return whether messages for a group of workers wait in the broker; of the list of all `_messages` tells."""
        if queue == TASKS_QUEUE or self._groups is None:
            return False
        try:
            return any(self._tasks.depth(name) for name in lists_of(queue))
        except redis.RedisError:
            return False

    def problems(self) -> list[str]:
        """Return what keeps this process from working, one sentence each.

        Without a broker nothing is done, but everything can be accepted: it waits in the store.
        """
        found = []
        if self.roles.works:
            try:
                self._executions.client.ping()
            except redis.RedisError as error:
                found.append(f"the broker does not answer: {error}")
        try:
            self.store.read(lambda db: db.flows.generation())
        except MainstemError as error:
            found.append(error.message)
        if self.roles.works and self.worker.silent_s > LOST_AFTER_S:
            found.append(f"no heartbeat has reached the store for {self.worker.silent_s:.0f} s")
        if self.worker.is_draining:
            found.append("the process is draining")
        return found

    # ---------------------------------------------------------------- the doorbell

    def ring_executions(self, execution_ids: Iterable[str]) -> None:
        """Have these executions advanced soon."""
        self._ring_executions.ring(execution_ids)

    def ring_runs(self, runs: Sequence[tuple[str, int, str]]) -> None:
        """Have submitted task runs claimed."""
        # One process alone takes all there is, whatever group it is for.
        is_alone = self._groups is None
        self._ring_tasks.ring((name, run) for run in runs for name in ([TASKS_QUEUE] if is_alone else lists_of(run[2])))

    def ring_effects(self) -> None:
        """Have the follow-ups of the outbox looked at."""
        self._wake.set()

    def ring_timers(self) -> None:
        """Have the due times looked at again."""
        if self.scheduler is not None:
            self.scheduler.wake()
        elif self.news is not None:
            self.news.tell(TIMERS, ["changed"])

    def stop_runs(self, task_run_ids: Iterable[str]) -> None:
        """Stop the bodies of these runs; workers elsewhere learn it with their next heartbeat at the latest."""
        ids = list(task_run_ids)
        self.worker.stop_runs(ids)
        if self.news is not None:
            self.news.tell(STOP, ids)

    def kill_children(self, execution_id: str) -> None:
        """Kill the open executions that this one's subflow tasks wait for."""
        self.engine.kill_children(execution_id)

    # ---------------------------------------------------------------- actors and threads

    def _actor(self, broker: DoorbellBroker, name: str, queue_name: str, work: Any) -> dramatiq.Actor[..., Any]:
        actor: dramatiq.Actor[..., Any] = dramatiq.actor(actor_name=name, queue_name=queue_name, broker=broker)(work)
        return actor

    def _advance(self, execution_ids: list[str], token: int) -> None:
        try:
            self.engine.advancer.advance(execution_ids)
        except Exception:  # the sweeper rings again; the thread must outlive what one execution does to it
            log.exception("a burst failed", extra={"executions": execution_ids[:5]})
        finally:
            self._ring_executions.answered(token)

    def _run(self, runs: list[tuple[str, int, str]], _token: int) -> None:
        for task_run_id, epoch, queue in runs:
            if not serves(self._groups, queue):
                continue  # for workers with more tags than this one; it is rung for again
            try:
                self.worker.work(task_run_id, epoch)
            except Exception:  # the sweeper takes the claim back; the thread must outlive its task
                log.exception("a task run failed in the worker", extra={"task_run": task_run_id})

    def _spawn(self, name: str, target: Any) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _beat(self) -> None:
        while not self._stopping.wait(HEARTBEAT_S):
            try:
                self.worker.beat()
                self._heed_drain()
            except Exception:  # a store that is away for a moment must not end the heartbeat
                log.exception("a heartbeat failed")

    def _heed_drain(self) -> None:
        row = self.store.read(lambda db: db.workers.get(self.worker.id))
        if row is not None and row.draining and not self.worker.is_draining:
            log.warning("this worker was told to take no more runs", extra={"worker": self.worker.id})
            self._tasks.quiet()
            self.worker.rest()

    def _fence(self) -> None:
        # Beside the heartbeat, which waits for the store when that is out of reach.
        while not self._stopping.wait(_FENCE_EVERY_S):
            self.worker.fence()

    def _count_backlog(self) -> None:
        while not self._stopping.wait(1.0):
            try:
                self._backlog = self.store.read(lambda db: db.outbox.counts()).get(OUTBOX_ADVANCE, (0, None))[0]
            except Exception:  # without a count everything is let in, as before the first one
                log.exception("the backlog cannot be counted")

    def _heard_changes(self, execution_ids: list[str]) -> None:
        followed = self.engine.changes.followed(execution_ids)
        if followed:
            for execution in self.store.read(lambda db: db.executions.get_many(followed)).values():
                self.engine.changes.deliver(execution)

    def _follow_up(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait()
            self._wake.clear()
            try:
                while self.effects.run_once() and not self._stopping.is_set():
                    pass
            except Exception:  # the rows stay in the outbox and the sweeper comes back to them
                log.exception("a follow-up failed")

    def _sweep(self) -> None:
        while not self._stopping.wait(1.0):
            try:
                self.sweeper.run_once()
            except Exception:  # what could not be swept now is swept a second later
                log.exception("a sweep failed")
