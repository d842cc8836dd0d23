"""The processes below one: listed, and stopped before they are killed.

For `task_runners.keeper`, which is a bare interpreter: it imports only small parts of the standard library.
"""

from __future__ import annotations

import contextlib
import os
import signal

_FREEZE_ROUNDS = 50
HAS_CHILDREN_FILES = os.path.exists(f"/proc/self/task/{os.getpid()}/children")  # noqa: PTH110 - pathlib costs 10 ms


def descendants(root: int) -> list[int]:
    """Return every process below `root`, as far as the kernel lists it now."""
    found: list[int] = []
    todo = [root]
    parents = None if HAS_CHILDREN_FILES else all_parents()
    while todo:
        process = todo.pop()
        children = listed_children(process) if parents is None else [pid for pid in parents if parents[pid] == process]
        found += children
        todo += children
    return found


def listed_children(process: int) -> list[int]:
    """Return the children of a process, as its `children` file names them."""
    # Children of other threads than the first are not listed there; keepers have one, and what bodies start in other
    # threads becomes ours at the latest when its parent was killed.
    with contextlib.suppress(OSError), open(f"/proc/{process}/task/{process}/children", "rb") as file:  # noqa: PTH123 - pathlib costs 10 ms of start-up
        return [int(child) for child in file.read().split()]
    return []


def all_parents() -> dict[int, int]:
    """Return process id to parent id for all processes, for kernels without `children` files (gVisor)."""
    parents = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - as above
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError), open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - as above
                parents[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
    return parents


def frozen_descendants(root: int) -> set[int]:
    """Return every descendant, stopped first, since one that forks as fast as it is killed would never end."""
    frozen: set[int] = set()
    for _ in range(_FREEZE_ROUNDS):
        running = set(descendants(root)) - frozen
        if not running:
            break
        for process in running:
            kill(process, signal.SIGSTOP)
        frozen |= running
    return frozen


def kill(process: int, number: int) -> None:
    """Send a signal to a process (or, negative, to a group), which may be gone or another user's."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process, number)
