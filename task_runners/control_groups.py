"""Where this process may make control groups (v2) for bodies, what they can hold, and what dead keepers left there."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from task_runners import cgroup

__all__ = [
    "AUTO",
    "NONE",
    "WANTED",
    "ControlGroups",
    "delegated_group",
    "find_control_groups",
    "group_mount",
    "obstacle",
    "own_group",
    "words_of",
]

AUTO: Final = "auto"
NONE: Final = "none"
WANTED: Final = ("memory", "pids", "cpu")
_UNITS: Final = (".service", ".scope", ".slice")
_MOUNT: Final = re.compile(r"^\d+ \d+ \S+ (\S+) (\S+) .* - cgroup2 ", re.MULTILINE)
_OWN_LEAF: Final = "mainstem-server"
_MOVES: Final = 20
_TRIAL_S: Final = 10


@dataclass(frozen=True, slots=True)
class ControlGroups:
    """The group below which each body gets one of its own; without `path` there are none, and `reason` says why."""

    path: Path | None = None
    controllers: frozenset[str] = frozenset()
    reason: str = "control groups are not used"

    @property
    def missing(self) -> tuple[str, ...]:
        """The controllers that would hold limits and are not there."""
        return tuple(name for name in WANTED if name not in self.controllers)

    @property
    def summary(self) -> str:
        """One line for an operator: where groups are made, and which limits hold there."""
        if self.path is None:
            return f"bodies have no control groups: {self.reason}"
        without = f", without the controllers {', '.join(self.missing)}" if self.missing else ""
        return f"bodies have control groups below {self.path}{without}"

    def sweep(self) -> int:
        """End and remove the groups whose keepers are dead, whoever started them; return how many that were."""
        if self.path is None:
            return 0
        try:
            groups = list(self.path.glob(f"{cgroup.PREFIX}*"))
        except OSError:
            return 0
        return sum(cgroup.remove_dead(str(group)) for group in groups)


def find_control_groups(wish: str) -> ControlGroups:
    """Return where groups are made: in what systemd delegated to us (`auto`), in a folder, or nowhere (`none`).

    The controllers that are available there are enabled for the groups of bodies. The kernel allows that only for a
    group without processes: if it is this process's own, all in it move to `mainstem-server` below it.
    """
    if wish == NONE:
        return ControlGroups(reason="the settings say so")
    own = _own()
    path = delegated_group(own) if wish == AUTO else Path(wish)
    if path is None:
        return ControlGroups(reason="this service has no group that was delegated to it")
    hindrance = obstacle(path)
    if hindrance is not None:
        return ControlGroups(reason=f"{path}: {hindrance}")
    return ControlGroups(path, _enabled(path, is_own=path == own))


def own_group(cgroups: str, mounts: str) -> Path | None:
    """Return the folder of this process's group, from `/proc/self/cgroup` and `/proc/self/mountinfo`."""
    own = re.search(r"^0::(/.*)$", cgroups, re.MULTILINE)
    mount = _MOUNT.search(mounts)
    if own is None or mount is None:
        return None
    root, place = (Path(_unescaped(text)) for text in mount.groups())
    group = Path(own[1])
    return place / group.relative_to(root) if group.is_relative_to(root) else None


def group_mount(mounts: str) -> Path | None:
    """Return where a hierarchy of version 2 is mounted, from `/proc/self/mountinfo`; None where none is."""
    mount = _MOUNT.search(mounts)
    return Path(_unescaped(mount[2])) if mount is not None else None


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)


def _own() -> Path | None:
    try:
        texts = [Path("/proc/self", name).read_text(encoding="utf-8") for name in ("cgroup", "mountinfo")]
    except (OSError, ValueError):
        return None
    return own_group(texts[0], texts[1])


def delegated_group(own: Path | None) -> Path | None:
    """Return the group that systemd marked as delegated: this one, or with `DelegateSubgroup=` the one around it."""
    if own is None:
        return None
    candidates = [own] if own.suffix in _UNITS else [own, own.parent]  # a unit beside others is not all that is theirs
    return next((path for path in candidates if _is_delegated(path)), None)


def _is_delegated(path: Path) -> bool:
    try:
        return os.getxattr(path, "user.delegate") == b"1"
    except OSError:
        return False


def obstacle(path: Path) -> str | None:
    """Return why a process cannot be put into a group below `path`; None after one was."""
    if not path.is_absolute() or not (path / "cgroup.subtree_control").is_file():
        return "this is no control group of version 2"
    try:
        trial = cgroup.make(str(path), f"trial-{uuid.uuid4().hex[:12]}")
    except OSError as error:
        return f"no group can be made: {error.strerror}"
    try:
        enter = ["/bin/sh", "-c", 'echo 0 > "$0/cgroup.procs"', trial.path]
        done = subprocess.run(enter, capture_output=True, timeout=_TRIAL_S, check=False, env={})
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"no process can be started to try it: {error}"
    finally:
        trial.close()
    return None if done.returncode == 0 else "no process of this one's group can be moved there"


def _enabled(path: Path, *, is_own: bool) -> frozenset[str]:
    available = set(words_of(path / "cgroup.controllers"))
    for name in WANTED:
        if name in available - set(words_of(path / "cgroup.subtree_control")):
            _enable(path, name, (lambda: _move_out(path)) if is_own else lambda: False)
    return frozenset(words_of(path / "cgroup.subtree_control")) & frozenset(WANTED)


def _enable(path: Path, controller: str, make_room: Callable[[], bool]) -> None:
    try:
        (path / "cgroup.subtree_control").write_text(f"+{controller}", encoding="utf-8")
    except OSError as error:
        if error.errno == errno.EBUSY and make_room():
            _enable(path, controller, lambda: False)


def _move_out(path: Path) -> bool:
    """Move every process of a group into a leaf of it; return whether none is left. New ones may come meanwhile."""
    leaf = path / _OWN_LEAF
    try:
        leaf.mkdir(exist_ok=True)
        for _ in range(_MOVES):
            processes = words_of(path / "cgroup.procs")
            if not processes:
                return True
            for process in processes:
                _move(process, leaf)
    except OSError:
        return False
    return False


def _move(process: str, leaf: Path) -> None:
    try:
        (leaf / "cgroup.procs").write_text(process, encoding="utf-8")
    except ProcessLookupError:
        return  # it has ended


def words_of(path: Path) -> list[str]:
    """Return the words of a file of a group; none where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").split()
    except OSError:
        return []
