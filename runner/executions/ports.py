"""What the engine asks of the process it lives in, and deciding of the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from runner.executions.models import TaskRun


class Doorbell(Protocol):
    """Wakes whoever does the work. Everything it rings for stands in the store; a lost ring costs time, no work."""

    def ring_executions(self, execution_ids: Iterable[str]) -> None:
        """Have these executions advanced soon."""

    def ring_runs(self, runs: Sequence[tuple[str, int, str]]) -> None:
        """Have submitted task runs claimed: (task run id, epoch, queue)."""

    def ring_effects(self) -> None:
        """Have the outbox's follow-ups (waiting parents, flow triggers) looked at."""

    def ring_timers(self) -> None:
        """Have the due times of executions and runs looked at again."""

    def stop_runs(self, task_run_ids: Iterable[str]) -> None:
        """Stop the bodies of these runs, wherever they are."""

    def kill_children(self, execution_id: str) -> None:
        """Kill the open executions that this one's subflow tasks wait for."""


class Rest(Protocol):
    """Where the runs are that were not loaded."""

    def all(self) -> Iterable[TaskRun]:
        """Return all runs of the execution, in the order of their creation."""

    def inside(self, run_id: str) -> Iterable[TaskRun]:
        """Return the runs directly inside a container."""

    def values(self, loop_id: str, iterations: Iterable[int]) -> Iterable[TaskRun]:
        """Return the runs directly inside a loop for some of its values."""

    def open(self) -> Iterable[TaskRun]:
        """Return all open runs with what stands around them, in the order of their creation."""

    def failures(self, count: int) -> Iterable[TaskRun]:
        """Return the first `count` runs that FAILED with an error, in the order of their creation."""
