"""`mainstem test` as a user calls it, on the flows of the examples."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from junitparser import JUnitXml

EXAMPLES = Path(__file__).parents[2] / "examples" / "flows"
MAINSTEM = Path(sys.executable).with_name("mainstem")


def _test(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MAINSTEM, "test", *arguments], cwd=folder, capture_output=True, text=True, timeout=110, check=False
    )


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """The examples, with one expectation that is wrong on purpose."""
    shutil.copytree(EXAMPLES, tmp_path / "flows")
    suite = tmp_path / "flows" / "penguins" / "tests" / "size_class.yaml"
    suite.write_text(suite.read_text().replace("equalTo: large", "equalTo: huge"))
    return tmp_path


def test_all_tests_of_the_examples_pass_and_run_every_task_that_no_fixture_stands_for(tmp_path: Path) -> None:
    done = _test(tmp_path, str(EXAMPLES), "--json")

    report = json.loads(done.stdout)
    assert [case for case in report["cases"] if case["outcome"] != "passed"] == []
    assert (done.returncode, report["problems"], report["untested"]) == (0, [], [])
    assert [each["flow"] for each in report["coverage"] if each["notRun"]] == []


def test_a_broken_test_is_told_with_its_place_the_expression_and_both_values(broken: Path) -> None:
    done = _test(broken, "flows", "-k", "size_class")

    assert done.returncode == 1
    assert "ok      size_class: size_class / light_birds_are_small" in done.stdout
    assert "FAILED  size_class: size_class / heavy_birds_are_large" in done.stdout
    assert "flows/penguins/tests/size_class.yaml:26:16  test.assertion.failed\n" in done.stdout
    assert '   26 |       - value: "{{ execution.outputs.size }}"\n' in done.stdout
    assert "{{ execution.outputs.size }} should be equal to 'huge', but it is 'large'" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("1 failed, 2 passed (")


def test_a_broken_test_is_told_to_machines(broken: Path) -> None:
    done = _test(broken, "flows/penguins", "-k", "size_class", "--json", "--junit", "report.xml")

    failed = next(case for case in json.loads(done.stdout)["cases"] if case["outcome"] == "failed")
    assert (failed["case"], failed["state"], failed["line"]) == ("heavy_birds_are_large", "SUCCESS", 21)
    assert failed["failures"] == [
        {
            "line": 26,
            "column": 16,
            "expression": "{{ execution.outputs.size }}",
            "operator": "equalTo",
            "expected": "huge",
            "actual": "large",
            "message": "{{ execution.outputs.size }} should be equal to 'huge', but it is 'large'",
        }
    ]
    suite = ET.parse(broken / "report.xml").getroot()[0]
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == (
        "flows/penguins/tests/size_class.yaml", "3", "1",
    )  # fmt: skip
    case = suite[2]
    assert (case.get("classname"), case.get("line")) == ("penguins.size_class.size_class", "26")
    assert "but it is 'large'" in (case.findtext("failure") or "")
    read = JUnitXml.fromfile(str(broken / "report.xml"))
    assert (read.tests, read.failures, read.errors) == (3, 1, 0)


def test_the_coverage_shows_what_no_test_ran(broken: Path) -> None:
    done = _test(broken, "flows/penguins", "-k", "nobody_speaks", "--coverage")

    assert done.returncode == 0
    assert "penguins.classify  2/4  50 %  0/1   0 %  not run: say [is_large.then], mocked: ask" in done.stdout


def test_a_folder_without_tests_is_no_success(tmp_path: Path) -> None:
    (tmp_path / "hello.yaml").write_text("id: hello\nnamespace: x\ntasks: [{id: a, type: core.log.Log, message: a}]\n")

    done = _test(tmp_path, ".", "--coverage")

    assert done.returncode == 1
    assert done.stdout.splitlines()[-2:] == ["no tests: x.hello", done.stdout.splitlines()[-1]]
    assert done.stdout.splitlines()[-1].startswith("no tests (")


def test_a_mistake_in_a_test_file_is_shown_like_one_in_a_flow(broken: Path) -> None:
    suite = broken / "flows" / "penguins" / "tests" / "size_class.yaml"
    suite.write_text(suite.read_text().replace("flowId:", "flow:"))

    done = _test(broken, str(suite))

    assert done.returncode == 1
    assert f"{suite}:3:1  test.property.unknown\n" in done.stdout
    assert "did you mean 'flowId'?" in done.stdout
    assert "2 problems in test files" in done.stdout.splitlines()[-1]


def test_an_interrupt_ends_what_runs_and_begins_nothing_more(tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/pid && mv {tmp_path}/pid {tmp_path}/started && sleep 100"
    (tmp_path / "slow.yaml").write_text(
        f"id: slow\nnamespace: x\ntasks: [{{id: a, type: scripts.shell.Script, script: '{script}'}}]\n"
        "---\nid: suite\ntestCases: [{id: one}, {id: two}, {id: three}]\n"
    )
    running = subprocess.Popen([MAINSTEM, "test", "-j", "1", "slow.yaml"], cwd=tmp_path, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (tmp_path / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.02)

    running.send_signal(signal.SIGINT)
    running.communicate(timeout=30)

    assert running.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "started").read_text()), 0)
