"""The runs of a long execution that were not loaded for deciding, read from the store when one of them is needed."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from runner.executions.models import TaskRun
from runner.store import Store


class StoredRuns:
    """The `Rest` of one execution. Each question is a read of its own: the commit's version check covers them."""

    def __init__(self, store: Store, execution_id: str) -> None:
        self._store = store
        self._execution_id = execution_id

    def all(self) -> list[TaskRun]:
        """Return all runs, in the order of their creation."""
        return self._store.read(lambda db: db.executions.runs(self._execution_id))

    def inside(self, run_id: str) -> list[TaskRun]:
        """Return the runs directly inside a container, in the order of their creation."""
        return self._store.read(lambda db: db.executions.runs_inside(self._execution_id, run_id))

    def values(self, loop_id: str, iterations: Iterable[int]) -> list[TaskRun]:
        """Return the runs directly inside a loop for some of its values, in the order of their creation."""
        wanted = list(iterations)
        return self._store.read(lambda db: db.executions.runs_of_values(self._execution_id, loop_id, wanted))

    def open(self) -> list[TaskRun]:
        """Return all open runs with what stands around them, in the order of their creation."""
        return self._store.read(lambda db: db.executions.open_runs(self._execution_id))

    def failures(self, count: int) -> list[TaskRun]:
        """Return the first `count` runs that FAILED with an error, in the order of their creation."""
        return self._store.read(lambda db: db.executions.failures(self._execution_id, count))

    def outputs(self, run_ids: Collection[str] | None) -> dict[str, dict[str, Any]]:
        """Return the outputs of some runs, None: of all, by run id."""
        return self._store.read(lambda db: db.executions.outputs(self._execution_id, run_ids))
