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


def test_a_folder_without_flows_is_told_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / ".flows").mkdir()
    (tmp_path / ".flows" / "a.yaml").write_text(GOOD % "a")
    (tmp_path / "b.json").write_text("{}")

    result = _run(tmp_path)

    assert result.exit_code == 0
    assert result.output.startswith("0 flows, no problems (")
    assert "flows are files *.yaml and *.yml" in result.output


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
    assert f"::error file={flows}/other.yaml,line=1,col=1,title=flow.id.duplicate::" in result.output


FIVE = """\
id: five
namespace: company
tasks:
  - id: fetch
    type: core.http.Requst
    uri: https://example.com
  - id: say
    type: core.log.Log
    message: "{{ outputs.fetch.body | uper }}"
    timeuot: PT5M
  - id: say
    type: core.log.Log
    message: done
triggers:
  - id: daily
    type: core.trigger.Schedule
    cron: "0 25 * * *"
"""


def test_five_mistakes_of_one_file_are_named_at_once_each_with_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "five.yaml"
    file.write_text(FIVE)

    result = _run(file, "--json")

    told = [(problem["line"], problem["code"], problem["hint"]) for problem in json.loads(result.output)]
    assert told == [
        (5, "task.type.unknown", "did you mean 'core.http.Request'?"),
        (9, "expression.filter.unknown", "did you mean `upper`?"),
        (10, "task.property.unknown", "did you mean 'timeout'?"),
        (11, "task.id.duplicate", "ids are unique in a flow"),
        (17, "cron.invalid", "write minute, hour, day of month, month and day of week, such as `0 9 * * 1-5`"),
    ]


@pytest.mark.parametrize("style", ["text", "json", "sarif", "github", "gitlab", "junit"])
def test_every_form_tells_every_problem_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, style: str
) -> None:
    (tmp_path / "five.yaml").write_text(FIVE)
    monkeypatch.chdir(tmp_path)

    result = _run("five.yaml", "--format", style)

    assert result.exit_code == 1
    for code in ("task.type.unknown", "task.property.unknown", "task.id.duplicate", "cron.invalid"):
        assert code in result.output
    place = {
        "text": "five.yaml:17:11",
        "json": '"line": 17',
        "sarif": '"startLine": 17',
        "github": "line=17,",
        "gitlab": '"begin": 17',
        "junit": "five.yaml:17:11",
    }
    assert place[style] in result.output


def test_machines_get_paths_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my flows").mkdir()
    (tmp_path / "my flows" / "five.yaml").write_text(FIVE)
    monkeypatch.chdir(tmp_path)

    sarif = json.loads(_run(tmp_path / "my flows", "--format", "sarif").output)
    quality = json.loads(_run("./my flows/../my flows", "--format", "gitlab").output)

    place = sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert place == {"uri": "my%20flows/five.yaml", "uriBaseId": "%SRCROOT%"}
    assert quality[0]["location"]["path"] == "my flows/five.yaml"


def test_the_problems_can_go_to_a_file(flows: Path, tmp_path: Path) -> None:
    result = _run(flows, "--format", "junit", "--output", tmp_path / "report.xml")

    assert (result.exit_code, result.output) == (0, "")
    assert (tmp_path / "report.xml").read_text().startswith('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites')


SUITE = "id: s\nnamespace: company\nflowId: a\ntestCases:\n  - {id: one, fixtures: {tasks: [{id: %s}]}}\n"


def test_tests_of_flows_are_checked_too_and_counted_apart(flows: Path) -> None:
    (flows / "tests").mkdir()
    (flows / "tests" / "a.yaml").write_text(SUITE % "hi")
    (flows / "tests" / "data.yaml").write_text("just: data\n")

    clean = _run(flows)
    (flows / "tests" / "a.yaml").write_text(SUITE % "ho")
    result = _run(flows)

    assert clean.output.startswith("2 flows and 2 files of tests, no problems (")
    assert result.exit_code == 1
    assert f"{flows}/tests/a.yaml:5:39  test.task.unknown\n    5 |   - {{id: one" in result.output
    assert "1 problem in 1 of 4 files" in result.output


def test_a_file_of_tests_that_is_named_is_no_flow(flows: Path) -> None:
    (flows / "suite.yaml").write_text(SUITE % "hi")

    assert _run(flows / "suite.yaml").output.startswith("0 flows and 1 file of tests, no problems (")


def test_tests_may_follow_their_flow_in_one_file(flows: Path) -> None:
    tests = "---\nid: s\ntestCases:\n  - {id: one, fixtures: {tasks: [{id: ho}]}}\n"
    (flows / "c.yaml").write_text(GOOD % "c" + tests)

    result = _run(flows / "c.yaml", "--json")

    assert [(problem["line"], problem["code"]) for problem in json.loads(result.output)] == [(8, "test.task.unknown")]


CHART = "id: %s\ntitle: T\ncharts: [{id: a, type: core.dashboard.chart.%s, content: hi}]\n"


@pytest.mark.parametrize("folder", ["_dashboards", "company/dashboards", "_global/dashboards"])
def test_dashboards_are_checked_where_they_stand_and_are_no_flows(flows: Path, folder: str) -> None:
    path = flows / folder / "night.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(CHART % ("night", "Markdown"))

    clean = _run(flows)
    path.write_text(CHART % ("night", "Markup"))
    told = [json.loads(_run(named, "--json").output) for named in (flows, path)]

    assert clean.output.startswith("2 flows, no problems (")
    assert [[(each["line"], each["column"], each["code"]) for each in found] for found in told] == [
        [(3, 24, "dashboard.chart.unknown")]
    ] * 2


def test_a_namespace_may_be_called_dashboards(flows: Path) -> None:
    path = flows / "dashboards" / "c.yaml"
    path.parent.mkdir()
    path.write_text(GOOD % "c")

    assert [_run(named).output.split(",")[0] for named in (flows, path)] == ["3 flows", "1 flow"]


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
