"""A run as JUnit XML: a case for each task run that holds no other."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from typing import Final

from runner.executions.models import TaskRun
from runner.junit import Case, Suite, document
from runner.reports.details import RunDetails
from runner.reports.text import cut
from runner.reports.values import Mask, clean
from runner.states import State

_MOST_CASES: Final = 1_000
_MOST_TEXT: Final = 16_000
_LONGEST_NAME: Final = 300
_NOT_RUN: Final = frozenset({State.SKIPPED, State.CANCELLED})


def run_junit(details: RunDetails, mask: Mask) -> str:
    """Return the JUnit XML of a run, masked: what failed has its last lines of log. At most a few megabytes.

    A run that failed outside of its tasks has an error named after the flow, so that no reader takes it for good.
    """
    row = details.row
    name = f"{row.namespace}.{row.flow}"
    cases = [*_own(details, name, mask), *(_case(details, run, name, mask) for run in _leaves(details))]
    about = {
        "execution": row.id,
        "environment": row.environment,
        "revision": str(row.revision),
        "commit": row.commit or "",
        "state": row.state.value,
    }
    at = f"{row.start.astimezone(UTC):%Y-%m-%dT%H:%M:%S}" if row.start else None
    known = {key: text for key, text in about.items() if text}
    return document(name, [Suite(name, cases, at=at, properties=known)])


def _own(details: RunDetails, name: str, mask: Mask) -> Iterator[Case]:
    row = details.row
    if not row.is_good and row.state not in _NOT_RUN and not details.failed_runs:
        error = cut(clean(details.execution.error or row.error or row.state.value, mask), _MOST_TEXT)
        yield Case(name, name, seconds=row.seconds or 0.0, failure=error, is_error=True)


def _leaves(details: RunDetails) -> list[TaskRun]:
    """Return the task runs that hold no other; of very many those that failed and the first ones."""
    holders = {run.parent_id for run in details.runs}
    failed = {run.id for run in details.failed_runs}
    leaves = [run for run in details.runs if run.id not in holders or run.id in failed]
    if len(leaves) <= _MOST_CASES:
        return leaves
    return sorted(leaves, key=lambda run: run.state not in {State.FAILED, State.KILLED})[:_MOST_CASES]


def _case(details: RunDetails, run: TaskRun, group: str, mask: Mask) -> Case:
    took = (run.ended_at - run.started_at).total_seconds() if run.ended_at and run.started_at else 0.0
    lines = "\n".join(clean(entry.message, mask) for entry in details.logs.get(run.id, ()))
    is_bad = run.state in {State.FAILED, State.KILLED}
    name = clean(f"{run.task_id}[{run.value}]" if run.value else run.task_id, mask)
    return Case(
        cut(name, _LONGEST_NAME),
        group,
        seconds=max(took, 0.0),
        failure=cut(clean(run.error or run.state.value.lower(), mask), _MOST_TEXT) if is_bad else None,
        detail=cut(lines, _MOST_TEXT),
        skipped=run.state.value.lower() if run.state in _NOT_RUN else None,
    )
