"""The files of a commit, written to a folder: the flows and namespace files that a run was pinned to."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from runner.errors import MainstemError


def check_out(commit: str, places: tuple[Path, ...], target: Path) -> bool:
    """Write the files of `commit` below `target`; False when none of `places` lies in a repository that has it.

    Links, submodules and names that could escape are left out, and so are files that are too large for a flow.
    """
    # The package that knows git stands above this one, so it is named by text.
    of_revision: Any = importlib.import_module("sync.comparison").of_revision
    for place in places:
        try:
            with of_revision(_top(place), commit) as snapshot:
                _write(snapshot, target)
        except MainstemError:
            continue
        return True
    return False


def _top(place: Path) -> Path:
    """Return the folder of the work tree around `place`, since a commit is taken as a whole."""
    absolute = place.absolute()
    return next((each for each in (absolute, *absolute.parents) if (each / ".git").exists()), absolute)


def _write(snapshot: Any, target: Path) -> None:
    for name in snapshot.files:
        try:
            content = snapshot.read(name)
        except MainstemError:
            continue
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def file_of(source: str, folder: Path) -> Path | None:
    """Return the file below `folder` whose whole text is `source`."""
    for path in sorted(folder.rglob("*.y*ml")):
        if path.is_file() and path.stat().st_size < 1 << 20 and path.read_bytes() == source.encode():
            return path
    return None
