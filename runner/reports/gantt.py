"""The Mermaid diagram of a run: a bar for each task run."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from runner.executions.models import TaskRun
from runner.reports.text import label
from runner.states import State

MOST_BARS: Final = 60
_TAGS: Final = {State.SUCCESS: "done, ", State.WARNING: "active, ", State.FAILED: "crit, ", State.KILLED: "crit, "}


def gantt(runs: Sequence[TaskRun], end: datetime) -> tuple[str, int]:
    """Return the text of a Mermaid gantt, and how many runs it leaves out; empty when none of them started.

    Of more than 60 runs the longest are shown, in the order in which they started.
    """
    started = [run for run in runs if run.started_at is not None]
    longest = sorted(started, key=lambda run: _millis(run, end), reverse=True)[:MOST_BARS]
    if not longest:
        return "", 0
    origin = min(_start(run) for run in longest)
    lines = ["gantt", "    dateFormat x", "    axisFormat %M:%S", "    section tasks"]
    for number, run in enumerate(sorted(longest, key=_start)):
        name = label(f"{run.task_id} {run.value}" if run.value else run.task_id)
        begin = round((_start(run) - origin).total_seconds() * 1000)
        # A bar of no length is not drawn.
        lines.append(
            f"    {name} :{_TAGS.get(run.state, '')}t{number}, {begin}, {begin + max(_millis(run, end), 1):.0f}"
        )
    return "\n".join(lines), len(started) - len(longest)


def _start(run: TaskRun) -> datetime:
    assert run.started_at is not None
    return run.started_at


def _millis(run: TaskRun, end: datetime) -> float:
    return max(((run.ended_at or end) - _start(run)).total_seconds() * 1000, 0.0)
