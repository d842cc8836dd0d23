"""Problems as people and machines read them: blocks with the source line, JSON, what CI systems annotate with."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from runner.errors import Problem, Severity
from runner.flows.fingerprints import fingerprints
from runner.junit import Case, Suite, document

_WIDEST_LINE = 160
_KEY = re.compile(r"[\w.-]+(?=:(?:\s|$))")
_PLAIN_WORD = re.compile(r"[^\s,\]}:]+(?::[^\s,\]}]+)*")


def block(problem: Problem, source: str | None = None) -> str:
    """Return a problem as a few lines: place and code, then the line of `source` with a mark and the sentence.

    Characters that a terminal would act on are shown as escapes.
    """
    place = problem.file or "(flow)"
    if problem.line is not None:
        place += f":{problem.line}:{problem.column}"
    sentence = _visible(problem.sentence)
    kind = "" if problem.severity is Severity.ERROR else f" {problem.severity.value}"
    head = f"{_visible(place)}  {problem.code}{kind}"
    frame = _frame(problem, source)
    if frame is None:
        return f"{head}\n      {sentence}"
    line, column, width = frame
    number = f"{problem.line:>5}"
    return f"{head}\n{number} | {line}\n{' ' * len(number)} | {' ' * column}{'^' * width} {sentence}"


def summary(problems: Sequence[Problem], flows: int, seconds: float, *, tests: int = 0) -> str:
    """Return the closing line: `2 problems in 1 of 15 flows (0.12 s)`; `tests` is the number of files of tests."""
    if not problems:
        seen = _count(flows, "flow") + (f" and {_count(tests, 'file')} of tests" if tests else "")
        return f"{seen}, no problems ({seconds:.2f} s)"
    errors = sum(problem.severity is Severity.ERROR for problem in problems)
    others = len(problems) - errors
    counts = [_count(errors, "problem")] if errors else []
    counts += [_count(others, "warning")] if others else []
    concerned = len({problem.file for problem in problems})
    return (
        f"{', '.join(counts)} in {concerned} of {_count(flows + tests, 'file' if tests else 'flow')} ({seconds:.2f} s)"
    )


def as_json(problems: Iterable[Problem]) -> str:
    """Return a JSON list with the keys `file line column code severity message hint` for each problem."""
    return json.dumps([problem.as_json() for problem in problems], indent=2, ensure_ascii=False)


def github(problem: Problem) -> str:
    """Return the workflow command that makes GitHub annotate the line of a file."""
    level = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}[problem.severity]
    fields: Mapping[str, object | None] = {
        "file": problem.file,
        "line": problem.line,
        "col": problem.column,
        "title": problem.code,
    }
    written = ",".join(f"{key}={_escaped(str(value), ':,')}" for key, value in fields.items() if value is not None)
    return f"::{level} {written}::{_escaped(problem.sentence)}"


def gitlab(problems: Sequence[Problem]) -> str:
    """Return the code quality report of GitLab: a JSON list that a job keeps as `artifacts:reports:codequality`."""
    levels = {Severity.ERROR: "major", Severity.WARNING: "minor", Severity.INFO: "info"}
    report = [
        {
            "description": problem.sentence,
            "check_name": problem.code,
            "fingerprint": fingerprint,
            "severity": levels[problem.severity],
            "location": {"path": problem.file or "", "lines": {"begin": problem.line or 1}},
        }
        for problem, fingerprint in zip(problems, fingerprints(problems), strict=True)
    ]
    return json.dumps(report, indent=2, ensure_ascii=False)


def junit(problems: Sequence[Problem], sources: Mapping[str, str]) -> str:
    """Return JUnit XML with a case for each file of `sources`: it fails by its errors, warnings are its output."""
    found: dict[str, list[Problem]] = {name: [] for name in sources}
    for problem in problems:
        found.setdefault(problem.file or "(flow)", []).append(problem)
    cases = [_case(name, about, sources.get(name)) for name, about in found.items()]
    return document("mainstem validate", [Suite("flows", cases)])


def _case(name: str, problems: Sequence[Problem], source: str | None) -> Case:
    errors = [problem for problem in problems if problem.severity is Severity.ERROR]
    others = [problem for problem in problems if problem.severity is not Severity.ERROR]
    return Case(
        name,
        "flows",
        failure=f"{_count(len(errors), 'problem')}: {errors[0].sentence}" if errors else None,
        detail="\n".join(block(problem, source) for problem in errors),
        output="\n".join(block(problem, source) for problem in others),
        file=name,
        line=errors[0].line if errors else None,
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _frame(problem: Problem, source: str | None) -> tuple[str, int, int] | None:
    """Return the line to show, the column of the mark in it (from 0) and the width of the mark."""
    if source is None or problem.line is None:
        return None
    lines = source.removeprefix("\ufeff").splitlines()
    if problem.line > len(lines):
        return None
    text = lines[problem.line - 1]
    start = min(max((problem.column or 1) - 1, 0), len(text))
    width = _width(text, start)
    if len(text) > _WIDEST_LINE:  # a window around the mark
        cut = max(0, start - _WIDEST_LINE // 2)
        text, start = text[cut : cut + _WIDEST_LINE], start - cut
    # Escapes are longer than what they stand for, so the mark is placed by the visible text before it.
    shown = _visible(text)
    column = len(_visible(text[:start]))
    return shown, column, max(1, min(width, max(1, len(shown) - column)))


def _width(line: str, start: int) -> int:
    rest = line[start:]
    if rest[:1] in {"'", '"'}:
        end = rest.find(rest[0], 1)
        return end + 1 if end > 0 else len(rest)
    if key := _KEY.match(rest):
        return len(key[0])
    before = line[:start].rstrip()
    if before.endswith((":", "-")) and rest[:1] not in {"{", "["} and not re.search(r"[{\[]", before):
        return len(rest.partition(" #")[0].rstrip()) or 1  # a plain value goes on to the end of its line
    word = _PLAIN_WORD.match(rest)
    return len(word[0]) if word else 1


def _visible(text: str) -> str:
    return "".join(char if char.isprintable() else " " if char == "\t" else f"\\u{ord(char):04x}" for char in text)


def _escaped(text: str, more: str = "") -> str:
    for char in "%\r\n" + more:
        text = text.replace(char, f"%{ord(char):02X}")
    return text
