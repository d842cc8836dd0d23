"""What a container says from the moment it is told to end: read by a thread, since nobody knows when it speaks.

An API server does not even answer before the first line is there, and the end of a killed body must not wait for that.
A log that does not end with its container, as on a node that is cut off, is given up a little later.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Final

__all__ = ["LastWords"]

_PIECES: Final = 64  # of at most 64 KiB each: whoever says more is read further when this is told
_LATE_S: Final = 3.0
_OPENED_S: Final = 0.5


class LastWords:
    """The pieces of one log, kept until they are asked for. `over` is called once when nothing is read any more."""

    def __init__(
        self, opened: Callable[[], AbstractContextManager[Iterator[bytes]]], over: Callable[[], object]
    ) -> None:
        self.is_broken = False
        """Whether the log could not be read to its end."""
        self._opened, self._over = opened, over
        self._pieces: queue.Queue[bytes] = queue.Queue(_PIECES)
        self._is_open, self._has_ended, self._is_closed = threading.Event(), threading.Event(), threading.Event()
        threading.Thread(target=self._read, name="last-words", daemon=True).start()

    def wait_open(self) -> None:
        """Give the log a moment to be opened: that of a container that is gone cannot be."""
        self._is_open.wait(_OPENED_S)

    def are_awaited(self, ended_s: float) -> bool:
        """Return whether to wait for more of a container that ended so many seconds ago."""
        return ended_s < _LATE_S and not self._has_ended.is_set() and not self._pieces.full()

    def pieces(self) -> Iterator[bytes]:
        """Yield what was said, until its end or until nothing has come for some seconds."""
        until = time.monotonic() + _LATE_S
        while time.monotonic() < until:
            has_ended = self._has_ended.is_set()
            try:
                piece = self._pieces.get(timeout=0.0 if has_ended else 0.1)
            except queue.Empty:
                if has_ended:
                    return
                continue
            yield piece
            until = time.monotonic() + _LATE_S

    def close(self) -> None:
        """Read no more."""
        self._is_closed.set()

    def _read(self) -> None:
        try:
            with self._opened() as pieces:
                self._is_open.set()
                for piece in pieces:
                    self._keep(piece)
                    if self._is_closed.is_set():
                        return
        except Exception:  # noqa: BLE001 - whatever breaks, what was read counts
            self.is_broken = True
        finally:
            self._has_ended.set()
            self._is_open.set()
            self._over()

    def _keep(self, piece: bytes) -> None:
        while not self._is_closed.is_set():
            with contextlib.suppress(queue.Full):
                self._pieces.put(piece, timeout=0.1)
                return
