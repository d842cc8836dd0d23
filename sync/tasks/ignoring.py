"""Files that a `.gitignore` keeps out of a commit, and a `.kestraignore`, in the same way, out of a synchronisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sync.sources import Source
from task_runners.errors import TaskRunnerError
from task_runners.outputs import glob_pattern

IGNORE_FILE: Final = ".kestraignore"
_MOST_LINES: Final = 1_000
_MOST_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class _Rule:
    matches: Callable[[str], bool]
    is_kept: bool


def ignored(text: str) -> Callable[[str], bool]:
    """Return what says of a path whether the lines of a `.gitignore` leave it out; of several the last counts."""
    rules = [rule for line in text.splitlines()[:_MOST_LINES] if (rule := _rule(line.strip())) is not None]

    def is_ignored(path: str) -> bool:
        last = next((rule for rule in reversed(rules) if rule.matches(path)), None)
        return last is not None and not last.is_kept

    return is_ignored


def ignored_below(source: Source, files: Mapping[str, str]) -> Callable[[str], bool]:
    """Return what `ignored` does for the `.kestraignore` among files of a folder, path to blob id."""
    blob = files.get(IGNORE_FILE)
    if blob is None:
        return lambda _path: False
    source.ensure([blob])
    is_ignored = ignored(source.repository.blob(blob, limit=_MOST_BYTES).decode("utf-8", "replace"))
    return lambda path: path == IGNORE_FILE or is_ignored(path)


def _rule(line: str) -> _Rule | None:
    if not line or line.startswith("#"):
        return None
    is_kept, pattern = line.startswith("!"), line.lstrip("!")
    only_folders, inner = pattern.endswith("/"), pattern.strip("/")
    # A pattern with a slash inside, or before it, is about that place; one without, about every folder.
    start = inner if "/" in pattern.rstrip("/") else f"**/{inner}"
    try:
        found = [glob_pattern(f"{start}/**")] + ([] if only_folders else [glob_pattern(start)])
    except TaskRunnerError:
        return None  # as git does with a pattern that cannot match anything
    return _Rule(lambda path: any(each.fullmatch(path) for each in found), is_kept)
