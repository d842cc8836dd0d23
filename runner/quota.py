"""How often something may be written down in a minute: what is more is counted, and told by the next one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

_WINDOW_S: Final = 60.0
_MOST_KEYS: Final = 1_000
_OTHERS: Final = "*"


class Quota:
    """Lets `per_minute` of each key through; safe for any thread.

    Keys may come from outside: of more than a thousand within a minute the further ones share one quota.
    """

    def __init__(self, per_minute: int, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._windows: dict[str, list[float]] = {}  # begin, how many came through, how many were left out

    def take(self, key: str) -> int | None:
        """Return how many were left out since the last one that came through; None when this one is left out too."""
        now = self._monotonic()
        with self._lock:
            window = self._window(key, now)
            if now - window[0] >= _WINDOW_S:
                window[0], window[1] = now, 0.0
            if window[1] >= self._per_minute:
                window[2] += 1
                return None
            window[1] += 1
            left_out, window[2] = int(window[2]), 0.0
            return left_out

    def _window(self, key: str, now: float) -> list[float]:
        if key not in self._windows and len(self._windows) >= _MOST_KEYS:
            self._windows = {name: each for name, each in self._windows.items() if now - each[0] < _WINDOW_S}
            if len(self._windows) >= _MOST_KEYS:
                key = _OTHERS
        return self._windows.setdefault(key, [now, 0.0, 0.0])
