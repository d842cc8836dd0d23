"""The catalogue of codes: it explains every code that the packages raise, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from runner.flows.codes import explanations

ROOT = Path(__file__).parents[4]
CODE = re.compile(r"[a-z][A-Za-z]*(\.[a-z][A-Za-z]*)+")
# Calls whose first arguments name a code: errors, problems, findings and the functions that make them.
MAKERS = re.compile(
    r".*(Error|Problem|Finding|Fault)$|^_?(error|report|stop|add|problem|fault|refuse|refused|invalid)$|^__init__$"
)
WORDS = {
    "word": ("flow", "task", "trigger", "condition", "input", "output"),
    "kind": ("task", "trigger", "condition"),
    "root": ("outputs", "inputs"),
    "fault": ("unknown", "missing", "invalid"),
}


def _words(name: str, before: str) -> tuple[str, ...]:
    return ("filter", "function", "test") if (name, before) == ("kind", "expression.") else WORDS.get(name, ())


def _texts(node: ast.expr) -> Iterator[str]:
    """Yield the codes that a literal or an f-string with known words stands for."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        found = [""]
        for part in node.values:
            if isinstance(part, ast.Constant):
                found = [text + str(part.value) for text in found]
            elif isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name):
                found = [text + word for text in found for word in _words(part.value.id, text)]
            else:
                found = []
        yield from found


def _raised() -> Iterator[tuple[str, str]]:
    for package in ("runner", "sync", "webhooks", "task_runners"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call):
                    continue
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name == "Refusal":
                    yield from (
                        (f"runner.{text}.refused", str(path.relative_to(ROOT))) for text in _texts(node.args[0])
                    )
                if MAKERS.match(name):
                    for argument in node.args[:2]:
                        for text in _texts(argument):
                            if CODE.fullmatch(text):
                                yield text, str(path.relative_to(ROOT))


def test_every_code_that_is_raised_is_explained() -> None:
    unexplained = sorted({(code, path) for code, path in _raised() if code not in explanations()})

    assert unexplained == []


def test_every_explanation_has_a_sentence_and_an_example() -> None:
    for code, explanation in explanations().items():
        assert CODE.fullmatch(code), code
        assert explanation.meaning.endswith("."), code
        assert explanation.example.strip(), code
