"""Changes of whole top-level properties in the text of a YAML map; all others stay as their author wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runner.errors import FlowError
from runner.expressions.yaml_text import dump_yaml
from runner.flows.loader import Document, load_all


def with_values(source: str, values: Mapping[str, Any]) -> str:
    """Return `source` with these top-level properties set, or removed where the value is None.

    A text that is written otherwise than one property below the other, as in `{a: 1}`, is written anew, and so is one
    that would not mean what is wanted.

    Raises:
        FlowError: `yaml.*` when the source cannot be read.
    """
    documents = load_all(source)
    document = documents[0] if documents else None
    tree = document.value if document is not None and isinstance(document.value, dict) else {}
    wanted = {name: value for name, value in {**tree, **values}.items() if value is not None}
    changed = {name: value for name, value in values.items() if tree.get(name) != value}
    starts = _starts(document, tree) if document is not None else {}
    if len(starts) == len(tree):
        text = _edited(source, starts, changed)
        if _value(text) == wanted:
            return text
    return dump_yaml(wanted) if wanted else ""


def _edited(source: str, starts: dict[str, int], changed: Mapping[str, Any]) -> str:
    lines = source.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    begins = [*starts.values(), len(lines)]
    ends = dict(zip(starts, begins[1:], strict=True))
    for name in reversed(starts):
        if name in changed:
            lines[starts[name] : _end(lines, starts[name], ends[name])] = _written(name, changed[name])
    for name, value in changed.items():
        if name not in starts:
            lines += _written(name, value)
    return "".join(lines)


def _starts(document: Document, tree: Mapping[str, Any]) -> dict[str, int]:
    """Return the index of the line of each property that begins one, in the order of the lines."""
    keys = document.positions.keys
    marks = {name: keys[name,] for name in tree if (name,) in keys}
    return {
        name: mark.line - 1 for name, mark in sorted(marks.items(), key=lambda pair: pair[1].line) if mark.column == 1
    }


def _end(lines: list[str], start: int, end: int) -> int:
    """Return where a property ends: what is empty or a comment above the next one belongs to that."""
    while end - 1 > start and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1
    return end


def _written(name: str, value: Any) -> list[str]:
    return [] if value is None else dump_yaml({name: value}).splitlines(keepends=True)


def _value(text: str) -> Any:
    try:
        documents = load_all(text)
    except FlowError:
        return None
    return documents[0].value if documents else {}
