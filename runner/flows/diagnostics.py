"""Problems as people and machines read them: blocks with the source line, JSON, annotations of GitHub."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from runner.errors import Problem, Severity

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
    sentence = _visible(_sentence(problem))
    kind = "" if problem.severity is Severity.ERROR else f" {problem.severity.value}"
    head = f"{_visible(place)}  {problem.code}{kind}"
    frame = _frame(problem, source)
    if frame is None:
        return f"{head}\n      {sentence}"
    line, column, width = frame
    number = f"{problem.line:>5}"
    return f"{head}\n{number} | {line}\n{' ' * len(number)} | {' ' * column}{'^' * width} {sentence}"


def summary(problems: Sequence[Problem], files: int, seconds: float) -> str:
    """Return the closing line: `2 problems in 1 of 15 flows (0.12 s)`."""
    flows = _count(files, "flow")
    if not problems:
        return f"{flows}, no problems ({seconds:.2f} s)"
    errors = sum(problem.severity is Severity.ERROR for problem in problems)
    others = len(problems) - errors
    counts = [_count(errors, "problem")] if errors else []
    counts += [_count(others, "warning")] if others else []
    concerned = len({problem.file for problem in problems})
    return f"{', '.join(counts)} in {concerned} of {flows} ({seconds:.2f} s)"


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
    return f"::{level} {written}::{_escaped(_sentence(problem))}"


def _sentence(problem: Problem) -> str:
    return f"{problem.message}; {problem.hint}" if problem.hint else problem.message


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
