"""The values between a task runner and its caller: what is to run, where it stands, how it ended."""

from __future__ import annotations

import enum
import functools
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from task_runners.capture import Capture, LogLine, OutputLimits
from task_runners.control_groups import ControlGroups
from task_runners.errors import FailureReason, TaskRunnerError
from task_runners.files import FileLimits, safe_join
from task_runners.lines import Metric
from task_runners.log_pages import LogCursor
from task_runners.masking import Masker
from task_runners.outputs import glob_pattern
from task_runners.progress import Note, Progress
from task_runners.staging.port import NoStage, Stage

__all__ = [
    "Capabilities",
    "JobHandle",
    "JobStatus",
    "Limits",
    "LogCursor",
    "Note",
    "Phase",
    "Policy",
    "Progress",
    "RunnerContext",
    "TaskResult",
    "TaskSpec",
    "Usage",
    "WorkDir",
]


class Phase(enum.StrEnum):
    """Where a job stands; the last four are final."""

    PENDING = "PENDING"
    STAGING_IN = "STAGING_IN"
    RUNNING = "RUNNING"
    STAGING_OUT = "STAGING_OUT"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    LOST = "LOST"

    @property
    def is_final(self) -> bool:
        """Whether the job has ended, or nobody can say how."""
        return self in {Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED, Phase.LOST}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a body may use; None leaves it to the engine. How each is enforced is written at the task runner."""

    memory_bytes: int | None = None
    open_files: int | None = None
    processes: int | None = None
    file_bytes: int | None = None
    cpu_seconds: int | None = None
    cpus: float | None = None


@dataclass(frozen=True)
class TaskSpec:
    """One attempt of one task run, rendered. `task_run_id` and `attempt` name it; the pair never runs twice at once.

    `timeout` counts from the call of `run`, staging and image pull included. After it, or when the attempt is
    cancelled, the body gets SIGTERM, `grace` later SIGKILL. `output_globs` are relative to the working directory.
    `task_marker` is put into the body's environment as `MAINSTEM_TASKRUN`, so that it can be recognised as ours.
    `labels` are put on what the engine makes; a prefix before a slash in their names is replaced by the engine's own.
    `uid` is the user of a local body (None: the user of this process). With `sync_workdir` every file comes back into
    the working directory, for tasks that share one; else only what `output_globs` match.
    """

    command: tuple[str, ...]
    task_run_id: str
    attempt: int = 1
    image: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    timeout: timedelta | None = None
    grace: timedelta = timedelta(seconds=5)
    output_globs: tuple[str, ...] = ()
    sync_workdir: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    uid: int | None = None
    limits: Limits = field(default_factory=Limits)
    task_marker: str | None = None

    def environment(self, root: str) -> dict[str, str]:
        """Return the variables of the body, whose working directory is `root` for it."""
        marker = {"MAINSTEM_TASKRUN": self.task_marker} if self.task_marker is not None else {}
        return {**self.env, "WORKING_DIR": root, **marker}

    @functools.cached_property
    def _patterns(self) -> tuple[re.Pattern[str], ...]:
        return tuple(glob_pattern(glob) for glob in self.output_globs)

    def wants(self, name: str) -> bool:
        """Return whether the file `name` (relative to the working directory) is to come back."""
        return self.sync_workdir or any(pattern.fullmatch(name) for pattern in self._patterns)


@dataclass(frozen=True, slots=True)
class WorkDir:
    """The directory a body works in. The caller makes it, fills it with input files and removes it."""

    path: Path

    @property
    def private(self) -> Path:
        """Where a local body finds its `HOME` and `TMPDIR`; neither copied elsewhere nor collected."""
        return self.path / ".mainstem"

    def join(self, relative: str) -> Path:
        """Return the path of `relative` below the directory.

        Raises:
            TaskRunnerError: `file.path.refused` when it would leave the directory or pass a link.
        """
        return safe_join(self.path, relative)


@dataclass(frozen=True, slots=True)
class JobHandle:
    """What finds a job again after a restart; JSON by `as_json`, stored before the job starts.

    `data` is what its task runner needs besides to go on in another process: JSON values, no secrets. `owner` is the
    attempt (task run, number) that a job found at its engine belongs to, as its labels say; it is not stored.
    """

    runner: str
    id: str
    node: str | None = None
    created_at: datetime | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    owner: tuple[str, int] | None = field(default=None, compare=False)

    def as_json(self) -> dict[str, Any]:
        """Return the handle as JSON values, for `from_json`."""
        created = self.created_at.isoformat() if self.created_at else None
        document = {"runner": self.runner, "id": self.id, "node": self.node, "created_at": created}
        return document | ({"data": dict(self.data)} if self.data else {})

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> JobHandle:
        """Return the handle that `as_json` described."""
        created = document.get("created_at")
        return cls(
            runner=document["runner"],
            id=document["id"],
            node=document.get("node"),
            created_at=datetime.fromisoformat(created) if created else None,
            data=document.get("data") or {},
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """What a job used, children included; None where the engine does not say."""

    peak_memory_bytes: int | None = None
    cpu_seconds: float | None = None
    wall_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class JobStatus:
    """Where a job stands. `exit_code` is 128 + N for a body that signal N ended.

    A job that cannot start yet may say why in `failure_reason` and `message` while it is PENDING. `notes` are all that
    is known; each is told once. `handle` replaces the handle of the job from now on.
    """

    phase: Phase
    exit_code: int | None = None
    failure_reason: FailureReason | None = None
    message: str | None = None
    usage: Usage = field(default_factory=Usage)
    details: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()
    handle: JobHandle | None = None

    @classmethod
    def exited(cls, code: int, usage: Usage | None = None, **more: Any) -> JobStatus:
        """Return the status of a body that ended by itself with an exit code."""
        if code == 0:
            return cls(Phase.SUCCEEDED, 0, usage=usage or Usage(), **more)
        message = f"command failed with exit code {code}"
        return cls(Phase.FAILED, code, FailureReason.APP_EXIT, message, usage or Usage(), **more)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a task runner can do, for validation, documents and the shared tests."""

    container: bool = False
    shared_files: bool = False
    live_logs: bool = True
    separate_stderr: bool = True
    reattach: bool = False
    """Whether a job goes on without the process that started it, and can be followed by another one."""
    gpu: bool = False
    process_limits: bool = True
    """Whether limits other than that of memory hold."""
    remote: bool = False
    """Whether it is a `RemoteTaskRunner`: its jobs hold no thread while they run."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a flow may ask of an engine that could reach beyond its task; the operator sets it, not the flow.

    `capabilities` are given to every container (`CHOWN`, `SETUID` ...); without them it has none. Where a list is None,
    everything is allowed of its kind, but of `networks` those that lead to nobody else's containers, of `docker_hosts`
    none, and of `service_accounts`, and for pods of `secrets`, `claims` (of volumes) and `csi_drivers` (of volumes in
    the pod itself), what credentials of the flow itself reach. All but `runners` and `registries` are patterns as of a
    shell.
    """

    hint: str = "the operator can allow it for this namespace: see `runnerPolicies` in the settings"
    """What somebody whom it refuses something can do."""
    allow_volumes: bool = False
    allow_privileged: bool = False
    allow_other_networks: bool = False
    """Whether networks beside a container's own are free where `networks` is None: the host's, named ones, ports."""
    capabilities: tuple[str, ...] = ()
    runners: tuple[str, ...] | None = None
    images: tuple[str, ...] | None = None
    registries: tuple[str, ...] | None = None
    networks: tuple[str, ...] | None = None
    docker_hosts: tuple[str, ...] | None = None
    service_accounts: tuple[str, ...] | None = None
    secrets: tuple[str, ...] | None = None
    claims: tuple[str, ...] | None = None
    csi_drivers: tuple[str, ...] | None = None
    cluster_namespaces: tuple[str, ...] | None = None
    also: tuple[Policy, ...] = ()
    """Further policies; what one of them refuses is refused."""


@dataclass(slots=True)
class RunnerContext:
    """What surrounds one attempt; make a new one for each.

    `on_line` gets the lines in order, from one thread. `cancelled` asks for the end of the attempt; `left` asks whoever
    follows a job that can be found again to leave it as it is (`JobLeftError`). `save_handle` must store before it
    returns. `environment` is the outer environment from which a local body inherits an allow-list.
    `control_groups` are where local bodies get groups of their own.
    `stored_handle` is what `save_handle` got in an earlier life of this attempt, to find its job again; `log_cursor`
    tells how far its log was stored then. Where the working directory was not filled again, `resubmits` is False: a
    job that cannot be found again is a `JobGoneError`. `interruptions` counts the jobs before this one that did the
    same work and whose machines were taken away. `installation` is the name of whoever starts jobs here, where several
    may do so at one engine; `TaskSpec.labels` have it too, and a task runner that looks for jobs compares them.

    Remote jobs: `save_watch` stores what the rules of following remember, with the handle; `on_progress` stores lines,
    notes and the progress after them in one step. `stored_watch` and `progress` are what an earlier life stored.
    `tidy_later` takes what removes an ended job, for a caller that first stores how it ended: what removes it before
    could lose the result together with the caller.
    """

    on_line: Callable[[LogLine], None]
    cancelled: threading.Event = field(default_factory=threading.Event)
    left: threading.Event = field(default_factory=threading.Event)
    save_handle: Callable[[JobHandle], None] = lambda _handle: None
    save_watch: Callable[[JobHandle, Mapping[str, Any]], None] | None = None
    on_progress: Callable[[Sequence[LogLine | Note], Progress], None] | None = None
    tidy_later: Callable[[Callable[[], None]], None] | None = None
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    masker: Masker = field(default_factory=Masker)
    environment: Mapping[str, str] = field(default_factory=dict)
    policy: Policy = field(default_factory=Policy)
    file_limits: FileLimits = field(default_factory=FileLimits)
    output_limits: OutputLimits = field(default_factory=OutputLimits)
    control_groups: ControlGroups = field(default_factory=ControlGroups)
    stage: Stage = field(default_factory=NoStage)
    stored_handle: JobHandle | None = None
    resubmits: bool = True
    interruptions: int = 0
    installation: str | None = None
    stored_watch: Mapping[str, Any] | None = None
    log_cursor: LogCursor | None = None
    progress: Progress = field(default_factory=Progress)
    capture: Capture = field(init=False)

    def __post_init__(self) -> None:
        self.capture = Capture(self.masker, self.output_limits, self.now)
        self.capture.restore(self.progress.capture)

    def save_job(self, handle: JobHandle, watch: Mapping[str, Any]) -> None:
        """Store a handle with what the rules of following remember."""
        if self.save_watch is not None:
            self.save_watch(handle, watch)
        else:
            self.save_handle(handle)

    def tell(self, items: Sequence[LogLine | Note], progress: Progress) -> None:
        """Have lines and notes stored together with the progress after them, which counts from now on."""
        self.progress = progress
        if self.on_progress is not None:
            self.on_progress(items, progress)
            return
        for item in items:
            if isinstance(item, LogLine):
                self.on_line(item)


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How an attempt ended. `status` is one of the final phases.

    `output_files` maps paths relative to the working directory to where the files are now. `vars` and `metrics` come
    from the body's markers; of two outputs of one name the later one counts.
    """

    status: Phase
    exit_code: int | None = None
    failure_reason: FailureReason | None = None
    message: str | None = None
    output_files: Mapping[str, Path] = field(default_factory=dict)
    stdout_lines: int = 0
    stderr_lines: int = 0
    vars: Mapping[str, Any] = field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()
    usage: Usage = field(default_factory=Usage)
    details: Mapping[str, Any] = field(default_factory=dict)
    stages: Mapping[str, float] = field(default_factory=dict)
    """Seconds of `starting` (files, image, waiting for a place), `running` and `collecting`."""

    @classmethod
    def before_start(cls, reason: FailureReason, message: str) -> TaskResult:
        """Return the result of an attempt that was given up before its body ran."""
        phase = Phase.CANCELLED if reason is FailureReason.CANCELLED else Phase.FAILED
        return cls(phase, failure_reason=reason, message=message)

    @classmethod
    def not_started(cls, error: TaskRunnerError) -> TaskResult:
        """Return the result when a start was given up because of a cancel or the timeout; else raise the error."""
        if error.failure_reason not in {FailureReason.CANCELLED, FailureReason.DEADLINE}:
            raise error
        return cls.before_start(error.failure_reason, error.message)

    def spoilt_by(self, problem: TaskRunnerError | None) -> TaskResult:
        """Return this result, failed when the body succeeded and `problem` kept its output files from being taken."""
        if problem is None or self.status is not Phase.SUCCEEDED:
            return self
        is_full = problem.failure_reason is FailureReason.DISK_FULL
        reason = FailureReason.DISK_FULL if is_full else FailureReason.OUTPUT_FILES
        return replace(self, status=Phase.FAILED, failure_reason=reason, message=problem.message)
