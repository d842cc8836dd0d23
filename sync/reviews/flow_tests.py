"""The tests of flows of a change request: `mainstem test` in a process of its own, with no secret of the server's.

The process has an empty home and an environment of five variables, so neither the server's secrets nor its variables
are in it; of its settings those that confine what runs. What the tests run is the code of somebody who may push, or
that such a person approved; the code of a fork never gets the process runner, under which it could read what the server
reads.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

from runner.errors import MainstemError, Problem
from runner.reports.text import code, inline
from runner.working_copy import SUFFIXES, TESTS
from sync.names import MAX_FILE_BYTES
from sync.reviews.confinement import Confinement
from sync.sources import Source
from task_runners.files import write_file

_FLOWS: Final = "flows"
_LONGEST_S: Final = 300.0
_CASE_S: Final = 60
_MOST_BYTES: Final = 64 << 20
_MOST_FAILURES: Final = 10
_WORDS: Final = {"failed": "failed", "error": "could not run", "passed": "passed", "skipped": "skipped"}
_BAD: Final = frozenset({"failed", "error"})
_PATH: Final = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
_START: Final = "from sync.reviews.cli import main; raise SystemExit(main())"
_SETTINGS: Final = "mainstem.yaml"
FAILED: Final = "flow.test.failed"


class TestsError(MainstemError):
    """The tests of a change request cannot be run; codes `review.tests.*`."""

    __test__ = False


def has_tests(paths: Mapping[str, Any]) -> bool:
    """Return whether there is a file of tests among the files of a commit."""
    return any(path.endswith(SUFFIXES) and TESTS in PurePosixPath(path).parts[:-1] for path in paths)


def write_out(source: Source, commit: str, path: str) -> Path:
    """Return a new folder with the files of a commit below an environment's path. The caller removes it.

    Raises:
        TestsError: `review.tests.large` when they are more than 64 MiB.
        FetchError: they cannot be fetched.
    """
    files = source.repository.listing(commit, path).files
    source.ensure(files.values())
    room, size = Path(tempfile.mkdtemp(prefix="mainstem-review-")), 0
    try:
        for name, blob in files.items():
            content = source.repository.blob(blob, limit=MAX_FILE_BYTES)
            size += len(content)
            if size > _MOST_BYTES:
                raise TestsError("review.tests.large", "the files of the flows are more than 64 MiB")
            write_file(room, f"{_FLOWS}/{name.removeprefix(path).lstrip('/')}", content)
    except BaseException:  # no files stay, be it an interrupt
        shutil.rmtree(room, ignore_errors=True)
        raise
    return room


@dataclass(frozen=True, slots=True)
class Tested:
    """What came of tests: `text` is Markdown, and `is_good` when none failed, or could not run.

    `problems` are what failed, with files below the folder of the flows.
    """

    text: str
    is_good: bool
    problems: tuple[Problem, ...] = ()

    @property
    def line(self) -> str:
        """Return the first line: the counts, or why nothing could be run."""
        return self.text.partition("\n")[0]


class TestRun:
    """One run of `mainstem test` over a folder that `write_out` made; `stop` ends it from another thread."""

    __test__ = False

    def __init__(self, room: Path, confinement: Confinement, *, longest_s: float = _LONGEST_S) -> None:
        self._room = room
        self._confinement = confinement
        self._longest_s = longest_s
        self._process: subprocess.Popen[bytes] | None = None
        self._is_stopped = False

    def answer(self) -> Tested:
        """Run the tests and return what came of them; the folder is gone afterwards."""
        try:
            found = self._found()
            bad = any(case["outcome"] in _BAD for case in found["cases"])
            is_good = not bad and not found["problems"]
            return Tested("\n".join(summary(found)), is_good, tuple(_problems(found)))
        except MainstemError as error:
            return Tested(f"the tests could not be run: {inline(error.message)}", is_good=False)
        finally:
            shutil.rmtree(self._room, ignore_errors=True)

    def stop(self) -> None:
        """End the process and all that it has begun."""
        self._is_stopped = True
        process = self._process
        if process is not None and process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def _found(self) -> Mapping[str, Any]:
        home = self._room / "home"
        home.mkdir(mode=0o700)
        (self._room / _SETTINGS).write_text(json.dumps(self._confinement.settings), encoding="utf-8")
        out = self._room / "found.json"
        with out.open("wb") as written:
            if self._is_stopped:
                raise TestsError("review.tests.stopped", "the server stopped")
            self._process = subprocess.Popen(
                self._command(),
                cwd=home,
                env=self._environment(home),
                stdin=subprocess.DEVNULL,
                stdout=written,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                if self._is_stopped:  # which came while the process began, and did not see it yet
                    raise TestsError("review.tests.stopped", "the server stopped")
                self._process.wait(self._longest_s)
            except subprocess.TimeoutExpired:
                message = f"they had not ended after {self._longest_s:.0f} s"
                raise TestsError("review.tests.slow", message) from None
            finally:
                self.stop()
                self._process.wait()
        return _document(out)

    def _command(self) -> list[str]:
        confinement = self._confinement
        uid = -1 if confinement.uid is None else confinement.uid
        given = (self._room / _FLOWS, _CASE_S, confinement.repositories, uid, json.dumps(confinement.rules))
        return [sys.executable, "-c", _START, *map(str, given)]

    def _environment(self, home: Path) -> dict[str, str]:
        return {
            "PATH": _PATH,
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "MAINSTEM_HOME": str(home / ".mainstem"),
            "MAINSTEM_SETTINGS": str(self._room / _SETTINGS),
        }


def _document(out: Path) -> Mapping[str, Any]:
    with out.open("rb") as file:
        content = file.read(_MOST_BYTES)
    try:
        found = json.loads(content)
    except ValueError:
        raise TestsError("review.tests.broken", "the program that runs them ended before it answered") from None
    if not isinstance(found, dict):
        raise TestsError("review.tests.broken", "the program that runs them answered nothing of use")
    return found


def summary(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines about a session of tests: the counts, then what failed, with the expression and both values."""
    outcomes = Counter(case["outcome"] for case in found["cases"])
    parts = [f"{outcomes[name]} {word}" for name, word in _WORDS.items() if outcomes[name]]
    problems = found["problems"]
    if problems:
        parts.insert(0, f"{len(problems)} problem{'s' if len(problems) > 1 else ''} in files of tests")
    yield ", ".join(parts) or "there are no tests"
    failures = [(case, each["message"], each["line"]) for case in found["cases"] for each in case["failures"]]
    for case, message, line in failures[:_MOST_FAILURES]:
        place = f"{_below(case['file'])}:{line}"
        yield f"  - **{inline(_named(case))}** {code(place)}: {code(message)}"
    for problem in problems[: max(0, _MOST_FAILURES - len(failures))]:
        place = f"{_below(problem['file'] or '')}:{problem['line'] or 1}"
        yield f"  - {code(place)}: {inline(problem['message'])}"
    left = len(failures) + len(problems) - _MOST_FAILURES
    if left > 0:
        yield f"  - and {left} more"


def _problems(found: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what is wrong with files of tests, and what failed, at most ten."""
    problems = [
        Problem(each["code"], each["message"], file=_below(each["file"] or "") or None, line=each["line"])
        for each in found["problems"]
    ]
    failures = [
        Problem(FAILED, f"{_named(case)}: {each['message']}", file=_below(case["file"]), line=each["line"])
        for case in found["cases"]
        for each in case["failures"]
    ]
    yield from [*failures, *problems][:_MOST_FAILURES]


def _named(case: Mapping[str, Any]) -> str:
    return f"{case['namespace']}.{case['flowId']} / {case['suite']} / {case['case']}"


def _below(file: str) -> str:
    """Return the path of a file below the folder of the flows."""
    return file.partition(f"/{_FLOWS}/")[2] or file
