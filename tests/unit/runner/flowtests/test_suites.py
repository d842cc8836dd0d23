"""Files of tests: what is read, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.flows.parse import parse_flow
from runner.flowtests.suites import problems_with, read_suites

GOOD = """\
id: suite
namespace: company
flowId: hello
testCases:
  - id: one
    fixtures:
      inputs: {name: x}
      tasks: [{id: say, outputs: {a: 1}}]
    assertions:
      - value: "{{ outputs.say.a }}"
        equalTo: 1
"""
FLOW = """\
id: hello
namespace: company
inputs: [{id: name, type: STRING}]
tasks: [{id: say, type: core.log.Log, message: hi}]
"""


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    return path


def test_the_suites_of_a_file_are_read_with_their_places(tmp_path: Path) -> None:
    path = _file(tmp_path, GOOD + "---\n" + GOOD.replace("id: suite", "id: other"))

    suites, problems = read_suites(path, named=False)

    assert problems == []
    assert [each.suite.id for each in suites] == ["suite", "other"]
    assertion = suites[1].suite.test_cases[0].assertions[0]
    assert suites[1].mark(assertion, "value") == (22, 16)


@pytest.mark.parametrize(
    ("change", "line", "code", "hint"),
    [
        (("flowId", "flowID"), 3, "test.property.unknown", "did you mean 'flowId'?"),
        (("equalTo", "equalto"), 11, "test.property.unknown", "did you mean 'equalTo'?"),
        (("equalTo: 1", "description: x"), 10, "test.assertion.empty", "such as"),
        (("inputs: {name: x}", "input: {name: x}"), 7, "test.property.unknown", "did you mean 'inputs'?"),
        (("id: one", "id: one\n  - id: one"), 6, "test.id.duplicate", None),
        (("id: one", "id: one\n    type: io.kestra.Other"), 6, "test.type.unknown", "UnitTest"),
        (("id: one", "id: one\n    expectedState: DONE"), 6, "test.property.invalid", None),
        (("testCases:", "testCases: []\nx:"), 4, "test.property.invalid", None),
        (("id: suite", "id: suite\nid: twice"), 2, "yaml.key.duplicate", "the first one is in line 1"),
    ],
)
def test_a_mistake_is_told_with_its_line(
    tmp_path: Path, change: tuple[str, str], line: int, code: str, hint: str | None
) -> None:
    suites, problems = read_suites(_file(tmp_path, GOOD.replace(*change, 1)), named=False)

    assert suites == []
    found = [problem for problem in problems if problem.code == code]
    assert [problem.line for problem in found] == [line], problems
    assert (hint or "") in (found[0].hint or "")


def test_data_beside_tests_is_passed_over_but_a_file_that_is_named_must_hold_tests(tmp_path: Path) -> None:
    path = _file(tmp_path, "a: 1\n")

    assert read_suites(path, named=False) == ([], [])
    assert [problem.code for problem in read_suites(path, named=True)[1]] == ["test.document.invalid"]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert [problem.code for problem in read_suites(tmp_path / "gone.yaml", named=True)[1]] == ["test.file.unreadable"]


@pytest.mark.parametrize(
    ("change", "line", "code"),
    [
        (("{id: say, outputs", "{id: sya, outputs"), 8, "test.task.unknown"),
        (("equalTo: 1", "equalTo: 1\n        taskId: sya"), 12, "test.task.unknown"),
        (("{name: x}", "{nmae: x}"), 7, "test.input.unknown"),
    ],
)
def test_names_that_the_flow_does_not_have_are_told(
    tmp_path: Path, change: tuple[str, str], line: int, code: str
) -> None:
    (located,), _ = read_suites(_file(tmp_path, GOOD.replace(*change)), named=False)

    problems = problems_with(located, parse_flow(FLOW).require())

    assert [(problem.line, problem.code) for problem in problems] == [(line, code)]
    assert (problems[0].hint or "").startswith("did you mean ")
