"""The runner on a suite of our own: as it is, everything holds; with any one expected value wrong, its case fails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conformance.flipping import flipped
from tests.conformance.__main__ import main

SUITE = Path(__file__).parent / "suite"
ROOT = Path(__file__).parents[3]


@pytest.fixture
def wrong_suite(tmp_path: Path) -> tuple[Path, set[str]]:
    """Give a copy of the suite in which each case has exactly one wrong expectation, and the names of its cases."""
    shutil.copytree(SUITE / "flows", tmp_path / "flows")
    names: set[str] = set()
    for file in ("executions.json", "expressions.json"):
        cases = json.loads((SUITE / file).read_text())
        wrong = [{**bad, "id": f"{case['id']}@{place}"} for case in cases for place, bad in flipped(case)]
        names |= {case["id"] for case in wrong}
        (tmp_path / file).write_text(json.dumps(wrong))
    return tmp_path, names


def run(suite: Path, *options: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Run a suite; return the exit code and the results by name."""
    report = suite / "report.json" if suite != SUITE else None
    code = main(["--suite", str(suite), "--jobs", "2", *options, *(["--report", str(report)] if report else [])])
    found = json.loads(report.read_text())["cases"] if report else []
    return code, {case["name"]: case for case in found}


def test_the_suite_holds_as_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)

    code, _ = run(SUITE)

    assert (code, capsys.readouterr().out.splitlines()[-1]) == (0, "24 passed, 0 failed, 0 skipped")


def test_every_wrong_expectation_fails_its_case(
    wrong_suite: tuple[Path, set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    suite, names = wrong_suite

    code, results = run(suite, "--patience", "0.1")

    assert code == 1
    assert results.keys() == names
    assert {name for name, case in results.items() if case["outcome"] != "failed"} == set()
    assert {name for name, case in results.items() if "the runner failed" in case["detail"]} == set()
