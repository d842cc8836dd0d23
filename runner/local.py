"""An engine that runs in this process alone, without a broker: for `mainstem run` and for tests of the engine.

The rings that a deployment sends through the broker go to a few threads here; everything else is the same code.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Self

from runner.executions.effects import Effects
from runner.executions.engine import Engine
from runner.flows.catalogue import Catalogue
from runner.flows.models import Flow
from runner.services import Host
from runner.store import Store
from runner.store.records import FlowDraft
from runner.worker import HEARTBEAT_S, Worker

log = logging.getLogger(__name__)


def deploy(store: Store, flow: Flow, source: str, path: str, defaults: str | None = None) -> None:
    """Make a flow active in a store of its own, with the plugin defaults of its namespaces."""
    blob = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    draft = FlowDraft(flow.namespace, flow.id, blob, source, datetime.now(UTC), path=path, defaults=defaults)
    store.write(lambda db: db.flows.put(draft))


class LocalEngine:
    """An `Engine` with its worker and timers on threads of this process. Use it in a `with` statement.

    Without `hands_over` the jobs that run elsewhere end with it, since nobody else knows its store.
    """

    def __init__(
        self,
        store: Store,
        host: Host,
        *,
        threads: int = 4,
        catalogue: Catalogue | None = None,
        hands_over: bool = True,
    ) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._timer = threading.Condition()
        self._timers_changed = False
        self._stopping = False
        self.engine = Engine(store, catalogue or Catalogue(store), host, self)
        self.worker = Worker(self.engine, hands_over=hands_over)
        self.effects = Effects(self.engine)
        names = [f"engine-{number}" for number in range(2)] + [f"worker-{number}" for number in range(threads)]
        self._runs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._loop, args=(self._jobs if n < 2 else self._runs,), name=name, daemon=True)
            for n, name in enumerate(names)
        ]
        self._threads.append(threading.Thread(target=self._watch_timers, name="timers", daemon=True))
        self._threads.append(threading.Thread(target=self._beat, name="heartbeat", daemon=True))

    def __enter__(self) -> Self:
        self.worker.register()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the bodies that still run, hand their runs back, end the threads."""
        self.worker.drain(0)
        with self._timer:
            self._stopping = True
            self._timer.notify_all()
        for _ in self._threads:
            self._jobs.put(None)
            self._runs.put(None)
        for thread in self._threads:
            thread.join(timeout=5)

    # ---------------------------------------------------------------- the doorbell

    def ring_executions(self, execution_ids: Iterable[str]) -> None:
        """Have these executions advanced soon."""
        ids = list(execution_ids)
        if ids:
            self._jobs.put(lambda: self.engine.advancer.advance(ids))

    def ring_runs(self, runs: Sequence[tuple[str, int, str]]) -> None:
        """Have submitted task runs claimed."""
        for task_run_id, epoch, _queue in runs:
            self._runs.put(_Work(self.worker, task_run_id, epoch))

    def ring_effects(self) -> None:
        """Have the follow-ups of the outbox looked at."""
        self._jobs.put(lambda: None if self.effects.run_once() == 0 else self.ring_effects())

    def ring_timers(self) -> None:
        """Have the due times looked at again."""
        with self._timer:
            self._timers_changed = True
            self._timer.notify_all()

    def stop_runs(self, task_run_ids: Iterable[str]) -> None:
        """Stop the bodies of these runs."""
        self.worker.stop_runs(task_run_ids)

    def kill_children(self, execution_id: str) -> None:
        """Kill the open executions that this one's subflow tasks wait for."""
        self._jobs.put(lambda: self.engine.kill_children(execution_id))

    # ---------------------------------------------------------------- threads

    def _loop(self, jobs: queue.SimpleQueue[Callable[[], None] | None]) -> None:
        while (job := jobs.get()) is not None:
            try:
                job()
            except Exception:  # a thread must outlive what one execution does to it
                log.exception("a job of the engine failed")

    def _watch_timers(self) -> None:
        store, clock = self.engine.store, self.engine.host.clock
        while not self._stopping:
            due = store.read(lambda db: db.executions.due(clock()))
            self.ring_executions(execution_id for execution_id, _ in due)
            following = store.read(lambda db: db.executions.next_due())
            wait = 60.0 if following is None else (following - clock()).total_seconds()
            with self._timer:
                if not self._timers_changed and not self._stopping:
                    # What is due now has been rung for; give the engine a moment before looking again.
                    self._timer.wait(min(max(wait, 0.01), 1.0))
                self._timers_changed = False

    def _beat(self) -> None:
        while not self._stopping:
            self.worker.beat()
            with self._timer:
                if not self._stopping:
                    self._timer.wait(HEARTBEAT_S)


class _Work:
    """A call of `Worker.work` that waits in a queue."""

    def __init__(self, worker: Worker, task_run_id: str, epoch: int) -> None:
        self._worker = worker
        self._task_run_id = task_run_id
        self._epoch = epoch

    def __call__(self) -> None:
        self._worker.work(self._task_run_id, self._epoch)
