"""The contract of every task runner, and the one loop that all of them share.

A task runner runs one command somewhere. It knows no flow and renders nothing: the YAML properties that made it and the
`TaskSpec` arrive rendered. A subclass only talks to its engine (`submit poll logs cancel cleanup`); order, timeouts,
cancelling, line counts, markers and result are the same for all and live in `TaskRunner.run`. What runs on other
machines is a `task_runners.remote.RemoteTaskRunner`, which holds no thread.
"""

from __future__ import annotations

import abc
import contextlib
import errno
import functools
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from task_runners import following
from task_runners.capture import LogLine, OutputLimits, Stream
from task_runners.errors import FailureReason, JobGoneError, JobLeftError, TaskRunnerError
from task_runners.files import FileLimits
from task_runners.following import End, Tell, Watch
from task_runners.outputs import collect_outputs
from task_runners.policy import demand_allowed
from task_runners.spec import (
    Capabilities,
    JobHandle,
    JobStatus,
    Limits,
    LogCursor,
    Note,
    Phase,
    Policy,
    Progress,
    RunnerContext,
    TaskResult,
    TaskSpec,
    Usage,
    WorkDir,
)

__all__ = [
    "Capabilities",
    "FailureReason",
    "FileLimits",
    "JobGoneError",
    "JobHandle",
    "JobLeftError",
    "JobStatus",
    "Limits",
    "LogCursor",
    "LogLine",
    "Note",
    "OutputLimits",
    "Phase",
    "Policy",
    "Progress",
    "RunnerContext",
    "Stream",
    "TaskResult",
    "TaskRunner",
    "TaskRunnerError",
    "TaskSpec",
    "Usage",
    "WorkDir",
]

log = logging.getLogger(__name__)

_DRAIN_S = 60.0  # an engine that brings nothing new for this long, nor an end, of the log of an ended job hangs


class TaskRunner(BaseModel, abc.ABC):
    """A place where a command can run. The fields of a subclass are the properties that YAML may give it.

    Instances may run several attempts at once, from several threads.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    capabilities: ClassVar[Capabilities] = Capabilities()
    poll_seconds: ClassVar[float] = 0.5
    patience_s: ClassVar[float] = 60.0
    """How long the engine may be out of reach, as it is when it is restarted, before a job counts as lost."""

    type: str

    @abc.abstractmethod
    def submit(self, spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext) -> JobHandle:
        """Stage input files, call `ctx.save_handle` before anything can run, start the job, return its handle.

        Raises:
            TaskRunnerError: the job cannot start; nothing of it is left. With the reason CANCELLED or DEADLINE when
                that came first.
        """

    @abc.abstractmethod
    def poll(self, handle: JobHandle, ctx: RunnerContext) -> JobStatus:
        """Return where the job stands, at once."""

    @abc.abstractmethod
    def logs(self, handle: JobHandle, since: LogCursor | None, ctx: RunnerContext) -> Iterator[LogLine]:
        """Yield the job's lines, made by `ctx.capture`, until it has ended and everything was read."""

    @abc.abstractmethod
    def cancel(self, handle: JobHandle, grace: timedelta, ctx: RunnerContext) -> None:
        """Ask for the end of the job, by force after `grace`. Does not wait; again or after its end is no error."""

    @abc.abstractmethod
    def cleanup(self, handle: JobHandle, ctx: RunnerContext) -> None:
        """Remove what the job leaves at its engine, running or not. Again is no error."""

    def find(self, labels: Mapping[str, str], ctx: RunnerContext) -> JobHandle | None:  # noqa: ARG002 - for subclasses
        """Return the one job of this engine and of `ctx.installation` that carries all `labels`, or None."""
        return None

    def list_owned(self, ctx: RunnerContext) -> Iterator[JobHandle]:  # noqa: ARG002 - for subclasses
        """Yield every job that this product started at this engine and that is still there, with its `owner`.

        A job that ended and was to be kept (`delete: false`) is none of them, nor one of another `ctx.installation`.
        """
        return iter(())

    def attach(self, spec: TaskSpec, ctx: RunnerContext) -> JobHandle | None:  # noqa: ARG002 - for subclasses
        """Return the job that an earlier process started for this very attempt and that can be followed, or None."""
        return None

    def inside(self, workdir: WorkDir) -> str:
        """Return the path under which a body finds its working directory: `WORKING_DIR`, `{{ workingDir }}`."""
        return str(workdir.path)

    def collect(self, spec: TaskSpec, workdir: WorkDir, handle: JobHandle, ctx: RunnerContext) -> Mapping[str, Path]:  # noqa: ARG002 - for subclasses
        """Return the output files after the end of the job; a runner without shared files fetches them first."""
        return collect_outputs(workdir.path, spec.output_globs, ctx.file_limits)

    def wait(self, handle: JobHandle, ctx: RunnerContext, seconds: float) -> None:  # noqa: ARG002 - for subclasses
        """Return when the job may have changed, the attempt was cancelled, or `seconds` have passed."""
        self.pause(ctx, min(seconds, self.poll_seconds))

    @staticmethod
    def pause(ctx: RunnerContext, seconds: float) -> None:
        """Wait `seconds`, or until the attempt is cancelled; once it is, this goes on waiting in full."""
        if ctx.cancelled.is_set():
            time.sleep(seconds)
        else:
            ctx.cancelled.wait(seconds)

    def close(self) -> None:
        """Release connections to the engine. The instance can be used again; jobs are not touched."""
        return

    def run(self, spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext) -> TaskResult:
        """Run one attempt to its end and return how it ended, whatever the body did.

        Stages in, starts, follows the log, enforces the timeout, obeys `ctx.cancelled`, takes the output files also
        after a failure, and leaves nothing behind at the engine. Blocks until then; holds one more thread for the log.

        Raises:
            TaskRunnerError: the body could not be started. Every later trouble is in the result.
            JobLeftError: `ctx.left` was set; the job goes on.
            JobGoneError: the job to follow further is gone, and `ctx.resubmits` is False.
        """
        if ctx.cancelled.is_set() and ctx.stored_handle is None:
            return TaskResult.before_start(FailureReason.CANCELLED, "cancelled before it began")
        demand_allowed(ctx.policy, self, spec.image)
        watch = following.begin(spec, ctx.clock(), patience_s=self.patience_s, start_within_s=None, longest_s=None)
        try:
            found = self._found(spec, ctx)
            handle = found or self._submitted(spec, workdir, ctx)
        except TaskRunnerError as error:
            return TaskResult.not_started(error)
        watch = watch.started(ctx.clock()) if found is None else watch.resumed(_age_s(ctx))
        pump = _LogPump(self, handle, ctx)
        is_left = False
        try:
            end = self._follow(handle, watch, ctx)
            pump.finish()
            collected_from = ctx.clock()
            files, problem = self._outputs(spec, workdir, handle, ctx)
        except JobLeftError:
            is_left = True
            raise
        finally:
            if not is_left:
                self._tidy(handle, ctx)
        return TaskResult(
            status=end.status.phase,
            exit_code=end.status.exit_code,
            failure_reason=end.status.failure_reason,
            message=end.status.message,
            output_files=files,
            stdout_lines=ctx.capture.counts[Stream.STDOUT],
            stderr_lines=ctx.capture.counts[Stream.STDERR],
            vars=ctx.progress.vars,
            metrics=ctx.progress.metrics,
            usage=end.status.usage,
            details=end.status.details,
            stages=end.watch.stages(ctx.clock() - collected_from),
        ).spoilt_by(problem)

    def _found(self, spec: TaskSpec, ctx: RunnerContext) -> JobHandle | None:
        handle = self.attach(spec, ctx)
        if handle is None and ctx.stored_handle is not None and not ctx.resubmits:
            raise JobGoneError(ctx.stored_handle.id)
        return handle

    def _submitted(self, spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext) -> JobHandle:
        save, unsaved = ctx.save_handle, []

        def saving(handle: JobHandle) -> None:
            try:
                save(handle)
            except OSError as error:
                unsaved.append(error)
                raise

        ctx.save_handle = saving
        try:
            return self.submit(spec, workdir, ctx)
        except OSError as error:
            if error in unsaved:  # no fault of the files: whoever keeps handles has it
                raise
            message = f"the files of the task cannot be brought to it: {error}"
            raise _fault("file.inputs.unmoved", message, error, FailureReason.INPUT_FILES) from error
        finally:
            ctx.save_handle = save

    def _follow(self, handle: JobHandle, watch: Watch, ctx: RunnerContext) -> End:
        while True:
            now = ctx.clock()
            seen: JobStatus | TaskRunnerError
            try:
                seen = self.poll(handle, ctx)
            except TaskRunnerError as error:
                seen = error
            step = following.look(watch, seen, now, is_cancelled=ctx.cancelled.is_set())
            if isinstance(step, End):
                return step
            watch = step.watch
            if isinstance(step, Tell):
                try:
                    self.cancel(handle, timedelta(seconds=watch.grace_s), ctx)
                except TaskRunnerError:  # the engine is away: tell it again, until it answers or `poll` gives up
                    self.pause(ctx, self.poll_seconds)
                else:
                    watch = following.told(step, now)
                continue
            if ctx.left.is_set() and self.capabilities.reattach:
                raise JobLeftError(handle.id)
            moment = following.next_moment(watch)
            self.wait(handle, ctx, moment - now if moment is not None else self.poll_seconds)

    def _tidy(self, handle: JobHandle, ctx: RunnerContext) -> None:
        if ctx.tidy_later is not None:
            ctx.tidy_later(functools.partial(self._remove, handle, ctx))
        else:
            self._remove(handle, ctx)

    def _remove(self, handle: JobHandle, ctx: RunnerContext) -> None:
        try:
            self.cleanup(handle, ctx)
        except TaskRunnerError as error:
            # How the job ended is known and counts; `list_owned` finds what is left.
            log.warning("job not cleaned up", extra={"job": handle.id, "runner": handle.runner, "error": error.message})

    def _outputs(
        self, spec: TaskSpec, workdir: WorkDir, handle: JobHandle, ctx: RunnerContext
    ) -> tuple[Mapping[str, Path], TaskRunnerError | None]:
        if not spec.output_globs and not spec.sync_workdir:
            return {}, None
        try:
            return self.collect(spec, workdir, handle, ctx), None
        except TaskRunnerError as error:
            return {}, error
        except OSError as error:
            message = f"the output files cannot be taken: {error}"
            return {}, _fault("file.outputs.unreadable", message, error, FailureReason.OUTPUT_FILES)


def _age_s(ctx: RunnerContext) -> float:
    """Return for how many seconds the job that an earlier process started has been there."""
    created_at = ctx.stored_handle.created_at if ctx.stored_handle is not None else None
    return max(0.0, (ctx.now() - created_at).total_seconds()) if created_at is not None else 0.0


def _fault(code: str, message: str, error: OSError, reason: FailureReason) -> TaskRunnerError:
    is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    return TaskRunnerError(code, message, failure_reason=FailureReason.DISK_FULL if is_full else reason)


class _LogPump:
    """The thread that carries lines from the engine to the caller, whatever the caller does with them."""

    def __init__(self, runner: TaskRunner, handle: JobHandle, ctx: RunnerContext) -> None:
        self._runner, self._handle, self._ctx = runner, handle, ctx
        self._error: Exception | None = None
        self._taken = 0
        self._is_telling = False
        self._thread = threading.Thread(target=self._run, name=f"log-{handle.id}", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait until everything was read and told; raise what the caller's `on_line` or the engine raised.

        An engine that hangs is given up after a minute of silence, and that is said in the log of the server.
        """
        seen = -1
        while self._thread.is_alive() and (self._is_telling or seen != self._taken):
            seen = self._taken
            self._thread.join(_DRAIN_S)
        if self._thread.is_alive():
            log.warning("the log of an ended job has no end", extra={"job": self._handle.id, "lines": seen})
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        lines = self._runner.logs(self._handle, self._ctx.log_cursor, self._ctx)
        while True:
            # One bad line, or a log that cannot be stored, must neither stop the reading (a full pipe stops the body)
            # nor be forgotten: the first error is raised by `finish`.
            try:
                self._take(next(lines))
            except StopIteration:
                break
            except Exception as error:  # noqa: BLE001 - see above
                self._error = self._error or error
                if getattr(lines, "gi_frame", None) is None:
                    break
        with contextlib.suppress(Exception):  # the last lines are told on a best effort when telling failed before
            for line in self._ctx.capture.finish():
                self._take(line)

    def _take(self, line: LogLine) -> None:
        self._taken += 1
        ctx = self._ctx
        self._is_telling = True
        try:
            ctx.tell((line,), ctx.progress.with_lines((line,), None, ctx.capture.state()))
        finally:
            self._is_telling = False
