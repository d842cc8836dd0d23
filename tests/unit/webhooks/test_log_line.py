"""Lines of the server's own log."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from webhooks.log_line import LineFormatter


def line(name: str, message: str, **fields: Any) -> str:
    record = logging.makeLogRecord({"name": name, "msg": message, "levelname": "WARNING", **fields})
    return LineFormatter().format(record).split(" WARNING ", 1)[1]


def test_a_line_says_what_it_is_about() -> None:
    found = line("sync.service", "a repository cannot be read", repository="team", code="repository.unreachable")

    assert found == "sync.service: a repository cannot be read repository=team code=repository.unreachable"


@pytest.mark.parametrize(
    ("value", "written"),
    [("two words", '"two words"'), ("a\nERROR forged", '"a\\nERROR forged"'), ("\x1b[2J", '"\\u001b[2J"'), (3, "3")],
)
def test_a_value_of_others_ends_no_line_and_steers_no_terminal(value: object, written: str) -> None:
    found = line("runner.sweeper", "kept", reason=value)

    assert found == f"runner.sweeper: kept reason={written}"


def test_a_line_holds_no_password_of_an_address() -> None:
    found = line("sync.mirror", "no https://a:pass@host/x", error="http://b:word@other:80/y failed")

    assert found == 'sync.mirror: no https://host/x error="http://other:80/y failed"'


def test_a_line_is_short_whatever_a_client_sends() -> None:
    found = line("webhooks.hosted_git", "gone", path="/git/" + "x" * 70_000)

    assert len(found) < 600


def test_fields_of_other_packages_stay_out() -> None:
    found = line("uvicorn.error", "started", color_message="\x1b[1mstarted")

    assert found == "uvicorn.error: started"
