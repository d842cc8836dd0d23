"""The memory of a process in which plans of thousands of flows are made: seldom searched meanwhile, given back after.

A plan for ten thousand flows makes millions of objects. Nearly all are released by their last reference, so that the
searches for cycles among them find next to nothing, and take an eighth of the processor time of a first activation.
"""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

LARGE: Final = 1_000
"""The number of changed flows from which on a plan leaves so much free memory behind that it is worth giving back."""

_NEW_OBJECTS: Final = 50_000  # between two searches, instead of some hundred: cycles hold a few megabytes until then


class _Searches:
    """How often the collector of this process looks for cycles; there is one, whatever the number of plans."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._plans = 0
        self._usual = gc.get_threshold()

    def begin(self) -> None:
        """Make them rare while a plan is worked on."""
        with self._lock:
            if self._plans == 0:
                self._usual = gc.get_threshold()
                gc.set_threshold(max(_NEW_OBJECTS, self._usual[0]), *self._usual[1:])
            self._plans += 1

    def end(self) -> None:
        """Make them what they were, when it was the last plan."""
        with self._lock:
            self._plans -= 1
            if self._plans == 0:
                gc.set_threshold(*self._usual)


_searches: Final = _Searches()


@contextmanager
def seldom_searched() -> Iterator[None]:
    """Have the collector look for cycles less often until the block ends, in the whole process."""
    _searches.begin()
    try:
        yield
    finally:
        _searches.end()


def _no_trim(_kept: int) -> int:
    return 0


def _trim_of_libc() -> Callable[[int], int]:
    """Return `malloc_trim` of glibc; of another C library what does nothing."""
    try:
        found = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return _no_trim
    found.argtypes = (ctypes.c_size_t,)
    found.restype = ctypes.c_int
    return found


_trim: Final = _trim_of_libc()


def give_back() -> bool:
    """Give pages that hold nothing back to the system; False when there were none, or this C library cannot.

    glibc gives back the end of its heap only. A plan leaves holes in the middle, between what stays of it: they would
    count as used until the next plan fills them.
    """
    return bool(_trim(0))
