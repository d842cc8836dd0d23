"""The last lines of a local run: how it ended, what failed first and why, how to repeat it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from runner.cli.table import safe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from runner.executions.models import Attempt, Execution, LogEntry, TaskRun
    from runner.flows.models import Flow
    from runner.plugin import Storage
    from runner.store import Store

_LAST_LINES: Final = 10
_MOST_OUTPUT: Final = 200


@dataclass(frozen=True, slots=True)
class Ending:
    """An ended run with everything that its last lines are made of."""

    execution: Execution
    runs: tuple[TaskRun, ...]
    attempts: tuple[Attempt, ...]
    outputs: dict[str, dict[str, Any]]
    lines: tuple[LogEntry, ...]

    @classmethod
    def load(cls, store: Store, storage: Storage, execution: Execution) -> Ending:
        """Return the ending of an execution of the store, with the outputs that lie in storage."""
        from runner.executions.outputs import restored
        from runner.store import LogQuery

        runs = tuple(store.read(lambda db: db.executions.runs(execution.id)))
        attempts = tuple(store.read(lambda db: db.executions.attempts(execution.id)))
        outputs = restored(storage, store.read(lambda db: db.executions.outputs(execution.id)))
        failed = _first_failed(runs)
        store.logs.flush()
        query = LogQuery(execution_id=execution.id, task_run_id=failed.id, min_level="INFO") if failed else None
        lines = tuple(store.logs.last(query, _LAST_LINES)) if query else ()
        return cls(execution, runs, attempts, outputs, lines)

    @property
    def failed(self) -> TaskRun | None:
        """Return the task run that failed first, itself, and that no task around it made up for."""
        return _first_failed(self.runs)

    def reason(self) -> str:
        """Return the exit code or the reason of the failure of the first failed run; empty when there is none."""
        failed = self.failed
        last = next((each for each in reversed(self.attempts) if failed and each.task_run_id == failed.id), None)
        if last is None:
            return ""
        parts = [] if last.exit_code is None else [f"exit code {last.exit_code}"]
        return ", ".join([*parts, *([last.failure_reason] if last.failure_reason else [])])

    def repeat_line(self, flow: Flow) -> str:
        """Return the command that repeats the run up to what failed first."""
        from runner.flows.models import walk

        failed = self.failed
        known = {inner.id for task in flow.tasks for inner in walk(task)}
        until = f" --until {failed.task_id}" if failed is not None and failed.task_id in known else ""
        return f"Repeat it: mainstem run --from-execution {self.execution.id}{until}"

    def show(self, console: Console) -> None:
        """Print state and duration, outputs, and for a failure its task, reason and last lines."""
        from runner.reports.text import seconds
        from runner.states import State

        execution = self.execution
        ended = execution.ended_at or execution.created_at
        colour = "red" if execution.state.is_failed else "yellow" if execution.state is State.WARNING else "green"
        console.print(execution.state.value, style=colour, end="")
        begun = execution.started_at or execution.created_at
        console.print(f" in {seconds((ended - begun).total_seconds())}{self._outputs()}", **_PLAIN)
        if execution.error:
            console.print(safe(execution.error), style="red", **_PLAIN)
        for line in self._failure():
            console.print(safe(line), **_PLAIN)

    def _outputs(self) -> str:
        from runner.reports.text import cut

        texts = {
            name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
            for name, value in self.execution.outputs.items()
        }
        shown = (f"{name}={safe(cut(text, _MOST_OUTPUT))}" for name, text in texts.items())
        return f"   outputs: {' '.join(shown)}" if self.execution.outputs else ""

    def _failure(self) -> Iterator[str]:
        failed = self.failed
        if failed is None or not self.execution.state.is_failed:
            return
        name = failed.task_id + (f"[{failed.value}]" if failed.value is not None else "")
        reason = self.reason()
        yield f"{name} failed{f' ({reason})' if reason else ''}: {failed.error or 'no message'}"
        yield from (f"  {entry.message}" for entry in self.lines if entry.message != failed.error)


_PLAIN: Final[Any] = {"markup": False, "soft_wrap": True}


def _first_failed(runs: tuple[TaskRun, ...]) -> TaskRun | None:
    from runner.reports.rows import failed_leaves, is_forgiven
    from runner.states import State

    known = {run.id: run for run in runs}
    failed = [run for run in failed_leaves(runs) if run.state is State.FAILED]
    return min(failed, key=lambda run: (is_forgiven(run, known), run.ended_at or run.created_at), default=None)
