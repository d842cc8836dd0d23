"""What the processes around a body ask of the kernel beyond the standard library, and how they hear signals.

For `task_runners.keeper`, which is a bare interpreter: it imports only small parts of the standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int) -> None:
    """Set an option of this process. Raises `OSError`."""
    if _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def wakeup(handled: dict[int, Callable[[int, Any], None]]) -> int:
    """Return a descriptor that becomes readable when one of `handled` arrives: no signal is lost between two looks."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number, handler in handled.items():
        signal.signal(number, handler)
    return reader


def drain(descriptor: int) -> None:
    """Take what a descriptor of `wakeup` holds."""
    with contextlib.suppress(BlockingIOError):
        os.read(descriptor, 4096)


def nothing(_number: int, _frame: Any) -> None:
    """Handle a signal that shall only wake up."""
