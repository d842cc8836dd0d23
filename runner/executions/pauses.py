"""What a run that waited leaves when it goes on: the outputs of a Pause, and the breakpoints of an execution. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from runner.executions.models import TaskRun
from runner.states import State

PASSED: Final = "passed"
"""The key of a run's memory that says: somebody let it go on after the breakpoint that it stopped at."""


def resumed_outputs(given: Mapping[str, Any], at: datetime, by: str | None = None) -> dict[str, Any]:
    """Return the outputs of a Pause that goes on: its inputs, when it was, and who did it (None: its time was over)."""
    return {
        "onResume": dict(given),
        "resumed": {"on": at.isoformat(), "by": by or "", "to": State.RUNNING.value},
    }


def is_at_breakpoint(run: TaskRun, breakpoints: Iterable[str]) -> bool:
    """Return whether a run is not to begin before somebody lets it.

    A breakpoint is the id of a task, or `id.value` for one value of the loop around it.
    """
    if run.state is not State.CREATED or run.attempts or PASSED in run.memory:
        return False
    parted = (each.partition(".") for each in breakpoints)
    return any(task_id == run.task_id and (not dot or value == run.value) for task_id, dot, value in parted)
