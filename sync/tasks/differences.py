"""What a write changes, file by file, as rows that a task hands on: one JSON object on each line of a stored file."""

from __future__ import annotations

import difflib
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from runner.ids import new_id
from runner.plugin import Context

_MOST_LINES: Final = 2_000  # beyond, comparing every line with every other takes seconds


def line_counts(path: str, before: bytes, after: bytes) -> dict[str, str]:
    """Return the row of a file: how many lines came (`+n`), went (`-n`) and changed, counted by their blocks."""
    old, new = before.splitlines(), after.splitlines()
    additions = deletions = changes = 0
    for old_lines, new_lines in _blocks(old, new):
        additions += max(new_lines - old_lines, 0)
        deletions += max(old_lines - new_lines, 0)
        changes += new_lines if new_lines == old_lines else 0
    return {"file": path, "additions": f"+{additions}", "deletions": f"-{deletions}", "changes": str(changes)}


def _blocks(old: list[bytes], new: list[bytes]) -> list[tuple[int, int]]:
    """Return how many lines of each differ, block by block; one block of everything when there are too many."""
    if max(len(old), len(new)) > _MOST_LINES:
        return [(len(old), len(new))]
    codes = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    return [(b - a, d - c) for word, a, b, c, d in codes if word != "equal"]


def stored_rows(ctx: Context, rows: Iterable[Mapping[str, Any]]) -> str:
    """Store rows and return the address of their file."""
    uri = ctx.uri(f"{new_id()}.ion")
    ctx.storage.put(uri, io.BytesIO("".join(f"{json.dumps(dict(row))}\n" for row in rows).encode()))
    return uri
