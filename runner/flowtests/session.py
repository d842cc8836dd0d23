"""A whole session: the tests of some folders, found, checked, run in parallel."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from runner.errors import Problem
from runner.flows.spelling import did_you_mean
from runner.flowtests.coverage import Coverage, coverage
from runner.flowtests.models import Case
from runner.flowtests.results import CaseResult
from runner.flowtests.running import OpenHost, Surroundings, open_store, run_case
from runner.flowtests.suites import LocatedSuite, problems_with, read_suites
from runner.local import deploy
from runner.working_copy import TESTS, Source, flow_files, flow_root, flows_below, suite_files


@dataclass(frozen=True, slots=True)
class Session:
    """What came of all tests: the problems of their files, the cases in their order, the coverage of their flows."""

    problems: Sequence[Problem]
    results: Sequence[CaseResult]
    coverage: Sequence[Coverage]
    untested: Sequence[str] = ()

    @property
    def is_good(self) -> bool:
        """Whether there were tests and nothing is wrong."""
        return bool(self.results) and not self.problems and all(not result.findings for result in self.results)


@dataclass(frozen=True, slots=True)
class Options:
    """How a session runs: the names wanted (a part of `flow / suite / case`), threads, seconds for each case."""

    wanted: str = ""
    workers: int = 1
    timeout_s: float = 60.0


def run_session(
    paths: Sequence[Path], open_host: OpenHost, options: Options, tell: Callable[[CaseResult], None] = lambda _: None
) -> Session:
    """Run the tests below `paths`; `tell` hears of each case when it ends, in the thread that calls."""
    results: list[CaseResult] = []
    with tempfile.TemporaryDirectory(prefix="mainstem-tests-") as room:
        plan = _Plan(paths, open_host, options.timeout_s, Path(room))
        cases = [(each, case, around) for each, case, around in plan.cases() if options.wanted in _title(each, case)]
        with ThreadPoolExecutor(max_workers=options.workers, thread_name_prefix="case") as pool:
            futures = [pool.submit(run_case, *each) for each in cases]
            try:
                for future in futures:
                    results.append(future.result())
                    tell(results[-1])
            finally:
                plan.stop.set()  # after an interrupt, those that run end and the others do not begin
    return Session(plan.problems, results, _coverage(cases, results), plan.untested())


def _title(located: LocatedSuite, case: Case) -> str:
    return f"{located.suite.namespace}.{located.suite.flow_id} / {located.suite.id} / {case.id}"


def _coverage(
    cases: Iterable[tuple[LocatedSuite, Case, Surroundings]], results: Sequence[CaseResult]
) -> list[Coverage]:
    flows = {(around.flow.namespace, around.flow.id): around.flow for _, _, around in cases}
    return [
        coverage(
            flow,
            [
                result.touched
                for result in results
                if (result.located.suite.namespace, result.located.suite.flow_id) == key
            ],
        )
        for key, flow in sorted(flows.items())
    ]


class _Plan:
    """What there is to run, and what is wrong with it."""

    def __init__(self, paths: Sequence[Path], open_host: OpenHost, timeout_s: float, room: Path) -> None:
        self.problems: list[Problem] = []
        self._paths = paths
        self._open_host = open_host
        self._timeout_s = timeout_s
        self.stop = threading.Event()
        self._room = room
        self._flows: dict[Path, list[Source]] = {}
        self._states: dict[Path, Path] = {}
        self._suites: list[LocatedSuite] = []
        for file in dict.fromkeys([*suite_files(paths), *_flows_with_tests(paths)]):
            suites, problems = read_suites(file, named=file in paths)
            self._suites += suites
            self.problems += problems

    def cases(self) -> Iterator[tuple[LocatedSuite, Case, Surroundings]]:
        """Yield every case with what surrounds it; suites with problems are left out and their problems kept."""
        for located in self._suites:
            around = self._surroundings(located)
            if around is None:
                continue
            problems = problems_with(located, around.flow)
            self.problems += problems
            if not problems:
                for case in located.suite.test_cases:
                    yield located, case, around

    def untested(self) -> list[str]:
        """Return the flows at or below the given folders that no suite is for."""
        tested = {(each.suite.namespace, each.suite.flow_id) for each in self._suites}
        found = {
            (flow.namespace, flow.id)
            for path in self._paths
            if path.is_dir()
            for flow, *_ in self._below(path)
            if (flow.namespace, flow.id) not in tested
        }
        return sorted(".".join(key) for key in found)

    def _surroundings(self, located: LocatedSuite) -> Surroundings | None:
        suite = located.suite
        root, key = _root(located), (suite.namespace, suite.flow_id)
        flows = self._below(root)
        own = next((each for each in flows if (each[0].namespace, each[0].id) == key), None)
        if own is None:
            self.problems.append(_missing(located, root, [f"{flow.namespace}.{flow.id}" for flow, *_ in flows]))
            return None
        return Surroundings(own[0], root, self._state(root), self._open_host, self._timeout_s, self.stop)

    def _state(self, root: Path) -> Path:
        """Return the folder of a database in which all flows below `root` are deployed."""
        if root not in self._states:
            folder = self._room / str(len(self._states))
            folder.mkdir()
            with closing(open_store(folder)) as store:
                for flow in self._below(root):
                    deploy(store, *flow)
            self._states[root] = folder
        return self._states[root]

    def _below(self, root: Path) -> list[Source]:
        if root not in self._flows:
            self._flows[root] = flows_below(root)
        return self._flows[root]


def _flows_with_tests(paths: Sequence[Path]) -> Iterator[Path]:
    for file, _ in flow_files(path for path in paths if path.is_dir()):
        if b"testCases" in file.read_bytes():
            yield file


def _missing(located: LocatedSuite, root: Path, names: Sequence[str]) -> Problem:
    wanted = f"{located.suite.namespace}.{located.suite.flow_id}"
    line, column = located.mark(located.suite, "flowId")
    message = f"there is no flow {wanted} below {root}"
    hint = did_you_mean(wanted, names)
    return Problem("test.flow.missing", message, file=str(located.file), line=line, column=column, hint=hint)


def _root(located: LocatedSuite) -> Path:
    """Return the folder of the namespaces: for a file in a folder `tests`, that of the flows beside the folder."""
    place = located.file.absolute()
    parts = place.parts[:-1]
    if TESTS in parts and not located.with_flow:
        last = len(parts) - 1 - parts[::-1].index(TESTS)
        place = Path(*parts[:last]) / place.name
    return flow_root(place, located.suite.namespace)
