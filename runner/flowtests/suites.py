"""From the text of a test file to its suites, or to everything that is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner.errors import FlowError, Problem
from runner.flows.build import Builder
from runner.flows.check import Places
from runner.flows.finding import Finding
from runner.flows.loader import Document, load_all
from runner.flows.models import Flow
from runner.flows.parse import holds_tests
from runner.flows.positions import Mark
from runner.flows.spelling import did_you_mean
from runner.flowtests.assertions import NAMES
from runner.flowtests.models import CASE_TYPE, Case, Suite


@dataclass(frozen=True, slots=True)
class LocatedSuite:
    """A suite and where its parts stand; `with_flow` says that it follows its flow in the same file."""

    suite: Suite
    file: Path
    places: Places
    with_flow: bool = False

    def mark(self, part: Any, *within: str | int) -> Mark:
        """Return the place of a part of the suite (one of its models), or of a property `within` it."""
        return self.places.positions.at((*self.places.paths.get(id(part), ()), *within))


def read_suites(path: Path, *, named: bool) -> tuple[list[LocatedSuite], list[Problem]]:
    """Return the suites of a file, and all its problems.

    Suites below a flow in its file need not say which flow they are for. In a folder of tests, YAML that is no suite
    may be anybody's data and is passed over; a file that is `named` must hold one.
    """
    try:
        documents = load_all(path.read_bytes(), file=str(path))
    except OSError as error:
        return [], [Problem("test.file.unreadable", f"the file cannot be read: {error.strerror}", file=str(path))]
    except FlowError as error:
        return [], list(error.problems)
    suites, problems = [], []
    flow = documents[0].value if documents and isinstance(documents[0].value, dict) else {}
    with_flow = "tasks" in flow and not holds_tests(flow)
    for document in documents:
        if holds_tests(document.value):
            if with_flow:
                document.value.setdefault("namespace", flow.get("namespace"))
                document.value.setdefault("flowId", flow.get("id"))
            suite, found = _suite(document, path)
            problems += found
            if not found:
                suites.append(replace(suite, with_flow=with_flow))
    if named and not suites and not problems:
        message = "the file holds no tests: a suite has `id`, `namespace`, `flowId` and `testCases`"
        problems.append(Problem("test.document.invalid", message, file=str(path), line=1, column=1))
    return suites, problems


def is_suite_file(content: bytes) -> bool:
    """Return whether the first document of a file is a suite."""
    try:
        documents = load_all(content) if b"testCases" in content or b"flowId" in content else []
    except FlowError:
        return False
    return bool(documents) and holds_tests(documents[0].value)


def _suite(document: Document, path: Path) -> tuple[LocatedSuite, list[Problem]]:
    builder = Builder(document.positions, file=str(path))
    suite = builder.document(Suite, document.value, "test")
    places = Places(document.positions, builder.paths, builder.faulty, str(path))
    found = [places.problem(finding) for finding in _findings(suite)]
    problems = [*builder.problems, *(problem for problem in found if problem is not None)]
    return LocatedSuite(suite, path, places), sorted(problems, key=lambda each: (each.line or 0, each.column or 0))


def _findings(suite: Suite) -> Iterator[Finding]:
    for name, count in Counter(case.id for case in suite.test_cases).items():
        if count > 1 and name:
            again = [case for case in suite.test_cases if case.id == name][1]
            yield Finding("test.id.duplicate", f"two cases are called {name!r}", again, ("id",))
    for case in suite.test_cases:
        if case.type != CASE_TYPE:
            yield Finding("test.type.unknown", f"no type of test is called {case.type!r}", case, ("type",), CASE_TYPE)
        for name in case.fixtures.files:
            if not all(part.strip(".") for part in name.split("/")):
                message, hint = f"{name!r} is no name of a file", "such as rows.csv or data/rows.csv"
                yield Finding("test.file.invalid", message, case.fixtures, ("files", name), hint)
        for assertion in case.assertions:
            if not NAMES.keys() & assertion.model_fields_set:
                hint = "such as `equalTo`, `contains`, `greaterThan`, `isNotNull`"
                yield Finding("test.assertion.empty", "the assertion says nothing about the value", assertion, (), hint)


def problems_with(located: LocatedSuite, flow: Flow) -> list[Problem]:
    """Return what a suite says about tasks and inputs that its flow does not have."""
    tasks = {task.id for task in flow.all_tasks()}
    found: list[Problem | None] = []
    for case in located.suite.test_cases:
        found += [located.places.problem(finding) for finding in _unknown(case, tasks, flow)]
    return [problem for problem in found if problem is not None]


def _unknown(case: Case, tasks: set[str], flow: Flow) -> Iterator[Finding]:
    for fixture in case.fixtures.tasks:
        if fixture.id not in tasks:
            message = f"the flow has no task {fixture.id!r}"
            yield Finding("test.task.unknown", message, fixture, ("id",), did_you_mean(fixture.id, tasks))
    for assertion in case.assertions:
        if assertion.task_id is not None and assertion.task_id not in tasks:
            hint = did_you_mean(assertion.task_id, tasks)
            message = f"the flow has no task {assertion.task_id!r}"
            yield Finding("test.task.unknown", message, assertion, ("taskId",), hint)
    known = {part.id.partition(".")[0] for part in flow.inputs}
    for name in case.fixtures.inputs:
        if name.partition(".")[0] not in known:
            hint = did_you_mean(name, known)
            yield Finding(
                "test.input.unknown", f"the flow has no input {name!r}", case.fixtures, ("inputs", name), hint
            )
