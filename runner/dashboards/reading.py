"""Values of a YAML document taken one by one; each that is wrong becomes a problem, and reading goes on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from runner.errors import Problem
from runner.flows.loader import Document
from runner.flows.positions import Path
from runner.flows.spelling import did_you_mean


class Reading:
    """A document that is being read, and what was found to be wrong with it."""

    def __init__(self, document: Document, file: str | None) -> None:
        self.value = document.value
        self.problems: list[Problem] = []
        self._positions = document.positions
        self._file = file

    def complain(self, code: str, text: str, path: Path, hint: str | None = None, *, at_key: bool = False) -> None:
        """Note a problem of the value at `path`, or of its key."""
        mark = self._positions.key(path) if at_key else self._positions.at(path)
        self.problems.append(Problem(code, text, file=self._file, line=mark.line, column=mark.column, hint=hint))

    def map(self, value: Any, path: Path, what: str, known: Collection[str] | None = None) -> Mapping[str, Any] | None:
        """Return a map, None where it is none; keys beside `known` are problems."""
        if not isinstance(value, dict):
            self.complain("dashboard.property.invalid", f"{what} is a map", path)
            return None
        for key in value if known is not None else ():
            if known is not None and key not in known:
                hint = did_you_mean(key, known)
                text = f"{what} has no property {key[:80]!r}"
                self.complain("dashboard.property.unknown", text, (*path, key), hint, at_key=True)
        return value

    def list(self, value: Any, path: Path, what: str, most: int) -> Iterator[tuple[Any, Path]]:
        """Yield the items of a list with their paths; nothing where it is no list, or absent."""
        if value is None:
            return
        if not isinstance(value, list):
            self.complain("dashboard.property.invalid", f"{what} is a list", path)
        elif len(value) > most:
            self.complain("dashboard.property.invalid", f"{what} has {len(value)} items, more than {most}", path)
        else:
            yield from ((item, (*path, index)) for index, item in enumerate(value))

    def text(self, value: Mapping[str, Any], key: str, path: Path, *, is_required: bool = False) -> str | None:
        """Return the text of a property; None where it is absent or wrong."""
        found = value.get(key)
        if found is None:
            if is_required:
                self.complain("dashboard.property.missing", f"{key!r} is missing", path)
            return None
        if not isinstance(found, str) or not found.strip():
            text = f"{key!r} is a text, and not empty"
            self.complain("dashboard.property.invalid", text, (*path, key))
            return None
        return found

    def word(
        self,
        value: Mapping[str, Any],
        key: str,
        path: Path,
        words: Collection[str],
        code: str = "dashboard.property.invalid",
    ) -> str | None:
        """Return a property that is one of some words; None where it is absent or wrong."""
        found = value.get(key)
        if found is None:
            return None
        if isinstance(found, str) and found in words:
            return found
        hint = did_you_mean(str(found), words) or f"known: {', '.join(words)}"
        self.complain(code, f"{str(found)[:80]!r} is no {key} here", (*path, key), hint)
        return None
