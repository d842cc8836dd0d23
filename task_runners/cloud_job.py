"""What the task runners of clouds share: one container with the staging script, a bucket, a report, the end of a log.

A subclass starts a container somewhere, says how it stands, gives pages of its log and removes it. The handle is stored
under a name that is chosen here before anything is started, so a job is found by it whenever the worker was lost.
"""

from __future__ import annotations

import abc
import contextlib
import re
import secrets
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, ClassVar, Final

from task_runners.archives import pack, unpack
from task_runners.errors import FailureReason, TaskRunnerError
from task_runners.log_pages import LogCursor, LogPage, RawLine
from task_runners.outputs import PRIVATE, collect_outputs
from task_runners.ownership import is_ours
from task_runners.remote import RemoteTaskRunner
from task_runners.spec import (
    Capabilities,
    JobHandle,
    JobStatus,
    Note,
    Phase,
    RunnerContext,
    TaskSpec,
    Usage,
    WorkDir,
)
from task_runners.staging.object_store import BucketStage, ObjectStore
from task_runners.staging.port import INPUT, OUTPUT, SignedUpload, Stage
from task_runners.staging.wrapper import (
    FAULT_CODE,
    LEAST_ARCHIVE_BYTES,
    REPORT,
    Report,
    Wrapped,
    bare,
    job_files,
    staged,
)

__all__ = ["CloudTaskRunner", "Seen", "job_labels", "job_name"]

_SLUG: Final = re.compile(r"[^a-z0-9]+")
_RANDOM: Final = string.ascii_lowercase + string.digits
_CHUNK_BYTES: Final = 256 * 1024
_LONGEST_ADDRESS: Final = timedelta(days=7)
_STREAMS: Final = 2
OWN_LABELS: Final = ("taskrun-id", "taskrun-attempt")


@dataclass(frozen=True, slots=True)
class Seen:
    """How a job stands, in the engine's own knowledge; `data` is what the handle has to remember from now on."""

    phase: Phase
    exit_code: int | None = None
    reason: FailureReason | None = None
    message: str | None = None
    notes: tuple[Note, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a job hands in its files and its report, and where it finds its archive once that is there."""

    push: SignedUpload
    report: SignedUpload
    download: Callable[[], str]


class CloudTaskRunner(RemoteTaskRunner, abc.ABC):
    """A task runner of a cloud. Needs `sh`, `tar` and one of curl, GNU wget and python3 in the image.

    Without a bucket, and without a server that the job reaches, tasks with files are refused.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        container=True, reattach=True, remote=True, separate_stderr=False, process_limits=False
    )

    wait_for_logs: timedelta = timedelta(seconds=10)
    completion_check_interval: timedelta = timedelta(seconds=5)
    """Seconds between two looks at a job."""

    # --- for subclasses -----------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def _open_store(self) -> ObjectStore | None:
        """Return the bucket for the files of tasks, the same for the same properties; None when none is set."""

    def _late(self) -> timedelta:
        """Return how late a line may come into the log after later ones; lines as young are told only at the end."""
        return timedelta(0)

    def _synced(self, spec: TaskSpec) -> TaskSpec:
        """Return the task as the properties of the runner change it."""
        return spec

    def _addresses(self, stage: Stage, lifetime: timedelta, most_bytes: int) -> Addresses | None:
        """Return where the job finds its archive and hands in to; None when it could reach none of it."""
        report = stage.upload(REPORT, lifetime, _CHUNK_BYTES)
        push = stage.upload(OUTPUT, lifetime, most_bytes)
        if report is None or push is None:
            return None
        return Addresses(push, report, lambda: stage.download(INPUT, lifetime) or "")

    @abc.abstractmethod
    def _start(self, handle: JobHandle, wrapped: Wrapped, spec: TaskSpec, ctx: RunnerContext) -> Mapping[str, Any]:
        """Start the job named `handle.id`; return what finds it again (JSON). What was made is in the handle's name."""

    @abc.abstractmethod
    def _find(self, handle: JobHandle, ctx: RunnerContext) -> Mapping[str, Any] | None:
        """Return what `_start` returned, or would have, for a job that goes by the name of the handle; None without."""

    @abc.abstractmethod
    def _seen(self, handle: JobHandle, ctx: RunnerContext) -> Seen:
        """Return how the job stands, at once."""

    @abc.abstractmethod
    def _page(self, handle: JobHandle, since: LogCursor | None, ctx: RunnerContext, *, is_final: bool) -> LogPage:
        """Return a page of the log as `read_log` does; `is_settled` when no line can come, whatever was read."""

    @abc.abstractmethod
    def _discard(self, handle: JobHandle, ctx: RunnerContext) -> None:
        """Remove what `_start` made, running or not. Again is no error."""

    @abc.abstractmethod
    def _owned(self, ctx: RunnerContext) -> Iterator[tuple[JobHandle, Mapping[str, str]]]:
        """Yield each job of this product that is there, the oldest first, with its labels (without prefix)."""

    def _label(self, value: str) -> str:
        """Return `value` as a label of this engine may be."""
        return value

    def _labels(self, spec: TaskSpec) -> dict[str, str]:
        """Return the labels of everything that is made for the task, without prefix."""
        kept = {} if self.delete else {"keep": "true"}
        return {key: self._label(value) for key, value in (job_labels(spec) | kept).items()}

    # --- the contract -------------------------------------------------------------------------------------------------

    def submit(self, spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext) -> JobHandle:
        """Store the handle, stage the files, start the job; see the base class."""
        if not spec.image:
            raise TaskRunnerError(
                "runner.image.unset", "the task names no container image", hint="set `containerImage` on the task"
            )
        self._check(spec)
        handle = JobHandle(self.type, job_name(spec), None, ctx.now(), {"root": str(workdir.path)})
        ctx.save_handle(handle)
        try:
            wrapped = self._wrapped(handle, spec, workdir, ctx)
            if ctx.cancelled.is_set():
                raise TaskRunnerError(
                    "runner.cancelled", "cancelled before the job began", failure_reason=FailureReason.CANCELLED
                )
            return _with(handle, self._start(handle, wrapped, spec, ctx))
        except BaseException:  # no job stays, be it an interrupt
            with contextlib.suppress(TaskRunnerError):
                self.cleanup(handle, ctx)
            raise

    def _check(self, spec: TaskSpec) -> None:
        """Raise what can be said against the task before anything is made."""

    def attach(self, spec: TaskSpec, ctx: RunnerContext) -> JobHandle | None:  # noqa: ARG002 - the port's
        """Return the stored job, asked for by its name when the worker was lost before it knew more."""
        handle = ctx.stored_handle
        if not self.resume or handle is None:
            return None
        if handle.data.get("job"):
            return handle
        found = self._find(handle, ctx)
        return _with(handle, found) if found is not None else None

    def poll(self, handle: JobHandle, ctx: RunnerContext) -> JobStatus:
        """Return how the job stands; once it has ended, with what its report says."""
        seen = self._seen(handle, ctx)
        known = _with(handle, seen.data)
        details = {"job": handle.id, **{key: value for key, value in known.data.items() if key == "job"}}
        if not seen.phase.is_final:
            status = JobStatus(seen.phase, None, seen.reason, seen.message, details=details, notes=seen.notes)
        else:
            status = replace(ended(seen, self._report(handle, ctx)), details=details, notes=seen.notes)
        return replace(status, handle=known) if known != handle else status

    def read_log(self, handle: JobHandle, since: LogCursor | None, ctx: RunnerContext, *, is_final: bool) -> LogPage:
        """Return a page of the log without the lines that end it; settled once those of all streams were there."""
        ends, _, token = (since.token or "" if since is not None else "").partition("|")
        page = self._page(handle, replace(since, token=token or None) if since else None, ctx, is_final=is_final)
        lines, found = without_ends(page.lines, end_of(handle))
        ends = "".join(sorted({*ends, *found}))
        is_settled = page.is_settled or len(ends) == _STREAMS
        if self._late() and not is_settled:
            lines = [line for line in lines if line.at <= ctx.now() - self._late()]
        return replace(page, lines=lines, token=f"{ends}|{page.token or ''}", is_settled=is_settled)

    def collect(self, spec: TaskSpec, workdir: WorkDir, handle: JobHandle, ctx: RunnerContext) -> Mapping[str, Path]:
        """Fetch the files that the job handed in, those that the task names or all, then take the outputs."""
        wanted = self._synced(spec).wants
        try:
            archive = self._stage(handle, ctx).open(OUTPUT)
        except TaskRunnerError as error:
            if error.code == "file.outputs.too_large":
                raise
            report = self._report(handle, ctx)
            if report is not None and report.files == "large":
                text = (
                    f"the working directory is too large to be handed in: {ctx.file_limits.total_bytes} bytes at most"
                )
                text += f"; {report.largest!r} is one of its largest files" if report.largest else ""
                reason = FailureReason.OUTPUT_FILES
                raise TaskRunnerError("file.outputs.too_large", text, failure_reason=reason) from error
            message = f"the job handed in no files: {error.message}"
            reason = FailureReason.OUTPUT_FILES
            raise TaskRunnerError("file.outputs.unreadable", message, failure_reason=reason) from error
        with archive:
            unpack(_chunks(archive), workdir.path, wanted=wanted, limits=ctx.file_limits)
        return collect_outputs(workdir.path, spec.output_globs, ctx.file_limits)

    def cleanup(self, handle: JobHandle, ctx: RunnerContext) -> None:
        """Remove the job and its files, unless `delete` is false; a job that still runs is ended in any case."""
        if self.delete:
            # By the job, whoever tidies up after a crash finds its files: they go before it. And once more after it,
            # since a job that still ran may have handed in some meanwhile.
            stage = self._stage(handle, ctx)
            try:
                stage.remove()
            except TaskRunnerError:  # a bucket that is away must not let a job run on
                self.cancel(handle, timedelta(0), ctx)
                raise
            self._discard(handle, ctx)
            stage.remove()
        else:
            self.cancel(handle, timedelta(0), ctx)

    def find(self, labels: Mapping[str, str], ctx: RunnerContext) -> JobHandle | None:
        """Return the newest job of this engine that bears all `labels`, or None."""
        wanted = {key.rpartition("/")[2]: self._label(value) for key, value in labels.items()}
        found = [handle for handle, has in self._owned(ctx) if wanted.items() <= has.items() and is_ours(has, ctx)]
        return found[-1] if found else None

    def list_owned(self, ctx: RunnerContext) -> Iterator[JobHandle]:
        """Yield every job of this product that is there, but for those that ended and were to be kept."""
        for handle, labels in self._owned(ctx):
            if not is_ours(labels, ctx):
                continue
            is_kept = "keep" in labels and (not handle.data.get("job") or self._seen(handle, ctx).phase.is_final)
            if not is_kept:
                yield replace(handle, owner=_owner(labels))

    def interval(self, status: JobStatus | None) -> float:  # noqa: ARG002 - the port's
        """Return `completionCheckInterval`."""
        return self.completion_check_interval.total_seconds()

    # --- staging ------------------------------------------------------------------------------------------------------

    def _stage(self, handle: JobHandle, ctx: RunnerContext) -> Stage:
        store = self._open_store()
        most = max(ctx.file_limits.total_bytes, LEAST_ARCHIVE_BYTES)
        return BucketStage(store, handle.id, most) if store is not None else ctx.stage

    def _wrapped(self, handle: JobHandle, spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext) -> Wrapped:
        root, end = str(workdir.path), end_of(handle)
        stage = self._stage(handle, ctx)
        lifetime = min(self._longest(spec) + self.wait_until_running + timedelta(hours=1), _LONGEST_ADDRESS)
        addresses = self._addresses(stage, lifetime, ctx.file_limits.total_bytes)
        wants = bool(spec.output_globs) or self._synced(spec).sync_workdir
        if addresses is None:
            if wants or any(path.name != PRIVATE for path in workdir.path.iterdir()):
                raise TaskRunnerError(
                    "runner.bucket.unset",
                    "the task has files, and there is no bucket through which they could reach the job",
                    hint="set `bucket` on the task runner (`blobStorage` at Azure)",
                )
            return bare(spec, root, end)
        first = job_files(spec, root, addresses.push if wants else None, addresses.report, ctx.file_limits)
        with pack(workdir.path, 0, ctx.file_limits, first=first) as archive:
            stage.put(INPUT, archive)
        return staged(root, end, addresses.download())

    def _longest(self, spec: TaskSpec) -> timedelta:
        """Return how long the body may run."""
        return spec.timeout if spec.timeout is not None else self.wait_until_completion

    def _report(self, handle: JobHandle, ctx: RunnerContext) -> Report | None:
        try:
            with self._stage(handle, ctx).open(REPORT) as file:
                return Report.parse(file.read(_CHUNK_BYTES))
        except TaskRunnerError as error:
            if error.failure_reason is FailureReason.UNAVAILABLE:
                raise
            return None


def ended(seen: Seen, report: Report | None) -> JobStatus:
    """Return how a job ended: its own exit code where the engine knows it, else the one of the report."""
    said = report or Report()
    usage = Usage(said.peak_memory_bytes, said.cpu_seconds)
    code = seen.exit_code if seen.exit_code is not None else said.exit_code
    if code == 0 or (code is None and seen.phase is Phase.SUCCEEDED):
        return JobStatus(Phase.SUCCEEDED, 0, usage=usage)
    if seen.phase is Phase.LOST:
        return JobStatus(Phase.LOST, code, seen.reason or FailureReason.LOST, seen.message, usage)
    reason, message = _cause(seen, said, code)
    return JobStatus(Phase.FAILED, code, reason, message, usage)


def _cause(seen: Seen, said: Report, code: int | None) -> tuple[FailureReason, str]:
    if seen.reason is not None:
        return seen.reason, seen.message or "the job failed"
    if said.oom_kills and code is not None:
        return FailureReason.OOM_KILLED, "out of memory"
    if said.fault or (code == FAULT_CODE and said.exit_code is None):
        return FailureReason.INPUT_FILES, "the files of the task did not reach the job; its log says why"
    if code is not None:
        return FailureReason.APP_EXIT, f"command failed with exit code {code}"
    return FailureReason.KILLED, seen.message or "the job was ended"


def end_of(handle: JobHandle) -> str:
    """Return what the last lines of the log of a job begin with."""
    return f"mainstem-end-{handle.id}"


def without_ends(lines: Iterable[RawLine], end: str) -> tuple[list[RawLine], set[str]]:
    """Return the lines without those that the script wrote last, and which of these there were (`1`, `2`)."""
    kept: list[RawLine] = []
    found: set[str] = set()
    mark = re.compile(re.escape(end.encode()) + rb"-([12])\s*\Z")
    for line in lines:
        match = mark.search(line.text)
        if match is None:
            kept.append(line)
            continue
        found.add(match[1].decode())
        if match.start():  # the body ended its last line without a line end
            kept.append(replace(line, text=line.text[: match.start()]))
    return kept, found


def job_name(spec: TaskSpec, longest: int = 57) -> str:
    """Return a new name for the job: namespace, flow and task, then five random characters; begins with a letter."""
    labels = job_labels(spec)
    words = [labels[key] for key in ("namespace", "flow-id", "task-id") if labels.get(key)]
    slug = _SLUG.sub("-", "-".join(words or [spec.task_run_id]).lower()).strip("-")[:longest].strip("-")
    suffix = "".join(secrets.choice(_RANDOM) for _ in range(5))
    return f"{slug}-{suffix}" if slug[:1].isalpha() else f"m-{slug}"[:longest].rstrip("-") + f"-{suffix}"


def _owner(labels: Mapping[str, str]) -> tuple[str, int] | None:
    run, number = labels.get("taskrun-id"), labels.get("taskrun-attempt", "")
    return (run, int(number)) if run and number.isdigit() else None


def job_labels(spec: TaskSpec) -> dict[str, str]:
    """Return the labels of the task without prefixes, and those that say whose job it is."""
    own = {"taskrun-id": spec.task_run_id, "taskrun-attempt": str(spec.attempt)}
    return {key.rpartition("/")[2]: value for key, value in spec.labels.items()} | own


def _with(handle: JobHandle, data: Mapping[str, Any]) -> JobHandle:
    return replace(handle, data={**handle.data, **data})


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk
