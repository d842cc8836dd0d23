"""The conformance runner on a suite of our own: right and wrong expectations, on a real server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.__main__ import main

FLOW = """
id: greet
namespace: shop
inputs: [{id: who, type: STRING}]
tasks:
  - {id: hello, type: core.debug.Return, format: "hello {{ inputs.who }}"}
"""


def case(name: str, expect: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return an execution case over the flow above."""
    fields = {
        "flow_file": "greet.yaml",
        "area": "greetings",
        "needs": [],
        "inputs": {"who": "Ada"},
        "action": "execute",
    }
    return {"id": name, **fields, "expect": expect, **more}


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """Give a suite of four execution cases, one of which cannot run here, and two expressions; half are wrong."""
    steps = [
        {"start": {}, "as": "A"},
        {"wait": {"of": "A", "state": "terminal", "within_s": 20}},
        {"call": {"method": "GET", "path": "/api/v1/main/executions/{A.id}"}, "expect": {"http_status": 418}},
    ]
    cases = [
        case("right", {"state": "SUCCESS", "outputs": {"hello.value": "hello Ada"}}),
        case("wrong-output", {"state": "SUCCESS", "outputs": {"hello.value": "hello Bob"}}),
        case("wrong-status", {}, steps=steps),
        case("no-program", {}, requires=["a-program-that-nobody-has"]),
    ]
    expressions = [
        {"id": "upper", "template": "{{ 'a' | upper }}", "expect": "A"},
        {"id": "lower", "template": "{{ 'A' | lower }}", "expect": "A"},
    ]
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows/greet.yaml").write_text(FLOW)
    (tmp_path / "executions.json").write_text(json.dumps(cases))
    (tmp_path / "expressions.json").write_text(json.dumps(expressions))
    return tmp_path


def test_wrong_expectations_fail_and_are_told_with_their_reason(
    suite: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])

    code = main(["--suite", str(suite), "--jobs", "1", "--report", str(suite / "report.json")])

    lines = capsys.readouterr().out.splitlines()
    failed = sorted(line.split(":")[0] for line in lines if line.startswith("FAILED"))
    assert code == 1
    assert failed == ["FAILED greetings/wrong-output", "FAILED greetings/wrong-status", "FAILED rendering/lower"]
    assert lines[-1] == "2 passed, 3 failed, 1 skipped"
    areas = json.loads((suite / "report.json").read_text())["areas"]
    assert areas["greetings"] == {"passed": 1, "failed": 2, "skipped": 1, "optional": 0, "told": 0}


def test_right_expectations_alone_end_with_exit_code_zero(
    suite: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])

    code = main(["--suite", str(suite), "--only", "upper"])

    assert (code, capsys.readouterr().out.splitlines()[-1]) == (0, "1 passed, 0 failed, 0 skipped")


def test_a_folder_without_cases_is_no_success(tmp_path: Path) -> None:
    assert main(["--suite", str(tmp_path)]) == 2
