"""Runs to make pages of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runner.executions.models import Attempt, Execution, LogEntry, TaskRun, TriggerInfo
from runner.reports.details import RunDetails
from runner.reports.rows import RunRow, row_of
from runner.states import State

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Runs:
    """Makes executions, their task runs, and what a page needs of them."""

    now = NOW

    def row(self, minutes: float = 0, **fields: Any) -> RunRow:
        """The row of a run of `weather.report` that ended so many minutes after noon and took a second."""
        values: dict[str, Any] = {
            "id": f"run{minutes:g}",
            "namespace": "weather",
            "flow": "report",
            "revision": 1,
            "state": State.SUCCESS,
            "end": NOW + timedelta(minutes=minutes),
            "environment": "prod",
            "seconds": 1.0,
        }
        return RunRow(**(values | fields))

    def execution(self, **fields: Any) -> Execution:
        """A failed run of 102 seconds."""
        values: dict[str, Any] = {
            "id": "01jd8w",
            "namespace": "weather",
            "flow_id": "report",
            "flow_revision": 3,
            "state": State.FAILED,
            "created_at": NOW,
            "started_at": NOW,
            "ended_at": NOW + timedelta(seconds=102),
            "environment": "prod",
            "commit": "4f2c9ab" + "0" * 33,
            "trigger": TriggerInfo("nightly", "io.kestra.plugin.core.trigger.Schedule"),
            "schedule_date": NOW,
            "histories": ((State.CREATED, NOW), (State.FAILED, NOW + timedelta(seconds=102))),
        }
        return Execution(**(values | fields))

    def task(self, task_id: str = "chart", state: State = State.FAILED, **fields: Any) -> TaskRun:
        """A task run that took two seconds."""
        values: dict[str, Any] = {
            "id": f"tr-{task_id}",
            "execution_id": "01jd8w",
            "task_id": task_id,
            "state": state,
            "created_at": NOW,
            "started_at": NOW,
            "ended_at": NOW + timedelta(seconds=2),
        }
        return TaskRun(**(values | fields))

    def attempt(self, run: TaskRun, number: int = 1, **fields: Any) -> Attempt:
        """An attempt of a task run that ended with exit code 1."""
        values: dict[str, Any] = {"state": State.FAILED, "exit_code": 1, "failure_reason": "APP_EXIT"}
        values["handle"] = {"runner": "core.runner.Process", "id": "1"}
        return Attempt(run.id, run.execution_id, number, number, **(values | fields))

    def log(self, run: TaskRun, message: str, level: str = "ERROR") -> LogEntry:
        """A line of log of a task run."""
        return LogEntry("01jd8w", "weather", "report", NOW, level, message, run.task_id, run.id)

    def details(self, execution: Execution | None = None, **fields: Any) -> RunDetails:
        """Everything about a run."""
        execution = execution or self.execution()
        return RunDetails(row_of(execution, self.mask), execution, **fields)

    def mask(self, text: str) -> str:
        """Hide the one secret there is."""
        return text.replace("s3cret-value", "******")


@pytest.fixture
def runs() -> Runs:
    """Makes runs."""
    return Runs()
