"""One attempt that a worker carries out, from its claim to its result."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from runner.executions.models import TaskRun
from runner.job import AttemptJob


@dataclass(slots=True)
class Claim:
    """One attempt that this process is carrying out."""

    run: TaskRun
    cancelled: threading.Event = field(default_factory=threading.Event)
    is_current: bool = True  # False once the claim is known to be over: nothing more may be written
    timed_out: bool = False
    given_up: str | None = None  # why the run is handed back once its body has ended
    inner: Claim | None = None  # that of the task which a WorkingDirectory runs now
    job: AttemptJob = field(default_factory=AttemptJob)
    wake: Callable[[], None] = lambda: None  # has a job that runs elsewhere looked at
    moved: list[Callable[[], None]] = field(default_factory=list)  # each takes lines that are in a file out of the log

    def cancel(self) -> None:
        """Have the body end."""
        self.cancelled.set()
        if (inner := self.inner) is not None:
            inner.cancelled.set()
        self.wake()

    def end_after(self, seconds: float) -> threading.Timer:
        """Have the body end so many seconds from now, unless the timer is cancelled before, and note why."""

        def expire() -> None:
            self.timed_out = True
            self.cancel()

        timer = threading.Timer(seconds, expire)
        timer.daemon = True
        timer.start()
        return timer

    def leave(self) -> None:
        """Have the body end, or the job of the body left to others when it can go on without this worker."""
        if self.job.outlives:
            self.job.left.set()
            self.wake()
        else:
            self.cancel()

    def tidy(self) -> None:
        """Do what waits for the result to be stored: remove what is left of the job, and lines that are in files."""
        self.job.tidy()
        while self.moved:
            self.moved.pop(0)()

    @contextmanager
    def inside(self) -> Iterator[Claim]:
        """Give a claim for one task of a job: it ends with this one, and its own end leaves this one alone."""
        job = AttemptJob(
            self.job.epoch, can_outlive=False, interruptions=self.job.interruptions, policy=self.job.policy
        )
        self.inner = inner = Claim(self.run, job=job, moved=self.moved)
        if self.cancelled.is_set():
            inner.cancelled.set()
        try:
            yield inner
        finally:
            self.inner = None
