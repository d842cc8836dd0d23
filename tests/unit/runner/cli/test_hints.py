"""What the command line says when it cannot go on: what to do instead."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from click.testing import CliRunner

from runner.cli import run, test
from runner.errors import MainstemError, NotFoundError
from runner.home import prepare_home
from runner.store.migration import migration_remedy
from sync.comparison import of_revision
from tests.servers.git import git
from webhooks.process import write_logs


def test_tests_without_a_path_are_told_one() -> None:
    result = CliRunner().invoke(test.command, [])

    assert result.exit_code == 2
    assert "such as: mainstem test flows" in result.stderr


@pytest.mark.parametrize(("files", "said"), [(("_kv.yaml", "b.yaml", "a.yml"), "such as {}/a.yml"), ((), "in it")])
def test_a_folder_is_no_flow_to_run(files: tuple[str, ...], said: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).touch()

    result = CliRunner().invoke(run.command, [str(tmp_path)])

    assert result.exit_code == 2
    assert said.format(tmp_path) in result.stderr


@pytest.mark.parametrize("below", ["", "home"])
def test_a_home_that_is_a_file_is_told_to_be_no_folder(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(MainstemError, match="it is no folder"):
        prepare_home(tmp_path / "file" / below)


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("database or disk is full", "free space on its disk and start again"),
        ("x", "mend what it says and start again"),
    ],
)
def test_a_failed_migration_says_what_to_do(said: str, remedy: str) -> None:
    assert migration_remedy(said) == remedy


def test_a_revision_that_is_not_here_is_told_how_to_come(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "first")

    with pytest.raises(NotFoundError) as caught, of_revision(tmp_path, "nosuch"):
        pass

    assert "`git fetch` brings others" in (caught.value.hint or "")


@pytest.mark.parametrize(("level", "tells"), [("info", False), ("debug", True)])
def test_tries_again_of_the_http_client_are_told_to_who_looks_for_them(level: str, *, tells: bool) -> None:
    client = logging.getLogger("urllib3")
    before = client.level
    try:
        write_logs("info")  # what was said before must not stay
        write_logs(level)

        assert logging.getLogger("urllib3.connectionpool").isEnabledFor(logging.WARNING) is tells
    finally:
        client.setLevel(before)
