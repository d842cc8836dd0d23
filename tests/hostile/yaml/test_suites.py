"""Whatever stands in a file of tests, reading it ends with suites or with problems, and judging it with a result."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.cli.local_host import open_host
from runner.flows.parse import parse_flow
from runner.flowtests.session import Options, run_session
from runner.flowtests.suites import problems_with, read_suites
from tests.rich_flow import changed, paths

FLOW = """\
id: a
namespace: x
inputs: [{id: n, type: INT, defaults: 1}]
tasks: [{id: say, type: core.debug.Return, format: hi}]
"""
SUITE = """\
id: suite
namespace: x
flowId: a
disabled: false
testCases:
  - id: one
    description: says hi
    fixtures:
      inputs: {n: 5}
      labels: {team: b}
      files: {f.txt: text}
      kv: {k: 1}
      secrets: {S: secret}
      tasks: [{id: say, value: v, state: FAILED, outputs: {value: "{{ files['f.txt'] }}"}}]
      trigger: {id: t, type: hook, variables: {body: {y: 1}}}
    expectedState: SUCCESS
    assertions:
      - {taskId: say, value: "{{ outputs.say.value }}", equalTo: hi, in: [hi], errorMessage: no, isNull: false}
"""


@pytest.mark.parametrize("new", ["gone", None, 5, "x", [], {}, [{}], {"x": 1}, [None]], ids=str)
def test_any_part_of_a_suite_may_be_missing_or_of_another_kind(tmp_path: Path, new: Any) -> None:
    flow, file = parse_flow(FLOW).require(), tmp_path / "suite.yaml"

    for path in paths(yaml.safe_load(SUITE)):
        file.write_text(changed(yaml.safe_load(SUITE), path, new))

        suites, problems = read_suites(file, named=True)

        assert suites or problems, path
        assert not any("cannot be read" in problem.message for problem in problems), path
        assert all(problem.line for suite in suites for problem in problems_with(suite, flow)), path


@pytest.mark.parametrize(
    "case",
    [
        "assertions: [{value: '{{', equalTo: 1}]",
        "assertions: [{value: '{{ outputs.say.value }}', matches: '(a+)+$'}, {value: 'a', matches: '('}]",
        "assertions: [{value: '{{ range(0, 1000000000) }}', contains: 5}]",
        "assertions: [{value: [1, {a: '{{ nothing }}'}], equalTo: '{{ nothing }}'}]",
        "fixtures: {inputs: {n: '{{ nothing }}'}}",
        "fixtures: {inputs: {n: [1, 2]}}",
        "fixtures: {kv: {'not a key!': 1}}",
        "fixtures: {tasks: [{id: say, outputs: {value: '{{ nothing }}'}}]}",
        "fixtures: {secrets: {'': ''}, labels: {'system.x': y}}",
        "fixtures: {trigger: {id: '', variables: {a: '{{ secret(1) }}'}}}",
    ],
)
def test_every_case_has_a_result_in_time(tmp_path: Path, case: str) -> None:
    (tmp_path / "x" / "tests").mkdir(parents=True)
    (tmp_path / "x" / "a.yaml").write_text(FLOW)
    suite = f"id: s\nnamespace: x\nflowId: a\ntestCases:\n  - id: one\n    {case}\n"
    (tmp_path / "x" / "tests" / "a.yaml").write_text(suite)

    session = run_session(
        [tmp_path],
        lambda room, root, store: open_host(room, os.environ, files=root, store=store),
        Options("", 1, 20.0),
    )

    assert session.problems == []
    (result,) = session.results
    assert result.outcome in {"passed", "failed", "error"}
    assert result.seconds < 15
    assert all(finding.sentence for finding in result.findings)
    assert not any(re.match(r"\w+Error: ", finding.sentence) for finding in result.findings)


@pytest.mark.parametrize("name", ["/etc/passwd", "", "a/../../b", "..", ".", "a/", "a//b", "/"])
def test_a_file_of_a_fixture_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    suite = {
        "id": "s",
        "namespace": "x",
        "flowId": "a",
        "testCases": [{"id": "one", "fixtures": {"files": {name: "x"}}}],
    }
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(suite))

    suites, problems = read_suites(tmp_path / "s.yaml", named=True)

    assert suites == []
    assert [problem.code for problem in problems] == ["test.file.invalid"]
