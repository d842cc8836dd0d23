"""Tests of commits wait here for their turn: one after another in a thread of this process, until it is closed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from sync.reviews.flow_tests import TestRun


class RunQueue:
    """Gives pieces of work their turn, and remembers whose have ended. Safe for any thread.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._lock = threading.Lock()
        self._runs: set[TestRun] = set()
        self._ended: set[str] = set()
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Whether runs end without having found anything, to begin again after the restart."""
        return self._is_closed

    def put(self, runs: Sequence[TestRun], work: Callable[[], None]) -> None:
        """Let `work` have its turn, in which it gets the answers of `runs`.

        In a queue that is closed they are stopped and it has its turn here and now: it ends at once then, and takes
        their folders away.
        """
        with self._lock:
            if not self._is_closed:
                self._runs.update(runs)
                self._pool.submit(self._turn, runs, work)
                return
        for run in runs:
            run.stop()
        work()

    def _turn(self, runs: Sequence[TestRun], work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            with self._lock:
                self._runs.difference_update(runs)

    def tell(self, repository: str) -> None:
        """Remember that tests of a repository have ended."""
        with self._lock:
            self._ended.add(repository)

    def ended(self) -> list[str]:
        """Return the repositories of which tests have ended since the last time."""
        with self._lock:
            found, self._ended = sorted(self._ended), set()
        return found

    def close(self) -> None:
        """Stop the tests that run; those that wait their turn end at once, and take their folders away."""
        with self._lock:
            self._is_closed, runs = True, list(self._runs)
        for run in runs:
            run.stop()
        self._pool.shutdown(wait=False)
