"""What a task sees while it runs: one context for each attempt."""

from __future__ import annotations

import copy
import io
import os
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from runner.errors import MainstemError, TaskError
from runner.executions.models import Execution, TaskRun
from runner.expressions import Scope, render, render_deep, render_typed, to_text
from runner.flows.models import Flow, Task
from runner.flows.plugin_defaults import filled
from runner.job import AttemptJob
from runner.plugin import Context, KeyValues, Storage
from runner.policies import policy_for, tightened
from runner.previews import base_of, is_of_fork, root_of
from runner.services import ExecutionServices, Host
from runner.stage import of_attempt, stage_of
from runner.storage.uris import execution_uri, is_uri, namespace_file_of, task_uri
from runner.task_log import TaskLog
from task_runners.base import Policy, TaskResult, TaskRunner
from task_runners.staging.port import Stage

if TYPE_CHECKING:
    from runner.executions.engine import Engine
    from runner.store import Store

SYSTEM = "system"


class TaskContext:
    """The context of one attempt; close it (or leave its `with`) when the attempt has ended.

    Args:
        host: what the process shares.
        flow: the flow at the execution's revision.
        execution: the execution as it is now.
        task_run: the run as it was claimed; `attempts` counts this one.
        variables: what expressions see, computed by the engine; may be lazy.
        work_dir_factory: gives the directory to work in and owns it; without it the context makes one at first use
            and removes it.
        cancelled: set when the attempt must end.
        deadline_s: seconds the attempt may take, from now.
        task: the task of the run, when the caller has it at hand.
        job: what the claim knows of the job that runs the body.
        claimed: the run whose claim the attempt works under, when it is another one: a WorkingDirectory's.
    """

    def __init__(  # noqa: PLR0913 - the engine names them; most have defaults
        self,
        host: Host,
        flow: Flow,
        execution: Execution,
        task_run: TaskRun,
        variables: Mapping[str, Any],
        work_dir_factory: Callable[[], Path] | None = None,
        cancelled: threading.Event | None = None,
        deadline_s: float | None = None,
        *,
        task: Task | None = None,
        job: AttemptJob | None = None,
        claimed: TaskRun | None = None,
    ) -> None:
        self.flow = flow
        self.execution = execution
        self.task_run = task_run
        self.storage: Storage = host.storage
        self.kv: KeyValues = host.kv
        self.cancelled = cancelled or threading.Event()
        self.deadline_s = deadline_s
        self.host = host
        self.services: ExecutionServices = host.expression_services(flow, execution)
        self._task = task
        self._scope = Scope(variables, self.services)
        self._started = time.monotonic()
        self.job = job or AttemptJob()
        self._directory = _Directory(host, task_run, work_dir_factory, self.job)
        self._lines: TaskLog | None = None
        self.claimed = claimed or task_run

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the directory that this context made. Again is no error."""
        self._directory.remove()

    @property
    def task(self) -> Task | None:
        """The task of this run, None when the flow has no such task (any more)."""
        if self._task is None:
            self._task = next((task for task in self.flow.all_tasks() if task.id == self.task_run.task_id), None)
        return self._task

    def render(self, template: Any) -> str:
        """Render a template to text; None gives the empty text, other values their text form."""
        return render(template, self._scope) if isinstance(template, str) else to_text(template)

    def render_typed(self, template: Any) -> Any:
        """Render a template that is one expression to its native value; what is no text is kept, rendered deep."""
        return render_typed(template, self._scope) if isinstance(template, str) else self.render_deep(template)

    def render_deep(self, value: Any) -> Any:
        """Render every string inside maps and lists, keys of maps too."""
        return render_deep(value, self._scope)

    def with_variables(self, **variables: Any) -> TaskContext:
        """Return a context of the same attempt whose expressions also see `variables`."""
        inner = copy.copy(self)
        inner._scope = Scope(_Layered(variables, self._scope.variables), self.services)  # noqa: SLF001 - of this class
        return inner

    def log(self, level: str, message: str) -> None:
        """Write one log line of this task run, masked, unless the task's `logLevel` leaves it out."""
        self.lines.write(level, message)

    def metric(self, kind: str, name: str, value: float, tags: Mapping[str, str] | None = None) -> None:
        """Emit a counter, timer (seconds) or gauge."""
        self.lines.metric(kind, name, value, tags)

    @property
    def lines(self) -> TaskLog:
        """The log of this task run."""
        if self._lines is None:
            self._lines = TaskLog(self.host, self.flow, self.execution, self.task_run, self.task)
        return self._lines

    @property
    def spent_s(self) -> float:
        """The seconds since this attempt began."""
        return time.monotonic() - self._started

    @property
    def is_resumed(self) -> bool:
        """Whether the job of the body runs or has ended already, so that it needs no files any more."""
        return self.job.ended is not None or self.job.stored is not None

    def secret(self, key: str, namespace: str | None = None) -> str:
        """Return a secret; its value is masked in everything this process writes from now on."""
        return self.services.secret(key, namespace)

    def work_dir(self) -> Path:
        """Return the directory of this attempt (0700), or the one it shares inside a `WorkingDirectory`."""
        return self._directory.get()

    def uri(self, name: str) -> str:
        """Return the storage URI for a file called `name` of this task run.

        Raises:
            InvalidError: `storage.uri.invalid` when `name` cannot be a path below this run's folder.
        """
        own = execution_uri(self.flow.namespace, self.flow.id, self.execution.id)
        return task_uri(own, self.task_run.task_id, self.task_run.id, of_attempt(self.task_run.attempts, name))

    def namespace_file(self, path: str, namespace: str | None = None) -> bytes:
        """Return a namespace file of the execution's commit. Raises `NotFoundError` `namespace.file.missing`."""
        return self.services.namespace_file(path, namespace)

    def namespace_files(self, namespace: str | None = None) -> list[str]:
        """Return the paths of the namespace files at the execution's commit, without leading slash."""
        return self.services.namespace_files(namespace)

    def read_uri(self, uri: str) -> bytes:
        """Return the bytes behind `kestra://`, `nsfile://` or a namespace path.

        Raises:
            ExpressionError: `storage.file.refused` when this execution may not read it, `storage.file.missing`.
        """
        return self.services.read_file(uri)

    def task_runner(self, spec: Mapping[str, Any] | None) -> TaskRunner:
        """Return the task runner for a `taskRunner` map, its texts rendered; without one that of the settings.

        Raises:
            TaskError: `runner.type.unknown`, or `runner.property.invalid` for properties it does not have.
        """
        from pydantic import ValidationError

        from task_runners.errors import TaskRunnerError
        from task_runners.registry import canonical_name, runner_class

        values = {"type": self.host.settings.default_task_runner} if spec is None else self._runner_values(spec)
        name = str(values.get("type", ""))
        try:
            self._demand_one_owner(canonical_name(name))
            runner = runner_class(name).model_validate({**values, "type": canonical_name(name)})
        except TaskRunnerError as error:
            raise TaskError(error.code, error.message, hint=error.hint) from None
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise TaskError("runner.property.invalid", f"taskRunner.{where}: {first['msg']}") from None
        return runner

    def _runner_values(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Return the rendered map; where an expression chose the type, with the defaults for what it chose."""
        from task_runners.registry import canonical_name

        given, name = dict(spec), self.render(spec.get("type"))
        if name != spec.get("type"):
            given = filled({**spec, "type": canonical_name(name)}, self.flow.all_defaults)
        rendered: dict[str, Any] = self.render_deep(given)
        return rendered

    def _demand_one_owner(self, name: str) -> None:
        """Refuse the process runner where flows of several repositories could read one another's files and secrets."""
        from task_runners.errors import TaskRunnerError

        if name == "core.runner.Process" and is_of_fork(self.execution.environment):
            raise TaskRunnerError(
                "runner.process.fork",
                "code of a fork does not run in the process runner, where it could read what the server reads",
                hint="use the Docker or the Kubernetes runner",
            )
        if name != "core.runner.Process" or self.host.settings.process_runner.shared or self.host.repositories() < 2:
            return
        raise TaskRunnerError(
            "runner.process.shared",
            "flows of several repositories run here, and the process runner does not keep them apart",
            hint="use the Docker runner, or set processRunner.shared if their authors may see one another's work",
        )

    def run_command(self, runner: TaskRunner, **spec: Any) -> TaskResult:
        """Run a command through a task runner with this attempt's directory, logs and cancellation.

        `spec` are fields of `TaskSpec`; `task_run_id`, `attempt`, `labels`, `uid` and the timeout (what is left of this
        attempt) are filled in. Lines of the body become log lines, its metrics are emitted.

        Raises:
            TaskError: with the code of the task runner, when the body could not be started.
        """
        from runner.command import Command

        return Command(self, runner, spec).run()

    def policy(self) -> Policy:
        """Return what the flow may ask of an engine."""
        policy, base = policy_for(self.host.settings, self.flow.namespace), base_of(self.flow.namespace)
        rules = self.host.rules_of(self.execution.environment)
        return tightened(policy, rules.policies_for(base or self.flow.namespace))

    def stage(self) -> Stage:
        """Return the room for archives of this attempt."""
        execution = execution_uri(self.flow.namespace, self.flow.id, self.execution.id)
        return stage_of(self.host, execution, self.task_run, max(1, self.task_run.attempts))


def host_of(ctx: Context) -> Host:
    """Return what the process of `ctx` shares, for the tasks of this package that need more than `Context` promises."""
    assert isinstance(ctx, TaskContext), "the tasks of this package run in a TaskContext"
    return ctx.host


def store_of(ctx: Context) -> Store:
    """Return the store of executions, logs and triggers. Raises `TaskError` `store.absent` where a run has none."""
    store = host_of(ctx).store
    if store is None:
        raise TaskError("store.absent", "this task needs a server: a run without one keeps no store for tasks")
    return store


def engine_of(ctx: Context) -> Engine:
    """Return what acts on executions. Raises `TaskError` `store.absent` where a run has no server behind it."""
    engine = host_of(ctx).engine
    if engine is None:
        raise TaskError("store.absent", "this task needs a server: there is nothing here that acts on executions")
    return engine


def own_namespace(ctx: Context, namespace: str) -> str:
    """Return `namespace` if it is the flow's own or lies below it; the flow's own when it is empty.

    Flows of the namespace `system` look after all others, as Kestra's system flows do.

    Raises:
        TaskError: `task.namespace.refused`: other tasks look after their own namespace only.
    """
    own = ctx.flow.namespace
    if not namespace or own in {SYSTEM, namespace} or namespace.startswith(f"{own}."):
        return namespace or own
    raise TaskError(
        "task.namespace.refused",
        f"a flow of {own!r} may not look after the namespace {namespace!r}",
        hint="put the flow into that namespace or one around it",
    )


def wide_namespace(ctx: Context, namespace: str) -> str | None:
    """Return what `own_namespace` does, for tasks that also take what lies below; None, for `system`, means all."""
    return None if not namespace and ctx.flow.namespace == SYSTEM else own_namespace(ctx, namespace)


def demand_writer(ctx: Context) -> None:
    """Refuse a flow of a preview that would write flows or files of a namespace.

    Such an execution can outlive its preview. Then whichever environment takes all namespaces that are no other's
    would commit what it writes, with the credentials of the server.

    Raises:
        TaskError: `preview.boundary`.
    """
    root = root_of(ctx.flow.namespace)
    if root is not None:
        raise TaskError(
            "preview.boundary",
            f"a flow of the preview {root} may not write flows or files of a namespace",
            hint="merge the change request: its flows may once they are active",
        )


def open_uri(ctx: Context, uri: str) -> IO[bytes]:
    """Open what `ctx.read_uri` reads, without holding all of it in memory where it lies in storage."""
    services = host_of(ctx).expression_services(ctx.flow, ctx.execution)
    if not is_uri(uri) or namespace_file_of(uri) is not None:
        return io.BytesIO(services.read_file(uri))
    services.check_access(uri)
    return ctx.storage.open(uri)


class _Directory:
    """The directory of one attempt: made at first use, removed at the end when nobody else owns it."""

    def __init__(self, host: Host, task_run: TaskRun, factory: Callable[[], Path] | None, job: AttemptJob) -> None:
        # Most tasks never ask for it, and the root is a digest to compute: nothing is worked out here.
        self._host = host
        self._task_run = task_run
        self._factory = factory
        self._job = job
        self._path: Path | None = None

    def get(self) -> Path:
        if self._path is None:
            self._path = self._factory() if self._factory is not None else self._make()
        return self._path

    def _make(self) -> Path:
        name = f"{self._task_run.id}-{max(1, self._task_run.attempts)}"
        if self._job.ended is not None:
            # Files of an ended job come here; a worker that was taken for lost may be about it too.
            name = f"{name}-{self._job.epoch}"
        return make_work_dir(self._host.settings.work_root, name, keep=self._job.stored is not None)

    def remove(self) -> None:
        if self._path is not None and self._factory is None:
            remove_work_dir(self._path)
            self._path = None


def make_work_dir(root: Path, name: str, *, keep: bool = False) -> Path:
    """Return a new empty directory (0700) called `name` below `root`; what a crash left there is removed first.

    With `keep` it stays, since a job of the same attempt may still work in it.

    Raises:
        MainstemError: `work.root.refused`.
    """
    make_work_root(root)
    path = root / name
    if path.exists() and not keep:
        remove_work_dir(path)
    path.mkdir(mode=0o700, exist_ok=keep)
    return path


def make_work_root(root: Path) -> None:
    """Make the folder of working directories if it is not there.

    Raises:
        MainstemError: `work.root.refused` when somebody else owns it: by default it lies in a shared folder.
    """
    if not root.exists():
        root.mkdir(parents=True, exist_ok=True)
        root.chmod(0o711)  # whatever the umask is: bodies of other users pass through it to their own directory
    status = root.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise MainstemError(
            "work.root.refused",
            f"the folder of working directories {root} belongs to somebody else or can be written by others",
            hint="set `work` to a folder of this user",
        )


def remove_work_dir(path: Path) -> None:
    """Remove a working directory with everything in it, also what the body made unreadable.

    Again is no error, nor that somebody else removes it at the same moment.
    """

    def unlock(function: Callable[..., Any], name: str, _error: Any) -> None:
        parent = Path(name).parent
        for place in (parent, Path(name)):
            if place.is_relative_to(path) and place.is_dir() and not place.is_symlink():
                with suppress(FileNotFoundError):  # it went since the line before
                    place.chmod(0o700)
        try:
            function(name)
        except (OSError, TypeError):  # what opens a folder takes more than a name
            if Path(name).is_dir() and not Path(name).is_symlink():
                shutil.rmtree(name, ignore_errors=True)

    shutil.rmtree(path, onerror=unlock)


class _Layered(Mapping[str, Any]):
    """One mapping over another, which may be lazy and is asked only for what the first does not have."""

    def __init__(self, top: Mapping[str, Any], below: Mapping[str, Any]) -> None:
        self._top, self._below = top, below

    def __getitem__(self, key: str) -> Any:
        return self._top[key] if key in self._top else self._below[key]

    def __iter__(self) -> Iterator[str]:
        yield from self._top
        yield from (key for key in self._below if key not in self._top)

    def __len__(self) -> int:
        return len(set(self._top) | set(self._below))

    def __contains__(self, key: object) -> bool:
        return key in self._top or key in self._below
