"""Single YAML documents, out of files that may hold several. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from sync.names import MAX_FLOW_BYTES

_MARK = re.compile(r"^---(?:[ \t].*)?$")
_END = re.compile(r"^\.\.\.[ \t]*$")


@dataclass(frozen=True, slots=True)
class Source:
    """A document as it was found. `text` begins with as many empty lines as stand above it in its file.

    `namespace` is what the folders say; the document's own counts more.
    """

    file: str
    text: str
    namespace: str | None = None


def split(file: str, content: bytes, namespace: str | None = None) -> Iterator[Source]:
    """Yield the documents of a file. One that is too large for a flow comes whole, for the loader to say so."""
    text = content.decode("utf-8", "replace").removeprefix("\ufeff")
    if len(content) > MAX_FLOW_BYTES and "\n---" not in text:
        yield Source(file, text, namespace)
        return
    lines = text.splitlines()
    start = 0
    for number, line in enumerate([*lines, "---"]):
        if _MARK.match(line) or _END.match(line):
            part = lines[start:number]
            if any(each.strip() and not each.lstrip().startswith("#") for each in part):
                yield Source(file, "\n" * start + "\n".join(part) + "\n", namespace)
            start = number + 1
