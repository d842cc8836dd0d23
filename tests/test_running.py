"""`python -m tests`: who runs alone, who side by side, what the exit code is, and what is said at the end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TIMED = """
import os, time
import pytest

@pytest.mark.alone("measures the clock")
def test_timed():
    assert "PYTEST_XDIST_WORKER" not in os.environ
    print_to({log!r}, "alone")
"""
OTHER = """
import gc, os, sys
import pytest

def test_other():
    assert os.environ["PYTEST_XDIST_WORKER"]
    assert "PYTHONDONTWRITEBYTECODE" not in os.environ and not sys.dont_write_bytecode
    assert gc.isenabled() and gc.get_freeze_count()
    print_to({log!r}, "other")

def test_with_a_server():
    pytest.skip("server: there is none")
"""
FAILING = """
import pytest

@pytest.mark.alone("fails")
def test_wrong():
    assert False
"""
QUICK = """
import pytest

@pytest.mark.parametrize("number", range(2))
def test_quick(number):
    print_to({log!r}, "quick")
"""
LONG = """
def test_long():
    print_to({log!r}, "long")
"""
PRINT_TO = """
def print_to(path, word):
    with open(path, "a") as file:
        file.write(word + " ")
"""


def run(folder: Path, *options: str, **files: str) -> tuple[int, list[str], str]:
    """Run test files with options; return the exit code, what was printed, and which tests ran in which order."""
    log = folder / "log"
    log.touch()
    for name, text in files.items():
        place = folder / "unit" if name == "quick" else folder
        place.mkdir(exist_ok=True)
        (place / f"test_{name}.py").write_text(PRINT_TO + text.replace("{log!r}", repr(str(log))))
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "tests", *options, str(folder)],
        cwd=ROOT,
        env=environ
        | {"PYTEST_ADDOPTS": f"-c {ROOT / 'pyproject.toml'} -p no:cacheprovider", "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}),  # as on a machine of one processor
    )
    return done.returncode, done.stdout.splitlines(), log.read_text().strip()


def test_timed_tests_run_first_and_what_was_skipped_is_said_last(tmp_path: Path) -> None:
    code, lines, ran = run(tmp_path, timed=TIMED, other=OTHER)

    assert (code, ran) == (0, "alone other"), "\n".join(lines)
    assert any("1 worker" in line for line in lines)
    assert lines[-2:] == ["Optional parts that were skipped:", "  server: there is none (tests: 1)"]


def test_a_failure_of_the_first_part_is_one_of_the_whole(tmp_path: Path) -> None:
    code, lines, ran = run(tmp_path, timed=TIMED, failing=FAILING, other=OTHER.partition("def test_with")[0])

    assert (code, ran) == (1, "alone other"), "\n".join(lines)
    assert lines[-1] == "No optional part was skipped."


def test_what_may_take_long_begins_before_unit_tests(tmp_path: Path) -> None:
    code, lines, ran = run(tmp_path, quick=QUICK, long=LONG)

    assert (code, ran) == (0, "long quick quick"), "\n".join(lines)


@pytest.mark.parametrize(("part", "expected"), [("alone", "alone"), ("others", "other")])
def test_one_part_may_be_asked_for(tmp_path: Path, part: str, expected: str) -> None:
    code, lines, ran = run(tmp_path, "--only", part, timed=TIMED, other=OTHER)

    assert (code, ran) == (0, expected), "\n".join(lines)
