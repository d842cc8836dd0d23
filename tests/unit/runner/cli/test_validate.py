"""`mainstem validate` as a user calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from runner.cli.validate import command

GOOD = "id: %s\nnamespace: company\ntasks:\n  - {id: hi, type: core.log.Log, message: hi}\n"


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    folder = tmp_path / "flows"
    (folder / "company.team").mkdir(parents=True)
    (folder / "a.yaml").write_text(GOOD % "a")
    (folder / "company.team" / "b.yml").write_text((GOOD % "b").replace("namespace: company\n", ""))
    (folder / "_files").mkdir()
    (folder / "_files" / "values.yaml").write_text("not: a flow")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "x.yaml").write_text("not: a flow")
    (folder / "notes.txt").write_text("nothing")
    return folder


def _run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_clean_flows_end_with_zero_and_a_count(flows: Path) -> None:
    result = _run(flows)

    assert result.exit_code == 0, result.output
    assert result.output.startswith("2 flows, no problems (")


def test_a_problem_is_shown_with_its_line_and_ends_with_one(flows: Path) -> None:
    (flows / "c.yaml").write_text((GOOD % "c").replace("core.log.Log", "core.log.Lgo"))

    result = _run(flows)

    assert result.exit_code == 1
    assert f"{flows}/c.yaml:4:20  task.type.unknown\n" in result.output
    assert "did you mean 'core.log.Log'?" in result.output
    assert "1 problem in 1 of 3 flows" in result.output


def test_warnings_alone_do_not_fail(flows: Path) -> None:
    (flows / "c.yaml").write_text((GOOD % "c").replace("message: hi", "message: '{{ outputs.nothing.x }}'"))

    result = _run(flows)

    assert result.exit_code == 0
    assert "expression.outputs.unknown warning" in result.output


def test_json_of_clean_flows_is_an_empty_list(flows: Path) -> None:
    result = _run(flows, "--format", "json")

    assert (result.exit_code, json.loads(result.output)) == (0, [])


def test_json_lists_every_problem(flows: Path) -> None:
    (flows / "c.yaml").write_text((GOOD % "a") + "  - {id: hi, type: core.log.Log, message: hi}\n")

    result = _run("--json", flows)

    assert result.exit_code == 1
    assert [problem["code"] for problem in json.loads(result.output)] == ["task.id.duplicate"]


def test_flows_are_checked_together(flows: Path) -> None:
    (flows / "other.yaml").write_text(GOOD % "a")

    result = _run(flows, "--format", "github")

    assert result.exit_code == 1
    assert f"::error file={flows}/other.yaml,title=flow.id.duplicate::" in result.output


def test_a_missing_path_is_a_usage_error(tmp_path: Path) -> None:
    assert _run(tmp_path / "nothing").exit_code == 2


def test_a_huge_file_and_a_pipe_do_not_stop_the_others(flows: Path) -> None:
    (flows / "big.yaml").write_bytes(b"a: 1\n" * 2_000_000)
    os.mkfifo(flows / "pipe.yaml")

    result = _run(flows, "--json")

    assert [problem["code"] for problem in json.loads(result.output)] == ["yaml.file.large"]


def test_a_broken_link_is_passed_over_in_a_folder_and_named_by_itself(flows: Path) -> None:
    link = flows / "link.yaml"
    link.symlink_to(flows / "nothing.yaml")

    assert _run(flows).exit_code == 0
    assert _run(link).exit_code == 2


def test_asking_for_help_imports_neither_models_nor_plugins() -> None:
    program = (
        "import sys, runner.cli.validate, runner.cli.explain; "
        "print(sorted(name for name in ('pydantic', 'yaml', 'httpx', 'runner.flows.parse') if name in sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
