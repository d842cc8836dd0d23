"""Whether control groups (v2) can be used on this machine, which controllers they have, and what to do when not.

Only looks: nothing is made, enabled or moved, unlike what a server does at its start (`task_runners.control_groups`).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from task_runners.control_groups import AUTO, NONE, WANTED, delegated_group, group_mount, own_group, words_of

__all__ = ["GroupSurvey", "survey_groups"]

_UNIFY: Final = "boot with `systemd.unified_cgroup_hierarchy=1`, which leaves all controllers to version 2"


@dataclass(frozen=True, slots=True)
class GroupSurvey:
    """What was found: the group below which those of bodies are made, its controllers, one line, one piece of advice.

    `advice` is empty when nothing needs to be done; `is_wished` says that the settings name a folder.
    """

    message: str
    advice: str = ""
    path: Path | None = None
    controllers: tuple[str, ...] = ()
    is_wished: bool = False

    @property
    def is_well(self) -> bool:
        """Whether what the settings ask for is there: what nobody asked for may be missing."""
        return not (self.is_wished and self.advice)


def survey_groups(wish: str, process: int | None = None) -> GroupSurvey:
    """Return what a server with the setting `processRunner.cgroup` finds: `process` is its id, None for this one."""
    if wish == NONE:
        return GroupSurvey("not used: `processRunner.cgroup` is `none`")
    proc = Path("/proc", "self" if process is None else str(process))
    try:
        groups, mounts = ((proc / name).read_text(encoding="utf-8") for name in ("cgroup", "mountinfo"))
        bound = Path("/proc/cgroups").read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        return GroupSurvey(f"not known: {error}", "run this as the user of the server")
    return judged(wish, groups, mounts, bound)


def judged(wish: str, groups: str, mounts: str, bound: str) -> GroupSurvey:
    """Return the same from `/proc/PID/cgroup`, `/proc/PID/mountinfo` and `/proc/cgroups`."""
    is_wished, mount = wish != AUTO, group_mount(mounts)
    if mount is None:
        return GroupSurvey("no hierarchy of version 2 is mounted", _UNIFY, is_wished=is_wished)
    path = Path(wish) if is_wished else delegated_group(own_group(groups, mounts))
    if path is None:
        advice = f"start the server by a unit with `Delegate=yes`, or set `processRunner.cgroup` to a folder of {mount}"
        message = f"version 2 is at {mount} {_has(_controllers(mount))}, but no group was delegated to {_who(groups)}"
        return GroupSurvey(message, advice)
    if not (path / "cgroup.subtree_control").is_file():
        advice = f"make it below {mount}, or set `processRunner.cgroup` to `auto`"
        return GroupSurvey(f"{path} is no group of version 2", advice, is_wished=is_wished)
    if not all(os.access(path / name, os.W_OK) for name in (".", "cgroup.procs", "cgroup.subtree_control")):
        advice = f"let the user of the server own {path} with its `cgroup.procs` and `cgroup.subtree_control`"
        return GroupSurvey(f"{path} may not be written", advice, is_wished=is_wished)
    controllers = _controllers(path)
    return GroupSurvey(_found(path, controllers), _missing(path, controllers, bound), path, controllers, is_wished)


def _who(groups: str) -> str:
    own = re.search(r"^0::(.*)$", groups, re.MULTILINE)
    return f"the group {own[1]}" if own else "this process"


def _controllers(path: Path) -> tuple[str, ...]:
    there = words_of(path / "cgroup.controllers")
    return tuple(name for name in WANTED if name in there)


def _has(controllers: tuple[str, ...]) -> str:
    return f"with the controllers {', '.join(controllers)}" if controllers else "without controllers for limits"


def _found(path: Path, controllers: tuple[str, ...]) -> str:
    missing = [name for name in WANTED if name not in controllers]
    rest = f"; limits of {', '.join(missing)} do not hold for bodies as a whole" if missing else ""
    return f"version 2 below {path} {_has(controllers)}{rest}"


def _missing(path: Path, controllers: tuple[str, ...], bound: str) -> str:
    """Return what brings the missing controllers: the kernel binds each to one version only."""
    missing = [name for name in WANTED if name not in controllers]
    rows = [line.split() for line in bound.splitlines() if not line.startswith("#")]
    of_first = {row[0] for row in rows if len(row) > 1 and row[1] != "0"}
    held = [name for name in missing if name in of_first]
    if held:
        return f"{', '.join(held)} belong to version 1 here: {_UNIFY}"
    if missing:
        return f"enable {', '.join(missing)} in `cgroup.subtree_control` of the groups above {path} (`Delegate=yes`)"
    return ""
