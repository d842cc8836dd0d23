"""The floor under the conformance counts: it may only rise."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conformance import floor


@pytest.fixture
def judge(tmp_path: Path) -> tuple[Path, Path]:
    """Give a report in which seven cases of `loops` pass, and the place of its floor."""
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"areas": {"loops": {"passed": 7, "failed": 2, "skipped": 1}}}))
    return report, tmp_path / "floor.json"


def test_a_report_that_reaches_its_floor_passes(judge: tuple[Path, Path]) -> None:
    report, file = judge
    file.write_text(json.dumps({"loops": {"passed": 7, "skipped": 1}}))

    assert floor.main([str(report), str(file)]) == 0


def test_a_report_below_its_floor_fails_and_names_the_area(
    judge: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    report, file = judge
    file.write_text(json.dumps({"loops": {"passed": 8, "skipped": 1}, "gone": {"passed": 1}}))

    code = floor.main([str(report), str(file)])

    assert code == 1
    assert capsys.readouterr().out.splitlines()[:2] == [
        "loops: 7 cases pass, the floor is 8",
        "gone: 0 cases pass, the floor is 1",
    ]


def test_writing_raises_a_floor_and_never_lowers_it(judge: tuple[Path, Path]) -> None:
    report, file = judge
    file.write_text(json.dumps({"loops": {"passed": 3}, "waits": {"passed": 5}}))

    floor.main([str(report), str(file), "--write"])

    assert json.loads(file.read_text()) == {
        "loops": {"passed": 7, "skipped": 1},
        "waits": {"passed": 5, "skipped": 0},
    }


def test_what_cannot_run_on_this_machine_is_not_held_against_it(judge: tuple[Path, Path]) -> None:
    report, file = judge
    file.write_text(json.dumps({"loops": {"passed": 8, "skipped": 0}}))

    assert floor.main([str(report), str(file)]) == 0
