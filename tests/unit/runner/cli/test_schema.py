"""`mainstem schema` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from runner.cli import call
from runner.cli.schema import command


def test_the_schema_is_printed_or_written_to_a_file(tmp_path: Path) -> None:
    printed = CliRunner().invoke(command, [])
    written = CliRunner().invoke(command, ["--output", str(tmp_path / "flow.json")])

    assert (written.exit_code, written.output) == (0, "")
    assert json.loads(printed.output) == json.loads((tmp_path / "flow.json").read_text())


def test_the_schema_of_one_type_is_printed() -> None:
    result = CliRunner().invoke(command, ["--type", "io.kestra.core.tasks.log.Log"])

    assert json.loads(result.output)["title"] == "core.log.Log"


def test_an_unknown_type_ends_with_three() -> None:
    assert call(["schema", "--type", "core.log.Lgo"]) == 3


def test_tests_have_a_schema_of_their_own() -> None:
    result = CliRunner().invoke(command, ["--tests"])

    assert json.loads(result.output)["title"] == "Mainstem flow tests"
    assert call(["schema", "--tests", "--type", "core.log.Log"]) == 2
