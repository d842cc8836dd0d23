"""A session as people and machines read it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from runner import junit
from runner.errors import Problem
from runner.flows.diagnostics import block
from runner.flowtests.coverage import Coverage
from runner.flowtests.results import CaseResult, Finding
from runner.flowtests.session import Session

_MARKS: Mapping[str, str] = {"passed": "ok", "failed": "FAILED", "error": "ERROR", "skipped": "skipped"}


def headline(result: CaseResult) -> str:
    """Return the line of one case: `ok      size_class / large  0.12 s`."""
    seconds = "" if result.is_skipped else f"  {result.seconds:.2f} s"
    return f"{_MARKS[result.outcome]:<8}{result.located.suite.flow_id}: {result.name}{seconds}"


def failure(result: CaseResult, source: str | None, *, logs: int = 5) -> str:
    """Return everything that is wrong with a case, each with the line of its file, and the last lines of its log."""
    parts = [block(_problem(result, finding), source) for finding in result.findings]
    if result.logs and logs:
        parts += ["      log of the execution:", *(f"        {text}" for text in result.logs[-logs:])]
    return "\n".join(parts)


def table(covered: Sequence[Coverage], untested: Sequence[str]) -> str:
    """Return the coverage as a table with a total, and what never ran."""
    rows = [
        (each.flow, _ratio(each.tasks_run, each.tasks), _ratio(each.branches_run, each.branches)) for each in covered
    ]
    if len(covered) > 1:
        rows.append(("total", *_ratios(covered)))
    rows.insert(0, ("coverage", "tasks", "branches"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = []
    for row, each in zip(rows, [None, *covered, None], strict=False):
        line = "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        lines.append(f"{line}  {_notes(each)}".rstrip() if each else line.rstrip())
    if untested:
        lines.append(f"no tests: {', '.join(untested)}")
    return "\n".join(lines)


def _notes(each: Coverage) -> str:
    notes = [f"not run: {' '.join(each.missed)}"] if each.missed else []
    notes += [f"mocked: {' '.join(each.mocked)}"] if each.mocked else []
    return ", ".join(notes)


def _ratios(covered: Sequence[Coverage]) -> tuple[str, str]:
    tasks = _ratio(sum(each.tasks_run for each in covered), sum(each.tasks for each in covered))
    return tasks, _ratio(sum(each.branches_run for each in covered), sum(each.branches for each in covered))


def _ratio(part: int, whole: int) -> str:
    return f"{part}/{whole} {part * 100 // whole:>3} %" if whole else "-"


def summary(session: Session, seconds: float) -> str:
    """Return the closing line."""
    outcomes = [result.outcome for result in session.results]
    words = {"failed": "failed", "error": "could not run", "passed": "passed", "skipped": "skipped"}
    counts = [f"{outcomes.count(name)} {word}" for name, word in words.items() if name in outcomes]
    if session.problems:
        counts.insert(0, f"{len(session.problems)} problems in test files")
    return f"{', '.join(counts) or 'no tests'} ({seconds:.2f} s)"


def as_json(session: Session) -> str:
    """Return the session as JSON: `problems`, `cases`, `coverage`, `untested`."""
    document = {
        "problems": [problem.as_json() for problem in session.problems],
        "cases": [_case_json(result) for result in session.results],
        "coverage": [each.as_json() for each in session.coverage],
        "untested": list(session.untested),
    }
    return json.dumps(document, indent=2, ensure_ascii=False, default=str)


def _case_json(result: CaseResult) -> dict[str, Any]:
    suite = result.located.suite
    return {
        "namespace": suite.namespace,
        "flowId": suite.flow_id,
        "suite": suite.id,
        "case": result.case.id,
        "file": str(result.file),
        "line": result.located.mark(result.case, "id").line,
        "outcome": result.outcome,
        "state": result.state,
        "seconds": round(result.seconds, 3),
        "assertions": result.assertions,
        "failures": [finding.as_json() for finding in result.findings],
    }


def as_junit(session: Session, sources: Mapping[str, str]) -> str:
    """Return the session as JUnit XML: a suite for each file of tests; problems of files are errors."""
    suites: dict[str, list[junit.Case]] = {}
    for result in session.results:
        suites.setdefault(str(result.file), []).append(_junit_case(result, sources.get(str(result.file))))
    for problem in session.problems:
        suites.setdefault(str(problem.file), []).append(_junit_problem(problem, sources.get(str(problem.file))))
    return junit.document("mainstem test", [junit.Suite(name, cases) for name, cases in suites.items()])


def _junit_case(result: CaseResult, source: str | None) -> junit.Case:
    suite, first = result.located.suite, next(iter(result.findings), None)
    return junit.Case(
        result.case.id,
        f"{suite.namespace}.{suite.flow_id}.{suite.id}",
        result.seconds,
        failure=first.sentence if first else None,
        detail=failure(result, source, logs=0),
        is_error=result.is_error,
        skipped="disabled" if result.is_skipped else None,
        output="\n".join(result.logs),
        file=str(result.file),
        line=first.line if first else result.located.mark(result.case, "id").line,
    )


def _junit_problem(problem: Problem, source: str | None) -> junit.Case:
    return junit.Case(
        problem.code,
        str(problem.file),
        failure=problem.sentence,
        detail=block(problem, source),
        is_error=True,
        file=problem.file,
        line=problem.line,
    )


def _problem(result: CaseResult, finding: Finding) -> Problem:
    code = "test.case.failed" if finding.expression is None else "test.assertion.failed"
    return Problem(code, finding.sentence, file=str(result.file), line=finding.line, column=finding.column)


def complaints(session: Session, read: Callable[[Path], str]) -> Iterator[str]:
    """Yield the problems of test files, for people; `read` returns the text of a file."""
    for problem in session.problems:
        yield block(problem, read(Path(problem.file)) if problem.file and problem.line else None)
