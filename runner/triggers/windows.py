"""The windows of time in which several executions are seen together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Literal, Self
from zoneinfo import ZoneInfo

from pydantic import model_validator

from runner.durations import Duration
from runner.flows.models import Model

_DAY = timedelta(days=1)
_TICK = timedelta(microseconds=1)


class TimeWindow(Model):
    """Which executions count together.

    DURATION_WINDOW: consecutive windows of the length `window` (a day), counted from midnight plus `windowAdvance`.
    SLIDING_WINDOW: the last `window` (a day). DAILY_TIME_DEADLINE: from midnight to `deadline`. DAILY_TIME_WINDOW: from
    `startTime` to `endTime`. Outside the two daily ones nothing counts.
    """

    type: Literal["DURATION_WINDOW", "SLIDING_WINDOW", "DAILY_TIME_DEADLINE", "DAILY_TIME_WINDOW"] = "DURATION_WINDOW"
    window: Duration | None = None
    window_advance: Duration | None = None
    deadline: time | None = None
    start_time: time | None = None
    end_time: time | None = None

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        wanted = _WANTED[self.type]
        faults = [
            f"must have {_WORDS[name]}" for name in wanted if name in _REQUIRED and getattr(self, name) is None
        ] + [f"cannot have {_WORDS[name]}" for name in _WORDS if name not in wanted and getattr(self, name) is not None]
        if self.window is not None and self.window <= timedelta(0):
            faults.append("must have a window longer than nothing")
        if faults:
            raise ValueError(" ".join(f"Time window of type `{self.type}` {fault}." for fault in faults))
        return self

    def span(self, now: datetime, zone: ZoneInfo) -> Span | None:
        """Return the window that holds `now`, in the server's time zone; None when there is none at this time."""
        local = now.astimezone(zone)
        match self.type:
            case "SLIDING_WINDOW":
                return Span(now - (self.window or _DAY), now, slides=True)
            case "DAILY_TIME_DEADLINE":
                assert self.deadline is not None
                return _span_of_day(local, time(), self.deadline)
            case "DAILY_TIME_WINDOW":
                assert self.start_time is not None
                assert self.end_time is not None
                return _span_of_day(local, self.start_time, self.end_time)
            case _:
                return _fixed(local, self)


@dataclass(frozen=True, slots=True)
class Span:
    """A window in time, both ends counted in. One that slides has no start that is remembered."""

    start: datetime
    end: datetime
    slides: bool = False

    def holds(self, moment: datetime) -> bool:
        """Return whether a time lies in it."""
        return self.start.astimezone(UTC) <= moment.astimezone(UTC) <= self.end.astimezone(UTC)


_WORDS = {
    "deadline": "a deadline",
    "end_time": "an end time",
    "start_time": "a start time",
    "window": "a window",
    "window_advance": "a window advance",
}
_REQUIRED = {"deadline", "start_time", "end_time"}
_WANTED = {
    "DURATION_WINDOW": ("window", "window_advance"),
    "SLIDING_WINDOW": ("window",),
    "DAILY_TIME_DEADLINE": ("deadline",),
    "DAILY_TIME_WINDOW": ("end_time", "start_time"),
}


def _span_of_day(local: datetime, start: time, end: time) -> Span | None:
    span = Span(
        local.replace(hour=start.hour, minute=start.minute, second=start.second, microsecond=0, fold=0),
        local.replace(hour=end.hour, minute=end.minute, second=end.second, microsecond=999_999, fold=1),
    )
    return span if span.holds(local) else None


def _fixed(local: datetime, window: TimeWindow) -> Span:
    """Return the window that holds `local` among those that follow each other from midnight plus the advance.

    Windows of whole days go by the calendar, so that a day of 23 or 25 hours is one too; others go by real time.
    """
    length, advance = window.window or _DAY, window.window_advance or timedelta(0)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if length % _DAY:
        now, first = local.astimezone(UTC), midnight.astimezone(UTC) + advance
        start = first + (now - first) // length * length
        return Span(start, start + length - _TICK)
    # Times of one zone are added and compared by what the wall clock shows.
    start = midnight + advance
    start += (local - start) // length * length
    return Span(start, (start + length - _TICK).replace(fold=1))
