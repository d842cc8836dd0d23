"""Everything that the page and the JSON of one run are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner.executions.models import Attempt, Execution, LogEntry, TaskRun
from runner.reports.rows import RunRow, failed_leaves

LAST_LINES = 30
"""How many of the last lines of log a failed task shows."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a task gave as output. `sha256` is None when the file was too large to be read for a report.

    One that is not `is_own` was made by another run, or came as an input, and was passed on.
    """

    task: str
    name: str
    size: int
    sha256: str | None = None
    is_own: bool = True


@dataclass(frozen=True, slots=True)
class CommitNote:
    """What a page says about the commit a run was pinned to; `url` when its forge is known."""

    id: str
    subject: str = ""
    author: str = ""
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a flow and the files of its namespace come from: a repository, and what of it. `url` has no secrets."""

    repository: str
    url: str
    ref: str
    path: str


@dataclass(frozen=True, slots=True)
class RunDetails:
    """One ended run. `outputs` and `logs` are by task run id; `changes` are those since the last good run.

    `median_s` is the median duration of the flow's last 20 good runs before this one; `recent` are the last 20 before
    it, the newest first; `secret_inputs` are the names of inputs of type SECRET; `source` is the YAML of the flow as it
    ran, `defaults` the plugin defaults of its namespaces. `compare_url` shows the commits since the last good run;
    `page_url` is the server's own page of the run; `origin` is where the commit is from.
    """

    row: RunRow
    execution: Execution
    runs: tuple[TaskRun, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    logs: Mapping[str, tuple[LogEntry, ...]] = field(default_factory=dict)
    artifacts: tuple[Artifact, ...] = ()
    source: str | None = None
    defaults: str | None = None
    secret_inputs: frozenset[str] = frozenset()
    commit: CommitNote | None = None
    median_s: float | None = None
    good: RunRow | None = None
    changes: tuple[str, ...] = ()
    compare_url: str | None = None
    page_url: str | None = None
    origin: Origin | None = None
    is_first_of_revision: bool = False
    recent: tuple[RunRow, ...] = ()

    @property
    def failed_runs(self) -> tuple[TaskRun, ...]:
        """Return the task runs in which something went wrong themselves, not those that hold such a one."""
        return failed_leaves(self.runs)

    def runner_of(self, run: TaskRun) -> str | None:
        """Return the type of the task runner that carried out the last attempt of a task run, if one did."""
        handle = next((each.handle for each in reversed(self.attempts_of(run)) if each.handle), None)
        return run.runner or (str(handle["runner"]) if handle and handle.get("runner") else None)

    def attempts_of(self, run: TaskRun) -> tuple[Attempt, ...]:
        """Return the attempts of a task run, by number."""
        return tuple(each for each in self.attempts if each.task_run_id == run.id)
