"""What a server says when it has started, and to whom it says earlier where it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.home import TOKEN_FILE
from runner.settings import Settings
from runner.store import Store
from webhooks.up import EmbeddedServer, banner_lines

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


class _ToldError(Exception):
    """Ends a start at the moment when the address is told."""


class _Telling(EmbeddedServer):
    def _tell_address(self) -> None:
        raise _ToldError((self.home / TOKEN_FILE).read_text(encoding="utf-8").strip())


class _WithoutDatabase(EmbeddedServer):
    def _open_store(self) -> Store:
        raise _ToldError


def test_a_start_that_fails_leaves_no_token_that_no_database_knows(tmp_path: Path) -> None:
    server = _WithoutDatabase(Settings(home=tmp_path / "home", work=tmp_path / "work", port=0))

    with pytest.raises(_ToldError), server:
        pass

    assert not (server.home / TOKEN_FILE).exists()


def test_who_reads_the_address_of_a_new_server_finds_its_token(tmp_path: Path) -> None:
    server = _Telling(Settings(home=tmp_path / "home", work=tmp_path / "work", port=0))

    with pytest.raises(_ToldError) as told, server:
        pass

    assert str(told.value) == server.token
