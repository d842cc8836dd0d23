from __future__ import annotations

from typing import Any

import pytest

from task_runners.docker_end import has_ended, is_unexplained, status_of
from task_runners.errors import FailureReason
from task_runners.spec import Phase


@pytest.mark.parametrize(
    ("state", "memory", "expected"),
    [
        ({"ExitCode": 0}, 0, (Phase.SUCCEEDED, None, None)),
        ({"ExitCode": 3}, 0, (Phase.FAILED, FailureReason.APP_EXIT, "command failed with exit code 3")),
        (
            {"ExitCode": 3, "Status": "removing"},
            0,
            (Phase.FAILED, FailureReason.APP_EXIT, "command failed with exit code 3"),
        ),
        ({"ExitCode": 0, "Status": "removing"}, 0, (Phase.SUCCEEDED, None, None)),
        ({"ExitCode": 137, "OOMKilled": True}, 0, (Phase.FAILED, FailureReason.OOM_KILLED, "out of memory")),
        (
            {"ExitCode": 137, "OOMKilled": True},
            64 * 1024**2,
            (Phase.FAILED, FailureReason.OOM_KILLED, "out of memory (limit 64 MiB)"),
        ),
        (
            {"ExitCode": 127, "Error": "no such thing"},
            0,
            (Phase.FAILED, FailureReason.APP_EXIT, "command failed with exit code 127: no such thing"),
        ),
    ],
)
def test_the_end_of_a_container_is_read_from_its_state(
    state: dict[str, Any], memory: int, expected: tuple[Phase, FailureReason | None, str | None]
) -> None:
    times = {"StartedAt": "2026-01-01T00:00:00.5Z", "FinishedAt": "2026-01-01T00:00:02.123456789Z"}

    status = status_of({"State": {"Status": "exited", **times, **state}, "HostConfig": {"Memory": memory}}, {})

    assert (status.phase, status.failure_reason, status.message) == expected
    assert status.usage.wall_seconds == 1.623456


@pytest.mark.parametrize("word", ["removing", "dead"])
def test_a_kill_on_the_way_to_a_removal_is_no_end_that_the_body_made(word: str) -> None:
    status = status_of({"State": {"Status": word, "ExitCode": 137}, "HostConfig": {}}, {"containerId": "c"})

    assert (status.phase, status.exit_code, status.failure_reason) == (Phase.LOST, None, FailureReason.LOST)
    assert status.details == {"containerId": "c"}


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"Status": "exited", "ExitCode": 137}, True),
        ({"Status": "exited", "ExitCode": 137, "OOMKilled": True}, False),
        ({"Status": "exited", "ExitCode": 143}, False),
        ({"Status": "removing", "ExitCode": 137}, False),
    ],
)
def test_only_a_kill_that_nothing_explains_is_looked_at_again(state: dict[str, Any], *, expected: bool) -> None:
    assert is_unexplained({"State": state}) is expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [("running", False), ("paused", False), ("stopping", False), ("", False), ("exited", True), ("stopped", True)],
)
def test_a_word_that_says_nothing_of_an_end_is_none(word: str, *, expected: bool) -> None:
    assert has_ended({"State": {"Status": word}}) is expected
