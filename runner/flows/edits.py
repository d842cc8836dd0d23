"""Changes of single properties in the text of a flow, which leave everything else as its author wrote it."""

from __future__ import annotations

import re
from typing import Any, Final

from runner.errors import FlowError, InvalidError
from runner.flows.loader import Document, load_all

_ENTRY: Final = re.compile(r"[A-Za-z]+[ \t]*:[ \t]+(?P<value>[^\s#]+)")
_ABOVE: Final = ("namespace", "id")  # a property that is new goes below the first of these that the flow has


def with_disabled(source: str, *, disabled: bool) -> str:
    """Return `source` with its property `disabled` set; comments, order and line ends stay.

    Raises:
        FlowError: `yaml.*` when the source cannot be read.
        InvalidError: `flow.edit.impossible` when it is written so that one line cannot say it, as in `{id: a, …}`.
    """
    return _with(source, "disabled", disabled, "true" if disabled else "false")


def with_draft(source: str) -> str:
    """Return `source` as a draft. Raises as `with_disabled`."""
    return _with(source, "draft", True, "true")


def with_namespace(source: str, namespace: str) -> str:
    """Return `source` with another namespace. Raises as `with_disabled`."""
    return _with(source, "namespace", namespace, namespace)


def _with(source: str, name: str, value: Any, word: str) -> str:
    documents = load_all(source)
    lines = source.splitlines(keepends=True)
    place = _line_of(documents[0], name) if documents else None
    if place is not None:
        found = _ENTRY.match(lines[place])
        if found is not None:
            begin, end = found.span("value")
            lines[place] = f"{lines[place][:begin]}{word}{lines[place][end:]}"
    else:
        above = _line_above(documents)
        end_of_line = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
        if above is not None:
            if not lines[above].endswith("\n"):
                lines[above] += end_of_line
            lines.insert(above + 1, f"{name}: {word}{end_of_line}")
    return _checked("".join(lines), documents, name, value)


def _line_above(documents: list[Document]) -> int | None:
    """Return the index of the line of a property whose value stands on the same line."""
    places = (_line_of(documents[0], name) for name in _ABOVE) if documents else ()
    return next((place for place in places if place is not None), None)


def _line_of(document: Document, name: str) -> int | None:
    key, value = document.positions.keys.get((name,)), document.positions.values.get((name,))
    if key is None or value is None or key.column != 1 or key.line != value.line:
        return None
    return key.line - 1


def _checked(changed: str, before: list[Document], name: str, value: Any) -> str:
    # Whatever the text looks like: it counts only if it now means the same flow, with this one property changed.
    wanted: list[Any] = [document.value for document in before]
    if wanted and isinstance(wanted[0], dict):
        wanted[0] = {**wanted[0], name: value}
        if _values(changed) == wanted:
            return changed
    raise InvalidError(
        "flow.edit.impossible",
        f"the flow is written so that its `{name}` cannot be changed in place",
        hint=f"write `{name}` on a line of its own in its file, and push it",
    )


def _values(source: str) -> list[Any] | None:
    try:
        return [document.value for document in load_all(source)]
    except FlowError:
        return None
