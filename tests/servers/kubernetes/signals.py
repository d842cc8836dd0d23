"""Wakes coroutines when a thread has changed something."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

__all__ = ["Wakeups"]


class Wakeups:
    """Coroutines of one loop that wait for the next change; threads tell that there was one."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Event] = set()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def tell(self) -> None:
        """Wake all who wait; from any thread."""
        with self._lock:
            loop, waiting = self._loop, list(self._waiting)
        if loop is not None and waiting and not loop.is_closed():
            for event in waiting:
                loop.call_soon_threadsafe(event.set)

    async def each(self, seconds: float | None = None) -> AsyncIterator[None]:
        """Yield at once, then after every change, until `seconds` have passed."""
        self._loop = asyncio.get_running_loop()
        event = asyncio.Event()
        deadline = None if seconds is None else self._loop.time() + seconds
        with self._lock:
            self._waiting.add(event)
        try:
            while True:
                yield
                left = None if deadline is None else deadline - self._loop.time()
                try:
                    await asyncio.wait_for(event.wait(), left)
                except TimeoutError:
                    return
                event.clear()
        finally:
            with self._lock:
                self._waiting.discard(event)
