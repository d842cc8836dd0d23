from __future__ import annotations

import pytest

from runner.executions.models import Attempt
from runner.ids import new_id
from runner.job import AttemptJob
from runner.states import State

KILLED, FAILED = State.KILLED, State.FAILED


@pytest.mark.parametrize(
    ("past", "expected"),
    [
        ([], 0),
        ([(KILLED, "PREEMPTED"), (KILLED, "NODE_LOST"), (KILLED, "EVICTED")], 3),
        ([(KILLED, "worker drained"), (KILLED, "PREEMPTED"), (KILLED, None)], 1),
        ([(KILLED, "PREEMPTED"), (FAILED, "PREEMPTED"), (KILLED, "PREEMPTED")], 1),
        ([(KILLED, "PREEMPTED"), (FAILED, "APP_EXIT")], 0),
    ],
)
def test_interruptions_are_counted_since_the_last_failure(past: list[tuple[State, str | None]], expected: int) -> None:
    run = new_id()
    attempts = [
        Attempt(run, new_id(), number, number, state, worker_id="w", failure_reason=reason)
        for number, (state, reason) in enumerate(past, 1)
    ]
    job = AttemptJob()

    job.look_back(attempts)

    assert job.interruptions == expected
