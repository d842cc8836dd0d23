"""Finds what a ring did not reach and what a worker left behind. Runs every second in each process that works.

Leases are judged by what this process has seen on its own monotonic clock, never by comparing clocks: a worker counts
its heartbeats, and one whose count has not moved for ten seconds here is lost. Every observer needs its own full window
after its start.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from runner.errors import MainstemError, StoreError
from runner.executions.effects import Effects
from runner.executions.engine import Engine
from runner.executions.groups import DEFAULT, serves
from runner.executions.models import OUTBOX_ADVANCE, OUTBOX_RUN, Execution, OutboxRow, TaskRun
from runner.flows.worker_groups import Fallback, wanted_by
from runner.states import State
from runner.store import Session

log = logging.getLogger(__name__)

RING_AGAIN_S = 5.0
_RING_BUSY_S = 60.0  # while messages wait: long enough not to fill the broker with copies
LOST_AFTER_S = 10.0
STOPPED = "the worker stopped answering"
RESTARTED = "the server was restarted"
UNSERVED_AFTER_S = 10.0  # workers of a group may be on their way
UNFOLLOWED_AFTER_S = 600.0  # a job goes on meanwhile: its workers get as long as an engine that is out of reach
_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class _Seen:
    beats: int
    at_s: float


class Sweeper:
    """Rings again, and takes back what lost workers held. `run_once` belongs to one thread.

    `messages` gives how many messages wait in the broker for a kind of row. While some do, the rows that nobody
    answered are most likely theirs, and ringing would only put a second message behind each. `is_rung` says so for the
    queue of a group, which is rung for once a minute then. `adopt` goes on with the
    jobs that lost workers left running elsewhere, `refuse` ends a run whose group has no worker.
    """

    def __init__(
        self,
        engine: Engine,
        effects: Effects,
        *,
        own_worker: Callable[[], str],
        messages: Callable[[str], int] = lambda _kind: 0,
        is_rung: Callable[[str], bool] = lambda _queue: False,
        adopt: Callable[[], int] = lambda: 0,
        refuse: Callable[[str, int, State, str], None] = lambda *_: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._store = engine.store
        self._effects = effects
        self._own = own_worker
        self._messages = messages
        self._is_rung = is_rung
        self._rung_at: dict[str, float] = {}  # of groups whose messages nobody took yet
        self._adopt = adopt
        self._refuse = refuse
        self._monotonic = monotonic
        self._seen: dict[str, _Seen] = {}

    def run_once(self) -> None:
        """Ring for rows that nobody answered, and look after workers."""
        for kind in (OUTBOX_ADVANCE, OUTBOX_RUN):
            if self._messages(kind) == 0:
                self.ring_again(RING_AGAIN_S, (kind,))
            else:
                self.ring_again(_RING_BUSY_S, (kind,), is_busy=True)
        while self._effects.run_once():
            pass
        self.watch_workers()
        self._adopt()

    def ring_again(
        self, older_than_s: float, kinds: Sequence[str] = (OUTBOX_ADVANCE, OUTBOX_RUN), *, is_busy: bool = False
    ) -> int:
        """Ring for doorbell rows older than this many seconds, 2,000 at once; return how many there were.

        While others work through a long queue (`is_busy`), a row that was rung for rests as long again: its message
        waits there most likely, and rows behind it get their turn.
        """
        now = self._engine.host.clock()
        rows = self._store.read(lambda db: db.outbox.older_than(kinds, older_than_s, now, _AT_ONCE, hidden=not is_busy))
        if is_busy and rows:
            ids, later = [row.id for row in rows], now + timedelta(seconds=older_than_s)
            self._store.write(lambda db: db.outbox.defer(ids, later))
        self._engine.ring({row.key: None for row in rows if row.kind == OUTBOX_ADVANCE})
        waiting = self._with_fallback([row for row in rows if row.kind == OUTBOX_RUN], now)
        runs = self._due([_run_of(row) for row in waiting])
        if runs:
            self._engine.doorbell.ring_runs(runs)
        return len(rows)

    def _due(self, runs: Sequence[tuple[str, int, str]]) -> list[tuple[str, int, str]]:
        """Return the runs to ring for: not those of groups whose messages still wait, rung for less than a minute ago.

        Else a group that nobody serves would get one more message for each of its runs every few seconds.
        """
        now_s = self._monotonic()
        waiting = {queue for queue in {queue for *_, queue in runs} if self._is_rung(queue)}
        resting = {each for each in waiting & self._rung_at.keys() if now_s - self._rung_at[each] < _RING_BUSY_S}
        self._rung_at = {each: self._rung_at[each] if each in resting else now_s for each in waiting}
        return [run for run in runs if run[2] not in resting]

    def _with_fallback(self, rows: Sequence[OutboxRow], now: datetime) -> list[OutboxRow]:
        """Do what tasks say about a group without workers; return the rows that are to be rung for."""
        asking = [row for row in rows if "since" in row.payload and _age(row, now) > UNSERVED_AFTER_S]
        if not asking:
            return list(rows)
        groups = [w.groups for w in self._store.read(lambda db: db.workers.all()) if not w.draining]
        unserved = [row for row in asking if not any(_takes(each, row.payload["queue"]) for each in groups)]
        fallbacks = {row.key: self._fallback(row, now) for row in unserved}
        for row in unserved:
            if fallbacks[row.key] in {"FAIL", "CANCEL"}:
                message = f"no worker serves {row.payload['queue']!r}"
                state = State.FAILED if fallbacks[row.key] == "FAIL" else State.KILLED
                self._refuse(row.key, int(row.payload["epoch"]), state, message)
        return [_anywhere(row) if fallbacks.get(row.key) == "IGNORE" else row for row in rows]

    def _fallback(self, row: OutboxRow, now: datetime) -> Fallback:
        """Return what is to be done with a run that nobody takes now.

        One whose job goes on without its worker gets more time, unless it was killed: nobody could tell the job so.
        """
        if "fallback" in row.payload:
            said: Fallback = row.payload["fallback"]
            return said
        run = self._store.read(lambda db: db.executions.run(row.key))
        execution = self._store.read(lambda db: db.executions.get(run.execution_id)) if run is not None else None
        if run is None or execution is None:
            return "WAIT"
        if row.payload.get("hasJob") and execution.state is State.KILLING:
            return "CANCEL"
        if row.payload.get("hasJob") and _age(row, now) <= UNFOLLOWED_AFTER_S:
            return "WAIT"
        return self._fallback_of(run, execution)

    def _fallback_of(self, run: TaskRun, execution: Execution) -> Fallback:
        """Return what the task of a run says about a group without workers."""
        try:
            flow = self._engine.catalogue.index(execution.namespace, execution.flow_id, execution.flow_revision).flow
            task = next((each for each in flow.all_tasks() if each.id == run.task_id), None)
            return wanted_by(task, flow).fallback if task is not None else "WAIT"
        except StoreError:
            raise
        except MainstemError:  # it says nothing any more; whoever takes the run finds out why
            return "WAIT"

    def watch_workers(self) -> None:
        """Take back the runs of workers whose heartbeat count stands still."""
        now_s = self._monotonic()
        known = self._store.read(_holders) | {
            worker.id: worker.beats for worker in self._store.read(lambda db: db.workers.all())
        }
        for worker_id, beats in known.items():
            seen = self._seen.get(worker_id)
            if seen is None or seen.beats != beats:
                self._seen[worker_id] = _Seen(beats, now_s)
            elif now_s - seen.at_s > LOST_AFTER_S and worker_id != self._own():
                self.take_back(worker_id, STOPPED)
        for worker_id in [worker_id for worker_id in self._seen if worker_id not in known]:
            del self._seen[worker_id]

    def take_back(self, worker_id: str, reason: str) -> int:
        """Submit the runs of a lost worker again and forget it; return how many runs there were.

        A run whose job goes on without its worker is not submitted again: whoever takes it over follows that job.
        """
        runs = self._store.read(lambda db: db.claims.owned_by(worker_id))
        now = self._engine.host.clock()  # not before the last of their claims
        for run in runs:
            if self._store.write(partial(_hand_on, run=run, now=now, reason=reason)):
                log.warning("a task run is taken back", extra={"task_run": run.id, "worker": worker_id})
                self._engine.doorbell.ring_runs([(run.id, run.epoch, run.queue)])
        self._store.write(lambda db: db.workers.remove(worker_id))
        self._engine.ring([run.execution_id for run in runs])
        return len(runs)

    def recover(self, *, alone: bool) -> None:
        """Bring everything that is not terminal forward, as after a crash.

        With `alone` this process is the only server (it holds the lock of the home), so every other worker is dead.
        """
        if alone:
            known = {worker.id for worker in self._store.read(lambda db: db.workers.all())}
            for worker_id in (known | self._store.read(_holders).keys()) - {self._own()}:
                self.take_back(worker_id, RESTARTED)
        self._store.write(lambda db: db.executions.look_at_all())
        self._engine.ring(self._store.read(lambda db: db.executions.open_ids()))
        self.ring_again(0)


def _holders(db: Session) -> dict[str, int]:
    """Return workers that hold runs, with a count that never moves: one that is not known any more cannot beat."""
    return dict.fromkeys(db.claims.holders(), -1)


def _hand_on(db: Session, run: TaskRun, now: datetime, reason: str) -> bool:
    handle = db.claims.handle(run.id, run.epoch) or {}
    if handle.get("outlives") and handle.get("lossPolicy") == "REATTACH":
        return db.claims.hand_over(run.id, run.epoch, now)
    return db.claims.release(run.id, run.epoch, now, reason)


def _age(row: OutboxRow, now: datetime) -> float:
    return now.timestamp() - float(row.payload["since"])


def _takes(groups: Sequence[str], queue: str) -> bool:
    return "*" in groups or serves(groups, queue)


def _anywhere(row: OutboxRow) -> OutboxRow:
    """Return a row that any worker may answer (`fallback: IGNORE`)."""
    return replace(row, payload={**row.payload, "queue": DEFAULT})


def _run_of(row: OutboxRow) -> tuple[str, int, str]:
    return row.key, int(row.payload["epoch"]), str(row.payload.get("queue", "tasks"))
