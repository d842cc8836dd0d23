"""The time of a test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class LeapingClock:
    """A clock that runs as usual and can be put forward, so that nobody waits for a Sleep of an hour."""

    def __init__(self) -> None:
        self._ahead = timedelta(0)

    def __call__(self) -> datetime:
        """Return the present time of the test."""
        return datetime.now(UTC) + self._ahead

    def leap(self, to: datetime) -> None:
        """Make it `to` now; a time that is past changes nothing."""
        self._ahead = max(self._ahead, to - datetime.now(UTC))
