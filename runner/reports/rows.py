"""One line about one execution: what is kept of every run, with a page or without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Self

from runner.executions.models import Ending, Execution, TaskRun
from runner.reports.text import cut, path_name
from runner.reports.values import Mask, clean
from runner.states import State

_MOST_ERROR: Final = 200


@dataclass(frozen=True, slots=True)
class RunRow:
    """An ended execution. `seconds` is the time from its start to its end, None when it never started."""

    id: str
    namespace: str
    flow: str
    revision: int
    state: State
    end: datetime
    environment: str = ""
    commit: str | None = None
    trigger: str | None = None
    start: datetime | None = None
    seconds: float | None = None
    error: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Return the flow: its namespace and id."""
        return self.namespace, self.flow

    @property
    def is_good(self) -> bool:
        """Whether the run reached what it was for."""
        return self.state in {State.SUCCESS, State.WARNING}

    @property
    def stem(self) -> str:
        """Return the path of the run's page below the branch, without its ending."""
        day = f"{self.end.astimezone(UTC):%Y/%m/%d}"
        return f"runs/{day}/{self.namespace}/{self.flow}/{path_name(self.id)}"

    def as_json(self) -> dict[str, Any]:
        """Return the object of a line in a `runs/*.jsonl` file."""
        return {
            "id": self.id,
            "environment": self.environment,
            "namespace": self.namespace,
            "flow": self.flow,
            "revision": self.revision,
            "commit": self.commit,
            "state": self.state.value,
            "trigger": self.trigger,
            "start": _text(self.start),
            "end": _text(self.end),
            "seconds": self.seconds,
            "error": self.error,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the row of a line."""
        return cls(
            **{
                **values,
                "state": State(values["state"]),
                "start": datetime.fromisoformat(values["start"]) if values.get("start") else None,
                "end": datetime.fromisoformat(values["end"]),
            }
        )


def row_of(execution: Execution | Ending, mask: Mask, failed: Sequence[TaskRun] = ()) -> RunRow:
    """Return the row of an ended execution; `failed` are its task runs that failed, the first of which is its error."""
    end = execution.ended_at or execution.created_at
    start = execution.started_at
    error = execution.error or _first_error(failed)
    return RunRow(
        id=execution.id,
        namespace=execution.namespace,
        flow=execution.flow_id,
        revision=execution.flow_revision,
        state=execution.state,
        end=end,
        environment=execution.environment or "",
        commit=execution.commit,
        trigger=execution.trigger.id if execution.trigger else None,
        start=start,
        seconds=round(max((end - start).total_seconds(), 0.0), 6) if start else None,
        error=cut(" ".join(clean(error, mask).split()), _MOST_ERROR) if error else None,
    )


def failed_leaves(runs: Sequence[TaskRun]) -> tuple[TaskRun, ...]:
    """Return the task runs in which something went wrong themselves, not those that hold such a one.

    Those that a task around them made up for come last: something else ended the execution.
    """
    failed = [run for run in runs if run.state in {State.FAILED, State.KILLED}]
    holders, known = {run.parent_id for run in failed}, {run.id: run for run in runs}
    return tuple(sorted((run for run in failed if run.id not in holders), key=lambda run: is_forgiven(run, known)))


def is_forgiven(run: TaskRun, known: Mapping[str, TaskRun]) -> bool:
    """Return whether a task run lies in one that ended well all the same, as AllowFailure does.

    `known` are all task runs, or all that failed: what is not among those did not fail.
    """
    while run.parent_id is not None:
        if run.parent_id not in known or known[run.parent_id].state in {State.SUCCESS, State.WARNING}:
            return True
        run = known[run.parent_id]
    return False


def holders(run: TaskRun, runs: Sequence[TaskRun]) -> tuple[TaskRun, ...]:
    """Return the task runs that a task run lies in, the outermost first."""
    known = {each.id: each for each in runs}
    found: list[TaskRun] = []
    while run.parent_id in known:
        run = known[run.parent_id]
        found.append(run)
    return tuple(reversed(found))


def _first_error(failed: Sequence[TaskRun]) -> str | None:
    first = next(iter(failed_leaves(failed)), None)
    return f"{first.task_id}: {first.error or first.state.value.lower()}" if first else None


def _text(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z") if at else None
