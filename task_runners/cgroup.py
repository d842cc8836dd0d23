"""One control group (v2) for one body: made, limited, entered, killed as a whole, read and removed.

For `task_runners.keeper`, which is a bare interpreter: it imports only small parts of the standard library. A keeper
holds a lock on the folder of its group as long as it lives. So whoever gets that lock knows that the keeper is dead, in
whichever container it was, and may end what it left.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PREFIX = "mainstem-task-"
_PERIOD_US = 100_000
_LEAST_US = 1000  # the kernel's own bound
_EMPTY_S = 10.0
_MOST_NAMES = 100
_NAME_CHARS = 200
_CLONE3 = 435  # the same on every architecture
_CLONE_INTO_CGROUP = 0x200000000
_CLONE_ARGS = 11  # linux/sched.h: as many numbers of 64 bits, the signal the fifth and the group the last
_SIGNAL, _CGROUP = 4, 10

_held = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter's lock, as a fork has to


class Group:
    """A group that this process made, or took over from one that is dead; it holds the lock."""

    def __init__(self, path: str, lock: int) -> None:
        self.path = path
        self._lock = lock

    def limit(self, limits: dict[str, Any]) -> set[str]:
        """Set what its controllers can hold of `limits`; return the names of those limits."""
        return {name for name in limits if self._hold(files_of(name, limits[name]))}

    def fork(self) -> int | None:
        """Do what `os.fork` does, with the child born in the group; None when the system cannot.

        To move a process into a group, the kernel waits for a grace period: 15 ms for each body.
        """
        arguments = (ctypes.c_uint64 * _CLONE_ARGS)(_CLONE_INTO_CGROUP)
        arguments[_SIGNAL], arguments[_CGROUP] = signal.SIGCHLD, self._lock
        size = ctypes.c_size_t(ctypes.sizeof(arguments))
        ctypes.pythonapi.PyOS_BeforeFork()
        child = int(_held.syscall(ctypes.c_long(_CLONE3), arguments, size))
        if child == 0:
            ctypes.pythonapi.PyOS_AfterFork_Child()
        else:
            ctypes.pythonapi.PyOS_AfterFork_Parent()
        return child if child >= 0 else None

    def enter(self) -> bool:
        """Move this process into the group; return whether the system let it."""
        return _write(f"{self.path}/cgroup.procs", "0")

    def kill(self) -> None:
        """Kill everything in the group, and in groups below it, at once."""
        if not _write(f"{self.path}/cgroup.kill", "1"):  # Linux before 5.14
            for process in _read(f"{self.path}/cgroup.procs").split():
                with contextlib.suppress(OSError):
                    os.kill(int(process), signal.SIGKILL)

    def usage(self) -> dict[str, Any]:
        """Return what was used, as far as the group knows: `cpu_seconds`, `peak_memory_bytes`, `out_of_memory`."""
        used: dict[str, Any] = {}
        cpu = _fields(f"{self.path}/cpu.stat").get("usage_usec")
        if cpu:  # else the body could not be put in
            used["cpu_seconds"] = cpu / 1e6
        peak = _read(f"{self.path}/memory.peak").strip()
        if peak.isdigit() and int(peak) > 0:
            used["peak_memory_bytes"] = int(peak)
        used["out_of_memory"] = _fields(f"{self.path}/memory.events").get("oom_kill", 0) > 0
        return used

    def close(self) -> bool:
        """Kill what is in the group and remove it; return whether it is gone. The lock ends in any case."""
        try:
            self.kill()
            return self._is_emptied(_EMPTY_S) and _remove(self.path)
        finally:
            os.close(self._lock)

    def _hold(self, files: dict[str, str]) -> bool:
        """Return whether the first of `files`, which is the limit itself, took its value."""
        done = [_write(f"{self.path}/{name}", value) for name, value in files.items()]
        return done[:1] == [True]

    def _is_emptied(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        try:
            events = os.open(f"{self.path}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            poller = select.poll()
            poller.register(events, select.POLLPRI)  # the kernel tells of each change
            while b"populated 1" in os.pread(events, 4096, 0):
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                poller.poll(left * 1000)
            return True
        finally:
            os.close(events)


def files_of(limit: str, value: float) -> dict[str, str]:
    """Return the files of a group that enforce a limit, the limit itself first; none for one that groups know not.

    Memory includes swap, or a body at its limit would slow down the machine instead of ending; when it has to end, it
    ends as a whole.
    """
    if limit == "memory_bytes":
        return {"memory.max": str(int(value)), "memory.swap.max": "0", "memory.oom.group": "1"}
    if limit == "processes":
        return {"pids.max": str(int(value))}
    if limit == "cpus":
        return {"cpu.max": f"{max(_LEAST_US, round(value * _PERIOD_US))} {_PERIOD_US}"}
    return {}


def make(parent: str, name: str) -> Group:
    """Return a new group for a body called `name`: a dead one is ended before; beside a living one it is numbered.

    Raises:
        OSError: the system does not let us.
    """
    plain = "".join(char if (char.isalnum() and char.isascii()) or char in "-_" else "_" for char in name)[:_NAME_CHARS]
    for number in range(1, _MOST_NAMES):
        path = f"{parent}/{PREFIX}{plain}" + (f".{number}" if number > 1 else "")
        remove_dead(path)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path)  # noqa: PTH102 - pathlib costs 10 ms of start-up
            group = _taken(path)
            if group is not None:
                return group
    raise FileExistsError(errno.EEXIST, "too many groups of one name", name)


def remove_dead(path: str) -> bool:
    """Kill and remove the group at `path` if its keeper is dead; return whether it was removed."""
    group = _taken(path)
    return group is not None and group.close()


def _taken(path: str) -> Group | None:
    """Return the group at `path` with its lock held, or None when it is gone or a living process holds the lock."""
    try:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with contextlib.suppress(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.stat(path).st_ino == os.fstat(lock).st_ino:  # noqa: PTH116 - as above
            return Group(path, lock)
    os.close(lock)
    return None


def _remove(path: str) -> bool:
    """Remove an empty group with the empty ones that a body made in it."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                _remove(entry.path)
        os.rmdir(path)  # noqa: PTH106 - as above
        return True
    return False


def _write(path: str, value: str) -> bool:
    try:
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(file, value.encode())
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(file)


def _read(path: str) -> str:
    with contextlib.suppress(OSError), open(path, "rb") as file:  # noqa: PTH123 - as above
        return file.read().decode()
    return ""


def _fields(path: str) -> dict[str, int]:
    """Return the lines `name number` of a file."""
    pairs = (line.split() for line in _read(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) > 1}
