"""A group of the tests' own in the machine's hierarchy of control groups (v2)."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def hierarchy() -> Path | None:
    """Return where the machine has a hierarchy of version 2 that this user may change; None without."""
    mount = re.search(r"^\S+ \S+ \S+ \S+ (\S+) .* - cgroup2 ", Path("/proc/self/mountinfo").read_text(), re.MULTILINE)
    place = Path(mount[1]) if mount is not None else None
    return place if place is not None and os.access(place / "cgroup.procs", os.W_OK) and os.getuid() == 0 else None


@contextmanager
def group_of_tests(hierarchy: Path) -> Iterator[Path]:
    """Give a new group; all in it is killed and removed at the end."""
    path = hierarchy / f"mainstem-tests-{uuid.uuid4().hex[:12]}"
    path.mkdir()
    try:
        yield path
    finally:
        for group in sorted(path.rglob("*/"), reverse=True):
            (group / "cgroup.kill").write_text("1")
        (path / "cgroup.kill").write_text("1")
        for group in sorted(path.rglob("*/"), reverse=True):
            _remove(group)
        _remove(path)


def _remove(group: Path) -> None:
    while True:
        try:
            group.rmdir()
        except OSError:  # what was killed is on its way out
            continue
        return
