"""How a chart is looked at: which time, which part of the rows, which page. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from runner.dashboards.models import Filter, TimeWindow
from runner.errors import InvalidError

MOST_ROWS: Final = 10_000
"""The most rows of one answer."""
MOST_TOTAL: Final = 100_000
"""What a total counts up to: further rows are not counted."""
_BUCKETS: Final = (  # as Kestra's, which counts whole hours and days: more than six, one and 180
    (timedelta(hours=7), timedelta(minutes=1)),
    (timedelta(days=2), timedelta(hours=1)),
    (timedelta(days=181), timedelta(days=1)),
)
_WEEK: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class View:
    """What of the data is looked at.

    Args:
        since: the first moment of it, which is in it.
        until: the last moment of it, which is in it.
        filters: further conditions that all must hold, beside those of the chart.
        namespaces: prefixes of what may be seen; None for everything.
        page: counts from 1.
        size: rows of a page, 10,000 at most.
    """

    since: datetime
    until: datetime
    filters: tuple[Filter, ...] = ()
    namespaces: tuple[str, ...] | None = None
    page: int = 1
    size: int = MOST_ROWS

    @property
    def bucket(self) -> timedelta:
        """Return how much time one value of a date stands for where rows are aggregated: a minute to a week."""
        span = self.until - self.since
        return next((step for longest, step in _BUCKETS if span < longest), _WEEK)


def period(
    window: TimeWindow, now: datetime, since: datetime | None = None, until: datetime | None = None
) -> tuple[datetime, datetime]:
    """Return the time that a chart shows: the default window where a bound is missing.

    Raises:
        InvalidError: `dashboard.period.invalid` when it ends before it begins, or is longer than the dashboard allows.
    """
    end = until or now
    try:
        begin = since or end - window.default
    except OverflowError:
        raise _no_period(f"nothing lies before {end.isoformat()}") from None
    if end < begin:
        raise _no_period("the time ends before it begins")
    if end - begin > window.longest:
        days = round(window.longest / timedelta(days=1), 2)
        raise _no_period(f"the time is longer than the {days:g} days that may be looked at")
    return begin, end


def _no_period(text: str) -> InvalidError:
    return InvalidError("dashboard.period.invalid", text, hint="startDate and endDate, both as 2026-01-31T08:00:00Z")
