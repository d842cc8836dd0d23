"""The files of a commit, written to a folder that bodies of tasks may have touched: nothing here follows a link.

What the repository holds was written by others. A name that means another place (`..`, `.git`) ends the whole, a link
that leads out of the folder is left out, and links are made when all files are written, so that none is written
through one.
"""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dulwich.objects import ObjectID

from runner.errors import InvalidError
from sync.names import MAX_DEPTH, MAX_FILES, SUBMODULE, is_safe_name
from sync.packs import MAX_OBJECT_BYTES
from sync.repository import GitRepository
from task_runners.files import write_file, write_link

_EXECUTABLE: Final = 0o111
_MOST_LINK_BYTES: Final = 4_096


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, link or submodule of a commit, by its path with slashes."""

    path: str
    mode: int
    id: str


@dataclass(frozen=True, slots=True)
class CheckedOut:
    """What was written: the entries, and the paths of links that were left out since they lead out of the folder."""

    entries: tuple[Entry, ...]
    left_out: tuple[str, ...]
    submodules: Mapping[str, str] = field(default_factory=dict)


def entries(repository: GitRepository, commit: str) -> Iterator[Entry]:
    """Yield what a commit holds.

    Raises:
        InvalidError: `repository.name.refused`, `repository.depth.exceeded`, `repository.files.many`.
    """
    tree = ObjectID(repository.commit(commit).tree.encode())
    for count, found in enumerate(repository.raw.object_store.iter_tree_contents(tree)):
        path = found.path.decode("utf-8", "surrogateescape")
        if count >= MAX_FILES:
            raise InvalidError("repository.files.many", f"the commit holds more than {MAX_FILES:,} files")
        if path.count("/") >= MAX_DEPTH:
            raise InvalidError("repository.depth.exceeded", f"folders are nested deeper than {MAX_DEPTH}")
        if not path.isprintable() or not all(is_safe_name(part) for part in path.split("/")):
            shown = found.path.decode("utf-8", "backslashreplace")
            raise InvalidError("repository.name.refused", f"{shown!r} is not an acceptable file name")
        yield Entry(path, found.mode, found.sha.decode())


def check_out(repository: GitRepository, commit: str, root: Path, folder: str) -> CheckedOut:
    """Write the files of `commit` to `folder` below `root`, over what is there, and return what was written.

    Raises:
        InvalidError: as `entries`, and `repository.file.large`.
        TaskRunnerError: `file.path.refused` where a link or a file stands in the way.
    """
    found = tuple(entries(repository, commit))
    links = []
    for entry in found:
        if stat.S_ISLNK(entry.mode):
            links.append(entry)
        elif entry.mode != SUBMODULE:
            content = repository.blob(entry.id, limit=MAX_OBJECT_BYTES)
            mode = 0o755 if entry.mode & _EXECUTABLE else 0o644
            write_file(root, posixpath.join(folder, entry.path), content, mode=mode)
    left_out = tuple(entry.path for entry in links if not _linked(repository, entry, root, folder))
    return CheckedOut(found, left_out, {entry.path: entry.id for entry in found if entry.mode == SUBMODULE})


def _linked(repository: GitRepository, entry: Entry, root: Path, folder: str) -> bool:
    target = repository.blob(entry.id, limit=_MOST_LINK_BYTES).decode("utf-8", "replace")
    if not stays_inside(entry.path, target):
        return False
    write_link(root, posixpath.join(folder, entry.path), target)
    return True


def stays_inside(path: str, target: str) -> bool:
    """Whether a link at `path` with `target` leads to a place in the same folder, whatever other such links there are.

    Steps upwards are counted from the folder of the link, which is a real one; after a name, which could be a link
    itself, there may be none.
    """
    parts = [part for part in target.split("/") if part not in {"", "."}]
    up = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    return not target.startswith("/") and ".." not in parts[up:] and up <= path.count("/") and target.isprintable()
