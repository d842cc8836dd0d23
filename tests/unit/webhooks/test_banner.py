"""What a server says when it has started."""

from __future__ import annotations

from runner.settings import Settings
from webhooks.up import banner_lines

PLACE = "Nothing is deployed yet: push a branch main that holds a folder flows/."


def test_a_server_that_was_told_nothing_asks_for_a_branch_and_a_folder() -> None:
    lines = list(banner_lines(Settings(), ".mainstem", 1.0, has_flows=False))

    assert PLACE in lines


def test_a_server_with_environments_says_what_each_of_them_waits_for() -> None:
    environments = [
        {"name": "staging", "repository": "hosted", "path": "staging"},
        {"name": "production", "repository": "team", "ref": "tags/v*"},
    ]
    settings = Settings.model_validate({"environments": environments})

    lines = list(banner_lines(settings, ".mainstem", 1.0, has_flows=False))

    assert PLACE not in lines
    assert "  staging: main here, with flows in staging/" in lines
    assert "  production: tags/v* in the repository team, with flows in flows/" in lines


def test_a_server_that_has_flows_asks_for_nothing() -> None:
    lines = list(banner_lines(Settings(), ".mainstem", 1.0, has_flows=True))

    assert not any("deployed" in line for line in lines)
