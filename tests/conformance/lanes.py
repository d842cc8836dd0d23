"""Runs execution cases in several processes at once; a case that hangs or kills its process is a failed case."""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tests.conformance.cases import Case
from tests.conformance.result import CaseResult
from tests.conformance.worker import work

_SPARE_S = 90.0  # over what a case waits for by itself: a server's start, and an execution without a limit
_STOP_S = 15.0


def run_all(
    suite: Path, cases: Sequence[Case], jobs: int, done: Callable[[CaseResult], None], *, patience_s: float
) -> None:
    """Run cases in `jobs` processes and give each result to `done`, in the order in which they end."""
    start = partial(_Process, suite, patience_s)
    waiting: queue.SimpleQueue[Case] = queue.SimpleQueue()
    for case in sorted(cases, key=_longest_first):
        waiting.put(case)
    results: queue.SimpleQueue[CaseResult] = queue.SimpleQueue()
    threads = [
        threading.Thread(target=_serve, args=(start, waiting, results), daemon=True)
        for _ in range(min(jobs, len(cases)))
    ]
    for thread in threads:
        thread.start()
    for _ in cases:
        done(results.get())
    for thread in threads:
        thread.join(_STOP_S)


def limit_s(case: Case) -> float:
    """Return after how many seconds a case is given up."""
    own = sum(_waits_s(step) for step in case["steps"] or () if isinstance(step, dict))
    groups = case.expect.get("other_executions") or ()
    return own + sum(float(group.get("within_seconds", 15)) for group in groups) + _SPARE_S


def _waits_s(step: Mapping[str, Any]) -> float:
    parts = [part for part in step.values() if isinstance(part, dict)]
    return float(step.get("sleep_s", 0)) + sum(float(part.get("within_s", 0)) for part in parts)


def _longest_first(case: Case) -> tuple[bool, float]:
    return not case.needs_own_server, -limit_s(case)


def _serve(
    start: Callable[[], _Process], waiting: queue.SimpleQueue[Case], results: queue.SimpleQueue[CaseResult]
) -> None:
    lane: _Process | None = None
    while True:
        try:
            case = waiting.get_nowait()
        except queue.Empty:
            break
        lane = lane or start()
        result = lane.run(case)
        if result is None:
            lane.end()
            lane = None
            result = CaseResult(case.id, case.area, "failed", f"it did not end within {limit_s(case):.0f} s")
        results.put(result)
    if lane is not None:
        lane.end()


class _Process:
    """A process that runs cases."""

    def __init__(self, suite: Path, patience_s: float) -> None:
        # Spawned, not forked: this process has threads, and the server's supervisor must be forked before any.
        context = multiprocessing.get_context("spawn")
        self._channel: Connection
        self._channel, other = context.Pipe()
        self._process: BaseProcess = context.Process(target=work, args=(suite, patience_s, other))
        self._process.start()
        other.close()

    def run(self, case: Case) -> CaseResult | None:
        """Return what became of a case; None when it took too long. A process that died failed its case."""
        try:
            self._channel.send(case.id)
            if not self._channel.poll(limit_s(case)):
                return None
            result: CaseResult = self._channel.recv()
        except (EOFError, OSError):
            return None
        return result

    def end(self) -> None:
        """Ask the process to end, and make it."""
        with contextlib.suppress(OSError):
            self._channel.send(None)
        self._process.join(_STOP_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._channel.close()
