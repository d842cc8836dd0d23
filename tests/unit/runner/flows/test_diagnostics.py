"""How problems look."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest

from runner.errors import Problem, Severity
from runner.flows.diagnostics import as_json, block, github, gitlab, junit, summary

SOURCE = 'id: a\ntasks:\n  - id: one\n    type: core.log.Lgo\n    message: "hi there"\n'


def test_a_block_shows_the_line_and_marks_the_word() -> None:
    problem = Problem(
        "task.type.unknown",
        "no task type named 'core.log.Lgo'",
        file="flows/report.yaml",
        line=4,
        column=11,
        hint="did you mean 'core.log.Log'?",
    )

    text = block(problem, SOURCE)

    assert text == (
        "flows/report.yaml:4:11  task.type.unknown\n"
        "    4 |     type: core.log.Lgo\n"
        "      |           ^^^^^^^^^^^^ no task type named 'core.log.Lgo'; did you mean 'core.log.Log'?"
    )


@pytest.mark.parametrize(
    ("line", "column", "mark"),
    [
        ("a: [one, two]", 5, "^^^"),
        ("a: 'one two'", 4, "^^^^^^^^^"),
        ("key: value", 1, "^^^"),
        ("a:", 9, "^"),
        ("t: 5 minutes # long", 4, "^^^^^^^^^"),
        ("- id: one", 3, "^^"),
        ("- a b", 3, "^^^"),
        ("t: x {{ y | z }}", 11, "^"),
    ],
)
def test_the_mark_is_as_wide_as_the_value(line: str, column: int, mark: str) -> None:
    text = block(Problem("x.y", "m", file="f", line=1, column=column), line)

    assert text.splitlines()[-1].split("|")[1].strip() == f"{mark} m"


def test_control_characters_of_a_file_do_not_reach_the_terminal() -> None:
    problem = Problem("x.y", "bad \x1b[31m", file="a\x1b]0;t\x07.yaml", line=1, column=2)

    text = block(problem, "\x1b[2J\u202eoops")

    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\u001b" in text


def test_a_long_line_is_cut_around_the_mark() -> None:
    text = block(Problem("x.y", "m", file="f", line=1, column=5001), "x" * 5000 + "!" + "y" * 5000)

    shown, mark = (line.split(" | ", 1)[1] for line in text.splitlines()[1:])
    assert len(shown) == 160
    assert shown[mark.index("^")] == "!"


def test_a_problem_without_a_place_is_two_lines() -> None:
    assert block(Problem("flow.id.duplicate", "twice", Severity.WARNING, "a.yaml")) == (
        "a.yaml  flow.id.duplicate warning\n      twice"
    )


@pytest.mark.parametrize(
    ("problems", "expected"),
    [
        ([], "15 flows, no problems (0.11 s)"),
        ([Problem("a.b", "m", file="x"), Problem("a.c", "m", file="x")], "2 problems in 1 of 15 flows (0.11 s)"),
        (
            [Problem("a.b", "m", file="x"), Problem("a.c", "m", Severity.WARNING, "y")],
            "1 problem, 1 warning in 2 of 15 flows (0.11 s)",
        ),
    ],
)
def test_the_summary_counts(problems: list[Problem], expected: str) -> None:
    assert summary(problems, 15, 0.114) == expected


def test_the_summary_counts_files_of_tests_too() -> None:
    assert summary([], 11, 0.5, tests=1) == "11 flows and 1 file of tests, no problems (0.50 s)"
    assert summary([Problem("a.b", "m", file="x")], 11, 0.5, tests=4) == "1 problem in 1 of 15 files (0.50 s)"


def test_json_is_a_list_with_all_keys() -> None:
    assert as_json([]) == "[]"
    assert json.loads(as_json([Problem("a.b", "m", file="f", line=1, column=2)])) == [
        {"file": "f", "line": 1, "column": 2, "code": "a.b", "severity": "error", "message": "m", "hint": None}
    ]


def test_github_annotations_escape_what_ends_a_command() -> None:
    problem = Problem("a.b", "50%\nnext", Severity.WARNING, "x,y:z.yaml", 3, 4, "hint")

    assert github(problem) == "::warning file=x%2Cy%3Az.yaml,line=3,col=4,title=a.b::50%25%0Anext; hint"


def test_gitlab_gets_a_fingerprint_that_outlives_a_move_of_the_line() -> None:
    here, twice, moved = (Problem("a.b", "m in line 3", file="f.yaml", line=line) for line in (3, 5, 30))

    before, after = json.loads(gitlab([here, twice])), json.loads(gitlab([moved]))

    assert before[0]["fingerprint"] == after[0]["fingerprint"]
    assert before[0]["fingerprint"] != before[1]["fingerprint"]
    assert before[0]["location"] == {"path": "f.yaml", "lines": {"begin": 3}}
    assert (before[0]["check_name"], before[0]["severity"]) == ("a.b", "major")


def test_gitlab_gets_a_line_for_a_problem_of_the_whole_file() -> None:
    report = json.loads(gitlab([Problem("a.b", "m", Severity.WARNING, "f.yaml", hint="do x")]))

    assert report[0]["location"]["lines"] == {"begin": 1}
    assert (report[0]["severity"], report[0]["description"]) == ("minor", "m; do x")


def test_junit_has_a_case_for_each_file_and_fails_those_with_errors() -> None:
    problems = [
        Problem("a.b", "bad \x00<&>", file="x.yaml", line=1, column=1),
        Problem("a.c", "worse", file="x.yaml", line=2, column=1),
        Problem("a.d", "mind this", Severity.WARNING, "y.yaml", 1, 1),
    ]

    root = ET.fromstring(junit(problems, {"x.yaml": "id: a\n", "y.yaml": "id: b\n", "z.yaml": ""}))

    assert root.attrib == {
        "name": "mainstem validate", "tests": "3", "failures": "1", "errors": "0", "skipped": "0", "time": "0.000",
    }  # fmt: skip
    failed, warned, clean = root.iter("testcase")
    assert failed.find("failure") is not None
    assert failed.find("failure").attrib == {"message": "2 problems: bad \\u0000<&>"}  # type: ignore[union-attr] # seen above
    assert "x.yaml:2:1  a.c" in (failed.findtext("failure") or "")
    assert (warned.find("failure"), "mind this" in (warned.findtext("system-out") or "")) == (None, True)
    assert list(clean) == []
