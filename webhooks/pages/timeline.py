"""Where each task run of an execution lies in time, as rows with bars. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from runner.executions.models import TaskRun

MOST_ROWS = 200
WIDTH = 1000
"""Units that a timeline is wide."""
_LEAST = 4  # of a bar that is there at all


@dataclass(frozen=True, slots=True)
class Bar:
    """A task run: how deep it lies in others, and its bar in units of `WIDTH`: waiting, then running."""

    run: TaskRun
    depth: int
    seconds: float | None
    waits_from: int
    runs_from: int
    runs_for: int


def timeline(runs: Sequence[TaskRun], start: datetime, end: datetime) -> list[Bar]:
    """Return a row for each task run, those within others below these; `MOST_ROWS` at most.

    A run that has not ended lasts until `end`.
    """
    span = max((end - start).total_seconds(), 1e-3)

    def at(moment: datetime) -> int:
        return round(min(max((moment - start).total_seconds() / span, 0.0), 1.0) * WIDTH)

    rows = []
    for run, depth in _nested(runs)[:MOST_ROWS]:
        begun = run.started_at
        until = run.ended_at or end
        from_x, to_x = at(begun or until), at(until)
        seconds = (until - begun).total_seconds() if begun else None
        width = max(to_x - from_x, _LEAST) if begun else 0
        rows.append(Bar(run, depth, seconds, at(run.created_at), min(from_x, WIDTH - _LEAST), width))
    return rows


def _nested(runs: Sequence[TaskRun]) -> list[tuple[TaskRun, int]]:
    """Return the runs, each after the one that holds it, with how deep it lies."""
    children: dict[str | None, list[TaskRun]] = {}
    known = {run.id for run in runs}
    for run in sorted(runs, key=lambda run: run.seq):
        children.setdefault(run.parent_id if run.parent_id in known else None, []).append(run)
    found: list[tuple[TaskRun, int]] = []
    todo = [(run, 0) for run in reversed(children.get(None, []))]
    while todo:
        run, depth = todo.pop()
        found.append((run, depth))
        todo += [(child, depth + 1) for child in reversed(children.get(run.id, []))]
    return found
