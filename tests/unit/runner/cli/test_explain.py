"""`mainstem explain` as a user calls it."""

from __future__ import annotations

import json

from click.testing import CliRunner

from runner.cli.explain import command


def test_a_code_is_explained_with_an_example() -> None:
    result = CliRunner().invoke(command, ["task.type.unknown"])

    assert result.exit_code == 0
    assert result.output == (
        "task.type.unknown\n"
        "  No task type has this name; it is mistyped or its plugin is not installed.\n\n"
        "example\n"
        "  type: core.log.Lgo\n"
    )


def test_the_beginning_of_codes_lists_them() -> None:
    result = CliRunner().invoke(command, ["yaml.key"])

    assert [line.split()[0] for line in result.output.splitlines()] == [
        "yaml.key.complex",
        "yaml.key.duplicate",
        "yaml.key.invisible",
    ]


def test_all_codes_come_as_json() -> None:
    result = CliRunner().invoke(command, ["--json"])

    entries = json.loads(result.output)
    assert len(entries) > 100
    assert set(entries[0]) == {"code", "meaning", "example", "remedy"}


def test_an_unknown_code_is_answered_with_the_nearest() -> None:
    result = CliRunner().invoke(command, ["task.type.unknow"])

    assert result.exit_code == 3
    assert "did you mean 'task.type.unknown'?" in result.stderr


def test_a_code_like_no_other_is_answered_with_how_codes_begin() -> None:
    result = CliRunner().invoke(command, ["foo"])

    assert result.exit_code == 3
    assert "they begin with " in result.stderr
    assert "`mainstem explain` lists all codes" in result.stderr
