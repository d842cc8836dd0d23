"""The log of a container as the API gives it: from a second on, each line with its time stamp.

A page ends after some thousand lines; the connection stays open for the next page, since a second may hold more lines
than a page and the API can only begin at one.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Final

from task_runners.capture import Stream
from task_runners.kubernetes.api import Api, ApiError
from task_runners.kubernetes.last_words import LastWords
from task_runners.log_pages import LogCursor, LogPage, RawLine

__all__ = ["Logs"]

_PAGE_LINES: Final = 5000
_SETTLE_S: Final = 0.25  # the runtime may still write a container's last lines when it is said to have ended
_FORGOTTEN_S: Final = 120.0
_AFTER_GRACE_S: Final = 10.0
_NOT_YET: Final = frozenset({400, 404})  # it waits to start, or is gone


@dataclass
class _Open:
    """A log that is being read."""

    pieces: Iterator[bytes]
    close: Callable[[], None]
    touched_at: float
    last_at: datetime | None = None
    """When the last line was written that was given, once one was: the next page goes on behind it."""
    lines: Iterator[tuple[bytes, bool]] = field(init=False)

    def __post_init__(self) -> None:
        self.lines = self._lines()

    def _lines(self) -> Iterator[tuple[bytes, bool]]:
        """Yield each line, and whether it has an end."""
        pending = bytearray()
        for piece in self.pieces:
            pending += piece
            *whole, rest = bytes(pending).split(b"\n")
            pending = bytearray(rest)
            for line in whole:
                yield line, True
        if pending:
            yield bytes(pending), False


class Logs:
    """The logs of the pods of one namespace, each read by one thread at a time."""

    def __init__(self, api: Api, clock: Callable[[], float] = time.monotonic) -> None:
        self._api, self._clock = api, clock
        self._open: dict[str, _Open] = {}
        self._last_words: dict[str, LastWords] = {}
        # Each holds a connection, and half of them are left to those who delete pods.
        self._places = threading.Semaphore(api.connection.requests // 2)
        self._ended_at: dict[str, float] = {}
        self._lock = threading.Lock()

    def read(self, pod: str, container: str, since: LogCursor | None, *, is_final: bool) -> LogPage:
        """Return the next lines of a container from `since` on. Raises `ApiError`."""
        if is_final and self._awaits_last_words(pod):
            return LogPage(is_settled=False)
        current = self._continued(pod, since)
        is_exact = current is not None
        if current is None:
            try:
                current = self._from_start(pod, container, since, is_final=is_final)
            except ApiError as error:
                if error.code not in _NOT_YET:
                    raise
                return LogPage()
        lines, has_more = self._page(current, since, is_final=is_final)
        if has_more:
            current.touched_at, current.last_at = self._clock(), lines[-1].at
            with self._lock:
                self._open[pod] = current
        else:
            current.close()
        is_settled = self._is_settled(pod, is_final=is_final)
        return LogPage(lines, is_exact=is_exact, has_more=has_more, is_settled=is_settled)

    def follow_end(self, pod: str, container: str, since: LogCursor | None, grace_s: float) -> None:
        """Keep the log of a pod that is about to be deleted: what it says until its end is read when it is gone.

        Where too many are kept already, the lines of its last moment may be lost.
        """
        with self._lock:
            if pod in self._last_words or not self._places.acquire(blocking=False):
                return
            opened = partial(self._api.log, pod, container, since=_second(since), follow_s=grace_s + _AFTER_GRACE_S)
            words = self._last_words[pod] = LastWords(opened, self._places.release)
        words.wait_open()

    def forget(self, pod: str) -> None:
        """Close what is open of a pod."""
        with self._lock:
            opened, words = self._open.pop(pod, None), self._last_words.pop(pod, None)
            self._ended_at.pop(pod, None)
        if opened is not None:
            opened.close()
        if words is not None:
            words.close()

    def close(self) -> None:
        """Close everything."""
        for pod in {*self._open, *self._last_words}:
            self.forget(pod)

    def _continued(self, pod: str, since: LogCursor | None) -> _Open | None:
        """Return the open log whose last page was told, if there is one."""
        with self._lock:
            current = self._open.pop(pod, None)
        if current is None or (since is not None and since.timestamp == current.last_at):
            return current
        current.close()
        return None

    def _from_start(self, pod: str, container: str, since: LogCursor | None, *, is_final: bool) -> _Open:
        with self._lock:
            words = self._last_words.pop(pod, None) if is_final else None
            if words is not None and words.is_broken:
                self._ended_at[pod] = self._clock()  # so that the log is read once more
        if words is not None:
            return _Open(words.pieces(), words.close, self._clock())
        self._sweep()
        stack = contextlib.ExitStack()
        pieces = stack.enter_context(self._api.log(pod, container, since=_second(since)))
        return _Open(pieces, stack.close, self._clock())

    def _sweep(self) -> None:
        """Close what another worker reads to its end."""
        now = self._clock()
        with self._lock:
            old = [pod for pod, opened in self._open.items() if now - opened.touched_at > _FORGOTTEN_S]
        for pod in old:
            self.forget(pod)

    def _page(self, current: _Open, since: LogCursor | None, *, is_final: bool) -> tuple[list[RawLine], bool]:
        lines: list[RawLine] = []
        try:
            for line, is_whole in current.lines:
                raw = _parsed(line)
                if raw is None or (not is_whole and not is_final) or (since is not None and raw.at < since.timestamp):
                    continue
                lines.append(raw)
                if len(lines) >= _PAGE_LINES:
                    return lines, True
        except ApiError:
            current.close()
            if not lines:
                raise
        return lines, False

    def _awaits_last_words(self, pod: str) -> bool:
        with self._lock:
            words = self._last_words.get(pod)
        return words is not None and words.are_awaited(self._ended_s(pod))

    def _is_settled(self, pod: str, *, is_final: bool) -> bool:
        return not is_final or (self._ended_s(pod) >= _SETTLE_S and pod not in self._last_words)

    def _ended_s(self, pod: str) -> float:
        """Return how many seconds ago a pod was first said to have ended."""
        with self._lock:
            return self._clock() - self._ended_at.setdefault(pod, self._clock())


def _second(since: LogCursor | None) -> str | None:
    return since.timestamp.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if since is not None else None


def _parsed(line: bytes) -> RawLine | None:
    stamp, _, text = line.partition(b" ")
    try:
        # Nanoseconds are more than a `datetime` holds; what they tell apart, the digests of the lines do.
        at = datetime.fromisoformat(f"{stamp.decode('ascii').rstrip('Z')[:26]}+00:00")
    except ValueError:
        return None  # such as `failed to try resolving symlinks`, which the kubelet writes into logs it cannot read
    return RawLine(at, text, Stream.STDOUT)
