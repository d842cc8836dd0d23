"""The one stable door for task authors: subclass `Task`, get a `Context`, return outputs.

    from runner.plugin import Context, Outputs, Task

    class Shout(Task):
        message: str

        def run(self, ctx: Context) -> Outputs:
            return {"value": ctx.render(self.message).upper()}

Registered under the entry-point group `mainstem.tasks`; the entry point's name is the type name in YAML. A task fails
by raising `TaskError`; whatever else it raises is reported as a failure too, with the exception's text.
"""

from __future__ import annotations

import abc
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from runner.durations import Duration
from runner.errors import TaskError
from runner.executions.models import Execution, TaskRun
from runner.flows.models import Flow, TaskKind
from runner.flows.models import Task as _BaseTask
from runner.states import State
from task_runners.base import TaskRunner

__all__ = [
    "Context",
    "Duration",
    "Execution",
    "Flow",
    "InstantTask",
    "KeyValues",
    "Outcome",
    "Outputs",
    "RunnableTask",
    "State",
    "Storage",
    "Task",
    "TaskError",
    "TaskRun",
]

Outputs = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a task did, when outputs alone do not say it.

    `state` overrules SUCCESS (WARNING, FAILED). `labels` and `variables` are merged into the execution, names in
    `unset` are removed from its variables, `exit_state` ends the whole execution now. `log_file` is set by the worker.
    """

    outputs: Outputs = field(default_factory=dict)
    state: State = State.SUCCESS
    error: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    unset: tuple[str, ...] = ()
    exit_state: State | None = None
    exit_code: int | None = None
    failure_reason: str | None = None
    log_file: str | None = None


class Storage(Protocol):
    """Internal storage: files of executions behind `kestra://` URIs."""

    def put(self, uri: str, source: IO[bytes]) -> int:
        """Store what `source` holds at `uri` and return its size in bytes."""

    def open(self, uri: str) -> IO[bytes]:
        """Open a stored file. Raises `NotFoundError` `storage.file.missing`."""

    def size(self, uri: str) -> int:
        """Return the size in bytes."""

    def exists(self, uri: str) -> bool:
        """Return whether there is such a file."""

    def list(self, prefix: str) -> list[str]:
        """Return the URIs below `prefix`, sorted."""

    def delete(self, prefix: str) -> int:
        """Remove the file or everything below `prefix`; return how many files went."""


class KeyValues(Protocol):
    """The key-value store of namespaces, as tasks use it."""

    def get(self, namespace: str, key: str) -> tuple[bool, Any]:
        """Return whether the key exists (and has not expired) and its typed value."""

    def put(self, namespace: str, key: str, value: Any, **options: Any) -> None:
        """Store a value. Options: `kind`, `ttl` (timedelta), `description`, `overwrite` (default True)."""

    def delete(self, namespace: str, key: str) -> bool:
        """Remove a key; return whether it was there."""

    def keys(self, namespace: str, prefix: str = "") -> list[str]:
        """Return the keys of a namespace that start with `prefix`, sorted."""


class Context(Protocol):
    """Everything a task may touch at run time. Safe to use from the thread that runs the task only."""

    flow: Flow
    execution: Execution
    task_run: TaskRun
    storage: Storage
    kv: KeyValues
    cancelled: threading.Event
    deadline_s: float | None  # seconds this attempt may take, counted from its start; None without timeout

    @property
    def is_resumed(self) -> bool:
        """Whether the job of `run_command` runs or has ended already, so that it needs no files any more."""

    def render(self, template: Any) -> str:
        """Render a template to text; None gives the empty text, other values their text form."""

    def render_typed(self, template: Any) -> Any:
        """Render a template that is one expression to its native value (language 6.1 rule 3)."""

    def render_deep(self, value: Any) -> Any:
        """Render every string inside maps and lists, keys of maps too."""

    def with_variables(self, **variables: Any) -> Context:
        """Return a context whose expressions also see `variables` (`workingDir`, `response` ...)."""

    def log(self, level: str, message: str) -> None:
        """Write one log line of this task run; secrets are masked here."""

    def metric(self, kind: str, name: str, value: float, tags: Mapping[str, str] | None = None) -> None:
        """Emit a counter, timer (seconds) or gauge."""

    def secret(self, key: str, namespace: str | None = None) -> str:
        """Return a secret; its value is masked in everything this process writes from now on."""

    def work_dir(self) -> Path:
        """Return this attempt's own directory (0700), made at first use and removed after the attempt."""

    def uri(self, name: str) -> str:
        """Return the storage URI for a file called `name` of this task run."""

    def namespace_file(self, path: str, namespace: str | None = None) -> bytes:
        """Return a namespace file of the execution's commit. Raises `NotFoundError` `namespace.file.missing`."""

    def namespace_files(self, namespace: str | None = None) -> list[str]:
        """Return the paths of the namespace files at the execution's commit, without leading slash."""

    def read_uri(self, uri: str) -> bytes:
        """Return the bytes behind `kestra://`, `nsfile://` or a namespace path, when this execution may read it."""

    def task_runner(self, spec: Mapping[str, Any] | None) -> TaskRunner:
        """Return the task runner for a `taskRunner` map, or the default one (setting, namespace default)."""

    def run_command(self, runner: TaskRunner, **spec: Any) -> Any:
        """Run a command through a task runner with this attempt's directory, logs and cancellation.

        On a task runner whose jobs run elsewhere the thread does not wait: `run` is left here and called once more
        when the job has ended, and this call then returns how. So what stands before it must bear to happen twice.
        """


class Task(_BaseTask, abc.ABC):
    """A task that a worker runs."""

    kind = TaskKind.RUNNABLE

    @abc.abstractmethod
    def run(self, ctx: Context) -> Outputs | Outcome | None:
        """Do the work; return the outputs. Raises `TaskError` to fail."""


RunnableTask = Task


class InstantTask(Task):
    """A task that needs no worker: bounded, no I/O of its own, safe to run again when a commit is lost."""

    kind = TaskKind.INSTANT
