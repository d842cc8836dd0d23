"""The Mermaid diagram of a run: a bar for each task run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from runner.executions.models import TaskRun
from runner.reports.text import MARKS, label
from runner.reports.values import Mask, clean
from runner.states import State

MOST_BARS: Final = 60
_SHORTEST: Final = timedelta(milliseconds=1)  # a bar of no length is not drawn
_SHOWS_MILLIS: Final = timedelta(seconds=10)
_TAGS: Final = {State.SUCCESS: "done, ", State.WARNING: "active, ", State.FAILED: "crit, ", State.KILLED: "crit, "}


def gantt(runs: Sequence[TaskRun], end: datetime, mask: Mask) -> tuple[str, int]:
    """Return the text of a Mermaid gantt, and how many runs it leaves out; empty when none of them started.

    Of more than 60 runs the longest are shown, in the order in which they started. The clock is that of UTC wherever
    the page is read: a time without a zone is taken and shown as local time.
    """
    started = [run for run in runs if run.started_at is not None]
    longest = sorted(started, key=lambda run: _length(run, end), reverse=True)[:MOST_BARS]
    if not longest:
        return "", 0
    ordered = sorted(longest, key=_start)
    span = max(_start(run) + _length(run, end) for run in ordered) - _start(ordered[0])
    axis = "%H:%M:%S" if span > _SHOWS_MILLIS else "%M:%S.%L"
    lines = ["gantt", "    dateFormat YYYY-MM-DDTHH:mm:ss.SSS", f"    axisFormat {axis}", "    section tasks"]
    for number, run in enumerate(ordered):
        # The mark keeps a name from being read as a word of the language, such as `section`.
        value = f" {clean(run.value, mask)}" if run.value else ""
        name = f"{MARKS.get(run.state, '·')} {label(f'{run.task_id}{value}')}"
        until = _start(run) + max(_length(run, end), _SHORTEST)
        lines.append(f"    {name} :{_TAGS.get(run.state, '')}t{number}, {_clock(_start(run))}, {_clock(until)}")
    return "\n".join(lines), len(started) - len(longest)


def _start(run: TaskRun) -> datetime:
    assert run.started_at is not None
    return run.started_at


def _length(run: TaskRun, end: datetime) -> timedelta:
    return max((run.ended_at or end) - _start(run), timedelta())


def _clock(at: datetime) -> str:
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
