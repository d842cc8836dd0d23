"""How long something took: the API counts on while it runs, the command line counts from when it began to run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from runner.cli.exec import lasted
from runner.durations import parse_duration
from runner.states import State
from webhooks.shapes import state_json

AT = datetime(2026, 11, 22, tzinfo=UTC)


def test_what_still_runs_has_taken_until_now() -> None:
    begun = datetime.now(UTC) - timedelta(hours=2)

    found = state_json(State.RUNNING, ((State.CREATED, begun), (State.RUNNING, begun)), begun)

    assert parse_duration(found["duration"]) >= timedelta(hours=2)


def test_the_command_line_leaves_out_the_wait_as_pages_and_reports_do() -> None:
    began, ended = AT + timedelta(milliseconds=26), AT + timedelta(milliseconds=178)
    state = state_json(State.SUCCESS, ((State.CREATED, AT), (State.RUNNING, began), (State.SUCCESS, ended)), AT)

    found = lasted(state)

    assert (state["duration"], found) == ("PT0.178S", "152 ms")


def test_what_never_ran_has_lasted_since_it_was_made() -> None:
    state = state_json(State.CANCELLED, ((State.CREATED, AT), (State.CANCELLED, AT + timedelta(seconds=2))), AT)

    assert lasted(state) == "2.0 s"
