"""`python -m tests [--only PART] [PATH ...]`: all tests, or those below the paths, on all processors of this process.

First come the tests that need the machine to themselves, one after the other; then all others, a file at a time on each
processor. `--only alone` runs the first part, `--only others` the second, beside which other programs may be at work.
The last lines say which optional parts were skipped, and why. PYTEST_ADDOPTS may hold options of pytest.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

import pytest

_MARK = "@pytest.mark.alone("


class Skips:
    """A plugin of pytest that counts skipped tests by their reasons, those of its workers too."""

    def __init__(self) -> None:
        self._reasons: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test that was skipped."""
        if report.skipped and isinstance(report.longrepr, tuple):
            self._reasons[report.longrepr[2].removeprefix("Skipped: ")] += 1

    def lines(self) -> list[str]:
        """Return a line for each reason."""
        found = [f"  {reason} (tests: {count})" for reason, count in sorted(self._reasons.items())]
        return ["Optional parts that were skipped:", *found] if found else ["No optional part was skipped."]


def main(arguments: list[str]) -> int:
    """Run the tests asked for. Return 0 if all passed, else pytest's exit code of the part that failed first."""
    parts = {"alone": _alone, "others": _side_by_side}
    parser = argparse.ArgumentParser(prog="python -m tests", description="Runs the tests of a checkout.")
    parser.add_argument("--only", choices=parts, help="the part to run; both without")
    parser.add_argument("places", nargs="*", default=["tests"], metavar="PATH", help="a file or folder of tests")
    options = parser.parse_args(arguments)
    _keep_bytecode()
    skips = Skips()
    chosen = [part(options.places) for name, part in parts.items() if options.only in {None, name}]
    codes = [_run(part, skips) for part in chosen if part]
    print("", *skips.lines(), sep="\n")
    return next((code for code in codes if code), 0)


def _keep_bytecode() -> None:
    """Have what is imported compiled once: here, in the workers, and in the hundreds of programs that tests start."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


def _run(arguments: list[str], skips: Skips) -> int:
    code = int(pytest.main(arguments, plugins=[skips]))
    if code == pytest.ExitCode.INTERRUPTED:
        sys.exit(code)
    return code


def _alone(places: list[str]) -> list[str]:
    """Return the arguments for tests with the mark, in the files that have some: to collect all takes seconds."""
    files = [file for place in map(Path, places) for file in ([place] if place.is_file() else place.rglob("test_*.py"))]
    marked = sorted({str(file) for file in files if _MARK in file.read_text(encoding="utf-8")})
    return ["-m", "alone", *marked] if marked else []


def _side_by_side(places: list[str]) -> list[str]:
    workers = len(os.sched_getaffinity(0))
    # By files, because the tests of one share servers; not those with the fewest tests last, which are the longest.
    order = ["-p", "tests.order", "-p", "tests.heap", "--no-loadscope-reorder"]
    return ["-m", "not alone", "-n", str(workers), "--dist", "loadfile", *order, *places]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
