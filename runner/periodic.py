"""Small jobs that run again and again on a thread of their own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Job:
    name: str
    seconds: float
    run: Callable[[], object]
    due_at: float  # on the monotonic clock


class Periodic:
    """Runs jobs at their intervals, one after the other; a job that fails is logged and runs again at its next time."""

    def __init__(self, name: str = "periodic") -> None:
        self._jobs: list[_Job] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def every(
        self, seconds: float, run: Callable[[], object], *, name: str | None = None, first_s: float | None = None
    ) -> None:
        """Run a job every `seconds`, counted from the end of one run to the start of the next; first in `first_s`."""
        due_at = time.monotonic() + (seconds if first_s is None else first_s)
        job = _Job(name or str(getattr(run, "__qualname__", "job")), seconds, run, due_at)
        with self._changed:
            self._jobs.append(job)
            self._changed.notify_all()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """Start no further job and wait for the one that runs, at most `timeout_s` seconds."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)

    def _loop(self) -> None:
        while True:
            with self._changed:
                if self._stopping:
                    return
                now = time.monotonic()
                job = min(self._jobs, key=lambda each: each.due_at, default=None)
                if job is None or job.due_at > now:
                    self._changed.wait(None if job is None else job.due_at - now)
                    continue
            try:
                job.run()
            except Exception:  # see below
                # Jobs are given by others; whatever one of them does, the others must go on.
                log.exception("a periodic job failed", extra={"job": job.name})
            job.due_at = time.monotonic() + job.seconds
