"""The control group of a body, as its keeper has it.

For `task_runners.keeper`, which is a bare interpreter: it imports only small parts of the standard library.
"""

from __future__ import annotations

import os

from task_runners import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Place:
    """The control group of a body. `held` are the limits that it enforces; the others are left to `setrlimit`."""

    def __init__(self, group: cgroup.Group, limits: dict[str, Any]) -> None:
        self.group = group
        self.held = group.limit(limits)
        self._is_inside = False

    @classmethod
    def of(cls, request: dict[str, Any]) -> Place | None:
        """Return the place that a request asks for; None when the system has none, and the body does without."""
        wish = request.get("group")
        try:
            return cls(cgroup.make(wish["parent"], wish["name"]), request.get("limits") or {}) if wish else None
        except OSError:
            return None

    def fork(self) -> int:
        """Do what `os.fork` does, with the child in the group if the system can."""
        body = self.group.fork()
        self._is_inside = body is not None
        return os.fork() if body is None else body

    def enter(self) -> bool:
        """Be in the group, in the child; return whether the system let it."""
        return self._is_inside or self.group.enter()

    def leave(self) -> dict[str, Any]:
        """Remove the group with all in it; return what was used there."""
        used = self.group.usage()
        self.group.close()
        return used
