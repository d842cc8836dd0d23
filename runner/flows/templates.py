"""The template strings of a flow: where they stand, whether they can be compiled, and what they refer to.

All of this works on the tree of plain values, so a flow that has other problems gets these reported as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runner.errors import ExpressionError, Problem, Severity
from runner.flows.positions import Mark, Path, Positions
from runner.flows.spelling import did_you_mean

# What a template may start with (language 6.2). Only a name that looks like one of these is reported: tasks bring
# variables of their own, and a row filter sees the columns of its row.
ROOTS = frozenset(
    {
        "flow",
        "execution",
        "task",
        "taskrun",
        "inputs",
        "outputs",
        "tasks",
        "trigger",
        "labels",
        "vars",
        "envs",
        "parents",
    }
)
_OTHER_ROOTS = frozenset(
    {"parent", "item", "namespace", "globals", "kestra", "error", "schedule", "loop", "workingDir", "outputDir"}
    | {"bucketPath", "response", "count", "row", "key", "value", "input", "output", "label", "env", "var", "trigger"}
)
_SECTIONS = frozenset(
    {"tasks", "errors", "finally", "afterExecution", "listeners", "triggers", "outputs", "inputs", "checks", "sla"}
)
_SECTIONS_OF_TASKS = frozenset({"tasks", "errors", "finally", "afterExecution", "listeners"})
_PLAIN = frozenset({"id", "type", "description", "displayName", "extend"})
_EXPRESSION = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_RAW = re.compile(r"\{%-?\s*raw\s*-?%\}.*?\{%-?\s*endraw\s*-?%\}", re.DOTALL)
_REFERENCE = re.compile(
    r"""(?<![\w.'"\]$])(?P<root>outputs|inputs|namespace)(?:\.(?P<name>\w+)|\[\s*(?P<quote>['"])(?P<key>[^'"\]]+)(?P=quote)\s*\])"""
)
_TEXT = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")


@dataclass(frozen=True, slots=True)
class Known:
    """The names that `outputs.`, `inputs.` and `namespace.` may be followed by; None: nobody knows."""

    tasks: frozenset[str]
    inputs: frozenset[str]
    variables: frozenset[str] | None

    def of(self, root: str) -> tuple[str, frozenset[str] | None]:
        """Return what the names below a root are called, and the names."""
        if root == "namespace":
            return "variable", self.variables
        return ("task", self.tasks) if root == "outputs" else ("input", self.inputs)


class TemplateCheck:
    """Checks the template strings of one flow. `source` is its text, from which places inside strings are found."""

    def __init__(self, source: str, positions: Positions, file: str | None) -> None:
        self._lines = source.removeprefix("\ufeff").splitlines() or [""]
        self._positions = positions
        self._file = file

    def problems(self, tree: Mapping[str, Any], variables: frozenset[str] | None = None) -> Iterator[Problem]:
        """Yield the problems of all template strings; `variables` are those of the namespaces, where that is known."""
        from runner.expressions import check_template

        tasks = {section: tree[section] for section in _SECTIONS_OF_TASKS & tree.keys()}
        known = Known(frozenset(_task_ids(tasks)), frozenset(_input_ids(tree)), variables)
        for path, text in _strings(tree):
            for finding in check_template(text):
                mark = self.place(path, text, finding.line, _name_column(text, finding.line, finding.column))
                yield self._problem(finding.code, finding.message, mark, finding.hint, Severity.ERROR)
            yield from self._references(path, text, known)

    def place(self, path: Path, text: str, line: int, column: int) -> Mark:
        """Return the place in the file of a line and column (from 1) inside the string at `path`."""
        start = self._positions.at(path)
        if self._positions.origin(path) not in self._positions.values or start.line > len(self._lines):
            return start
        written = self._lines[start.line - 1][start.column - 1 :]
        if written[:1] in {"|", ">"}:
            return self._place_in_block(start, written[0], line, column)
        if line == 1 and "\n" not in text and not written.startswith("&"):
            return Mark(start.line, start.column + column - 1 + (written[:1] in {"'", '"'}))
        return start

    def _place_in_block(self, start: Mark, style: str, line: int, column: int) -> Mark:
        first = next((n for n in range(start.line, len(self._lines)) if self._lines[n].strip()), None)
        if first is None or style == ">":
            return start  # a folded text has other line breaks than the file
        indent = len(self._lines[first]) - len(self._lines[first].lstrip(" "))
        row = start.line + line
        return Mark(row, indent + column) if row <= len(self._lines) else start

    def _references(self, path: Path, text: str, known: Known) -> Iterator[Problem]:
        for name in sorted(_roots(text)):
            if name not in ROOTS and name not in _OTHER_ROOTS:
                hint = did_you_mean(name, ROOTS, likeness=0.85)
                if hint:
                    mark = self._find(path, text, name)
                    yield self._problem("expression.name.unknown", f"there is no variable {name!r}", mark, hint)
        for found, offset in _references(text):
            root = found["root"]
            name = found["name"] or found["key"]
            thing, names = known.of(root)
            if names is None or name in names or (path[0] == "triggers"):
                continue
            mark = self._mark(path, text, offset)
            whose = "its namespaces" if root == "namespace" else "this flow"
            has = "they have" if root == "namespace" else "the flow has"
            hint = did_you_mean(name, names) or f"{has} {_listed(names, thing)}"
            code = f"expression.{root}.unknown"
            yield self._problem(code, f"`{root}.{name}` names no {thing} of {whose}", mark, hint)

    def _find(self, path: Path, text: str, name: str) -> Mark:
        found = re.search(rf"\b{re.escape(name)}\b", text)
        return self._mark(path, text, found.start() if found else 0)

    def _mark(self, path: Path, text: str, offset: int) -> Mark:
        line = text.count("\n", 0, offset) + 1
        return self.place(path, text, line, offset - text.rfind("\n", 0, offset))

    def _problem(
        self, code: str, message: str, mark: Mark, hint: str | None, severity: Severity = Severity.WARNING
    ) -> Problem:
        return Problem(code, message, severity, self._file, mark.line, mark.column, hint)


def _name_column(text: str, line: int, column: int) -> int:
    """Return the column of the filter's name for a fault that is placed at the `|` before it."""
    rest = text.split("\n")[line - 1][column - 1 :]
    return column + len(rest) - len(rest.removeprefix("|").lstrip()) if rest.startswith("|") else column


def _listed(names: Iterable[str], thing: str) -> str:
    shown = sorted(names)[:8]
    return f"the {thing}s " + ", ".join(shown) if shown else f"no {thing}s"


def _roots(text: str) -> set[str]:
    from runner.expressions import names_in

    try:
        return names_in(text)
    except ExpressionError:
        return set()


def _references(text: str) -> Iterator[tuple[re.Match[str], int]]:
    """Yield the uses of `outputs.x`, `inputs.x` and `namespace.x`, with their offsets, leaving out quoted text."""
    for expression in _EXPRESSION.finditer(_RAW.sub(lambda raw: " " * len(raw[0]), text)):
        for found in _REFERENCE.finditer(_TEXT.sub(_blank, expression[0])):
            yield found, expression.start() + found.start()


def _blank(quoted: re.Match[str]) -> str:
    is_index = quoted.string[: quoted.start()].rstrip().endswith("[")
    return quoted[0] if is_index else " " * len(quoted[0])


def _strings(tree: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    for section, value in tree.items():
        if section in _SECTIONS:
            yield from _walk(value, (section,), lambda text: "{{" in text or "{%" in text)


def _walk(value: Any, path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        if wanted(value) and path[-1] not in _PLAIN:
            yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(item, (*path, key), wanted)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(item, (*path, index), wanted)


def _task_ids(value: Any) -> Iterator[str]:
    """Yield the ids of all maps that have a `type` too, wherever they stand, and of the parts of a ForEachItem."""
    if isinstance(value, dict):
        if isinstance(value.get("id"), str) and "type" in value:
            yield value["id"]
            if str(value["type"]).endswith(".ForEachItem"):
                yield from (f"{value['id']}_{part}" for part in ("split", "items", "merge"))
        for item in value.values():
            yield from _task_ids(item)
    elif isinstance(value, list):
        for item in value:
            yield from _task_ids(item)


def _input_ids(tree: Mapping[str, Any]) -> Iterator[str]:
    inputs = tree.get("inputs")
    for item in inputs if isinstance(inputs, list) else ():
        name = (item.get("id") or item.get("name")) if isinstance(item, dict) else None
        if isinstance(name, str):
            yield name.partition(".")[0]
