"""`mainstem migrate kestra` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from runner.cli import call
from sync.kestra.cli import command

GOOD = "id: good\nnamespace: company\ntasks: [{id: say, type: io.kestra.plugin.core.log.Log, message: hi}]\n"
NOTED = "id: noted\nnamespace: company\ntasks:\n  - {id: s, type: io.kestra.plugin.scripts.shell.Script, script: ls}\n"
LATER = (
    "id: later\nnamespace: company\ntasks:\n"
    "  - {id: say, type: io.kestra.plugin.slack.Send, url: \"{{ secret('SLACK') }}\"}\n"
    "  - {id: again, type: io.kestra.plugin.slack.Send}\n"
)


@pytest.fixture
def flows(tmp_path: Path) -> Path:
    (tmp_path / "good.yml").write_text(GOOD)
    (tmp_path / "noted.yml").write_text(NOTED)
    (tmp_path / "later.yml").write_text(LATER)
    (tmp_path / "board.yml").write_text("id: board\ncharts: []\n")
    return tmp_path


def _run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, ["kestra", *map(str, arguments)], standalone_mode=False)


def test_the_table_has_a_verdict_and_the_reasons_for_each_flow(flows: Path) -> None:
    result = _run(flows)

    lines = result.output.splitlines()
    assert result.return_value == 1
    assert lines[:4] == [
        "company.good   runs unchanged",
        "company.later  not yet",
        f"    {flows}/later.yml:4  type: no task type named 'io.kestra.plugin.slack.Send'",
        f"    {flows}/later.yml:5  type: no task type named 'io.kestra.plugin.slack.Send'",
    ]
    assert lines[4] == "company.noted  runs with a note"
    assert lines[5].startswith(
        f"    {flows}/noted.yml:4  note: s: Kestra runs a script without a task runner in Docker"
    )
    assert lines[6:] == [
        "",
        f"3 flows in {flows}",
        "      1  run unchanged      33 %",
        "      1  run with a note    33 %",
        "      1  not yet            33 %",
        "      1  no flows",
        "types that are missing, by the flows that use them",
        "      1  io.kestra.plugin.slack.Send",
    ]


def test_json_has_all_of_it(flows: Path) -> None:
    report = json.loads(_run(flows, "--json").output)

    assert report["counts"] == {"unchanged": 1, "note": 1, "notYet": 1, "noFlow": 1}
    assert report["missing"] == {"types": {"io.kestra.plugin.slack.Send": 1}, "properties": {}}
    assert report["secrets"] == ["SLACK"]
    later = next(each for each in report["flows"] if each["flow"] == "company.later")
    assert later["verdict"] == "not yet"
    assert later["reasons"][0] == {
        "kind": "type",
        "line": 4,
        "subject": "io.kestra.plugin.slack.Send",
        "message": "no task type named 'io.kestra.plugin.slack.Send'",
        "hint": None,
    }


def test_flows_that_all_run_end_with_zero(flows: Path) -> None:
    (flows / "later.yml").unlink()

    assert _run(flows).return_value == 0


def test_a_place_without_flows_ends_with_three(tmp_path: Path) -> None:
    (tmp_path / "board.yml").write_text("id: board\ncharts: []\n")

    assert _run(tmp_path).return_value == 3
    assert call(["migrate", "kestra", str(tmp_path / "gone")]) == 3


def test_names_of_somebody_else_reach_no_terminal_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text('id: "\\x1b]0;owned\\a"\nnamespace: x\ntasks: []\n')

    result = _run(tmp_path)

    assert "\x1b" not in result.output
    assert "x.�]0;owned�  not yet" in result.output
