"""A page of the documentation, taken apart: fenced blocks, links, inline code, headings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

_FENCE: Final = re.compile(r"^\s*(`{3,})\s*(\S*)")
_NOT_RUN: Final = re.compile(r"^<!-- not run: (.+) -->$")
_LINK: Final = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_CODE: Final = re.compile(r"`([^`\n]+)`")
_HEADING: Final = re.compile(r"^#{1,6} (.+)$")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. `line` is that of its fence; `not_run` is the reason why its commands are left alone."""

    language: str
    text: str
    line: int
    not_run: str | None = None


@dataclass(frozen=True)
class Page:
    """A Markdown page."""

    path: Path
    text: str

    @classmethod
    def read(cls, path: Path) -> Page:
        """Return the page of a file."""
        return cls(path, path.read_text(encoding="utf-8"))

    @cached_property
    def _parts(self) -> tuple[list[tuple[int, str]], list[Block]]:
        prose: list[tuple[int, str]] = []
        blocks: list[Block] = []
        fence, language, start, inside = "", "", 0, list[str]()
        for number, line in enumerate(self.text.splitlines(), 1):
            found = _FENCE.match(line)
            if fence and found and found[1] == fence and not found[2]:
                blocks.append(Block(language, "\n".join(inside) + "\n", start, _reason(prose)))
                fence = ""
            elif fence:
                inside.append(line)
            elif found:
                fence, language, start, inside = found[1], found[2], number, []
            else:
                prose.append((number, line))
        return prose, blocks

    @property
    def blocks(self) -> list[Block]:
        """Return the fenced blocks in their order."""
        return self._parts[1]

    @property
    def prose(self) -> list[tuple[int, str]]:
        """Return the lines outside of fenced blocks, with their numbers."""
        return self._parts[0]

    @property
    def links(self) -> list[tuple[int, str]]:
        """Return the targets of links, with their lines."""
        return [(number, target) for number, line in self.prose for target in _LINK.findall(line)]

    @property
    def codes(self) -> list[tuple[int, str]]:
        """Return the texts of inline code, with their lines."""
        return [(number, code) for number, line in self.prose for code in _CODE.findall(line)]

    @property
    def anchors(self) -> set[str]:
        """Return the anchors that a forge makes of the headings."""
        seen: dict[str, int] = {}
        found = set()
        for _, line in self.prose:
            heading = _HEADING.match(line)
            if heading:
                slug = _slug(heading[1])
                count = seen[slug] = seen.get(slug, -1) + 1
                found.add(f"{slug}-{count}" if count else slug)
        return found


def _slug(heading: str) -> str:
    text = _LINK.sub(lambda link: link[0][1 : link[0].index("]")], heading)
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def _reason(prose: list[tuple[int, str]]) -> str | None:
    found = _NOT_RUN.match(prose[-1][1].strip()) if prose else None
    return found[1] if found else None
