"""The log of a container as a kubelet keeps it: one time stamp a line, both streams together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

__all__ = ["Log"]

_CHUNK_LINES = 2000


class Log:
    """Lines with their time stamps in nanoseconds, which only grow."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.has_ended = False
        self._lines: list[tuple[int, bytes]] = []
        self._partial = {1: b"", 2: b""}
        self._last = 0
        self._lock = threading.Lock()
        self._on_change = on_change

    def feed(self, stream: int, chunk: bytes) -> None:
        """Take what a container wrote."""
        *whole, self._partial[stream] = (self._partial[stream] + chunk).split(b"\n")
        with self._lock:
            self._lines += [(self._stamp(), line + b"\n") for line in whole]
        self._on_change()

    def end(self) -> None:
        """Take what has no line end as a last line."""
        with self._lock:
            self._lines += [(self._stamp(), rest) for rest in self._partial.values() if rest]
            self._partial = {1: b"", 2: b""}
            self.has_ended = True
        self._on_change()

    def _stamp(self) -> int:
        self._last = max(time.time_ns(), self._last + 1)
        return self._last

    def start_of(self, since: datetime | None, tail: int | None) -> int:
        """Return the index of the first line that a reader wants."""
        # The API server hands `sinceTime` on to the kubelet in whole seconds.
        least = int(since.timestamp()) * 10**9 if since is not None else 0
        with self._lock:
            first = next((index for index, (stamp, _) in enumerate(self._lines) if stamp >= least), len(self._lines))
            return first if tail is None else max(first, len(self._lines) - tail)

    def read(self, index: int, *, with_stamps: bool) -> Iterator[tuple[int, bytes]]:
        """Yield pieces of what is there from line `index` on, each with the index that follows it."""
        while True:
            with self._lock:
                lines = self._lines[index : index + _CHUNK_LINES]
            if not lines:
                return
            index += len(lines)
            yield index, b"".join(_stamped(lines) if with_stamps else (line for _, line in lines))


def _stamped(lines: list[tuple[int, bytes]]) -> Iterator[bytes]:
    second, prefix = -1, ""
    for stamp, line in lines:
        if stamp // 10**9 != second:
            second = stamp // 10**9
            prefix = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        yield f"{prefix}.{stamp % 10**9:09d}Z ".encode() + line
