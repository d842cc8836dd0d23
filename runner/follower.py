"""Follows the jobs of one worker that run elsewhere: a few threads for any number of them.

Each job is looked at when its time has come. The time stands in memory only, since everything else stands in the store:
when this worker is lost, another one takes the job over and looks at once.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from runner.claim import Claim
from runner.job import Ended, Parked
from task_runners.errors import FailureReason
from task_runners.remote import Job, RemoteTaskRunner
from task_runners.spec import JobStatus, Phase, RunnerContext

log = logging.getLogger(__name__)

LOOKERS = 4
FINISHERS = 4
_AGAIN_S = 5.0  # after a look that failed for a reason nobody thought of
_MOST_FAILURES = 5


@dataclass(slots=True)
class _Followed:
    claim: Claim
    runner: RemoteTaskRunner
    job: Job
    ctx: RunnerContext
    turn: int = 0  # of the newest place on the heap; others are stale
    is_busy: bool = False
    is_wanted: bool = False  # looked at again as soon as the look that goes on now has ended
    failures: int = 0


class Follower:
    """Looks at jobs in their turn. `finish` gets a claim and its ended job, on a thread of its own kind."""

    def __init__(
        self, finish: Callable[[Claim, Ended], None], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._finish = finish
        self._monotonic = monotonic
        self._followed: dict[str, _Followed] = {}
        self._due: list[tuple[float, int, str]] = []
        self._turns = itertools.count(1)
        self._changed = threading.Condition()
        self._stopping = False
        self._lookers = _Threads("look", LOOKERS)
        self._finishers = _Threads("finish", FINISHERS)
        self._thread: threading.Thread | None = None

    @property
    def count(self) -> int:
        """How many jobs are followed."""
        return len(self._followed)

    def add(self, claim: Claim, parked: Parked) -> None:
        """Follow a job from now on, beginning with a look at once."""
        followed = _Followed(claim, parked.runner, parked.job, parked.ctx)
        claim.wake = lambda: self._wake(claim.run.id)
        with self._changed:
            self._followed[claim.run.id] = followed
            self._place(followed, 0.0)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="follower", daemon=True)
                self._thread.start()

    def soon(self, work: Callable[[], None]) -> None:
        """Have something done on one of the threads that also finish jobs."""
        self._finishers.run(work)

    def remove(self, task_run_id: str) -> bool:
        """Follow a job no more; return whether it was followed."""
        with self._changed:
            return self._followed.pop(task_run_id, None) is not None

    def stop(self, wait_s: float = 0.0) -> None:
        """End the threads; what is followed is left as it is. Wait at most `wait_s` for what they do now."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        until = time.monotonic() + wait_s
        for threads in (self._lookers, self._finishers):
            threads.stop(until)

    def _wake(self, task_run_id: str) -> None:
        with self._changed:
            followed = self._followed.get(task_run_id)
            if followed is None:
                return
            followed.is_wanted = followed.is_busy
            if not followed.is_busy:
                self._place(followed, 0.0)

    def _place(self, followed: _Followed, seconds: float) -> None:
        followed.turn = next(self._turns)
        heapq.heappush(self._due, (self._monotonic() + seconds, followed.turn, followed.claim.run.id))
        self._changed.notify_all()

    def _serve(self) -> None:
        while True:
            with self._changed:
                while not self._stopping and (not self._due or self._due[0][0] > self._monotonic()):
                    self._changed.wait(self._due[0][0] - self._monotonic() if self._due else None)
                if self._stopping:
                    return
                _, turn, task_run_id = heapq.heappop(self._due)
                followed = self._followed.get(task_run_id)
                if followed is None or followed.turn != turn:
                    continue
                followed.is_busy, followed.is_wanted = True, False
            self._lookers.run(lambda followed=followed: self._look(followed))  # type: ignore[misc]  # bound now

    def _look(self, followed: _Followed) -> None:
        if followed.claim.job.left.is_set():
            return
        try:
            looked = followed.runner.look(followed.job, followed.ctx)
        except Exception as error:  # a task runner may raise anything; the others must be followed further
            log.exception("a look at a job failed", extra={"job": followed.job.handle.id})
            self._failed(followed, error)
            return
        followed.failures = 0
        followed.job = looked.job
        if looked.status is None:
            self._later(followed, looked.again_s)
        else:
            self._ended(followed, looked.status)

    def _failed(self, followed: _Followed, error: Exception) -> None:
        followed.failures += 1
        if followed.failures < _MOST_FAILURES:
            self._later(followed, _AGAIN_S)
            return
        message = f"the task runner failed: {type(error).__name__}: {error}"
        self._ended(followed, JobStatus(Phase.LOST, None, FailureReason.LOST, message))

    def _later(self, followed: _Followed, seconds: float) -> None:
        with self._changed:
            followed.is_busy = False
            if self._followed.get(followed.claim.run.id) is followed:
                self._place(followed, 0.0 if followed.is_wanted else seconds)

    def _ended(self, followed: _Followed, status: JobStatus) -> None:
        with self._changed:
            if self._followed.pop(followed.claim.run.id, None) is not followed:
                return
        ended = Ended(followed.runner, followed.job, status, followed.ctx)
        self._finishers.run(lambda: self._finish(followed.claim, ended))


class _Threads:
    """Up to `most` threads, started when there is work for them. They end with the process."""

    def __init__(self, name: str, most: int) -> None:
        self._name, self._most = name, most
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def run(self, work: Callable[[], None]) -> None:
        self._work.put(work)
        with self._lock:  # whoever stops them may come meanwhile, and cannot wait for one that has not started
            if not self._idle.acquire(blocking=False) and len(self._threads) < self._most:
                thread = threading.Thread(target=self._serve, name=f"{self._name}-{len(self._threads)}", daemon=True)
                thread.start()
                self._threads.append(thread)

    def stop(self, until: float) -> None:
        with self._lock:
            threads = list(self._threads)
        for _ in threads:
            self._work.put(None)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, until - time.monotonic()))

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                work()
            except Exception:  # a thread must outlive what one job does to it
                log.exception("following a job failed")
            self._idle.release()
