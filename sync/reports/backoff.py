"""When what has failed is to be tried again: later each time, up to five minutes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

_LONGEST_WAIT_S: Final = 300.0
_MOST_DOUBLINGS: Final = 10


@dataclass(slots=True)
class Backoff:
    """Remembers failures by the name of what failed. The first wait is `first_s` seconds, each next one twice that."""

    first_s: float
    _failures: dict[str, int] = field(default_factory=dict)
    _not_before: dict[str, datetime] = field(default_factory=dict)

    def failed(self, name: str, now: datetime) -> float:
        """Note a failure; return after how many seconds it is to be tried again."""
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        wait_s = min(self.first_s * 2.0 ** min(failures - 1, _MOST_DOUBLINGS), _LONGEST_WAIT_S)
        self._not_before[name] = now + timedelta(seconds=wait_s)
        return wait_s

    def worked(self, name: str) -> None:
        """Forget the failures."""
        self._failures.pop(name, None)
        self._not_before.pop(name, None)

    def is_due(self, name: str, now: datetime) -> bool:
        """Whether it may be tried now."""
        return self._not_before.get(name, now) <= now
