"""What the engine asks of the process it lives in, besides the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol


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
