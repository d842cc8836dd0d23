"""What the page of an execution decides: when it is shown anew, and what a failure says."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from runner.executions.models import TaskRun
from runner.states import State
from webhooks.pages.execution import Failure, stale_s


@pytest.mark.parametrize(
    ("error", "reason"), [("Command failed with exit code 3", None), ("Killed: no memory", "Killed: no memory")]
)
def test_a_failure_does_not_say_its_exit_code_twice(error: str, reason: str | None) -> None:
    run = TaskRun(id="r", execution_id="e", task_id="t", state=State.FAILED, created_at=datetime.now(UTC), error=error)

    assert Failure(run, 3, ()).reason == reason


@pytest.mark.parametrize(("shown", "wait"), [(0.006, 1.0), (60.0, 6.0), (90_000.0, 15.0)])
def test_a_duration_that_grows_is_shown_anew(shown: float, wait: float) -> None:
    assert stale_s(shown) == wait
