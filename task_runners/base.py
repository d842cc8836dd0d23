"""The contract of every task runner, and the one loop that all of them share.

A task runner runs one command somewhere. It knows no flow and renders nothing: the YAML properties that made it and the
`TaskSpec` arrive rendered. A subclass only talks to its engine (`submit poll logs cancel cleanup`); order, timeouts,
cancelling, line counts, markers and result are the same for all and live in `TaskRunner.run`.
"""

from __future__ import annotations

import abc
import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, final

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from task_runners.capture import LogLine, OutputLimits, Stream
from task_runners.errors import FailureReason, TaskRunnerError
from task_runners.files import FileLimits
from task_runners.lines import Marker, Metric
from task_runners.outputs import collect_outputs
from task_runners.spec import (
    Capabilities,
    JobHandle,
    JobStatus,
    Limits,
    LogCursor,
    Phase,
    Policy,
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
    "JobHandle",
    "JobStatus",
    "Limits",
    "LogCursor",
    "LogLine",
    "OutputLimits",
    "Phase",
    "Policy",
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

_UNREACHABLE_S = 60.0  # an engine may be restarted while a job runs
_DRAIN_S = 10.0  # the log of an ended job that brings nothing new for this long is taken as finished
_ENDED_BEFORE_START = {FailureReason.CANCELLED: Phase.CANCELLED, FailureReason.DEADLINE: Phase.FAILED}
_OVERTIME_S = 30.0  # an engine that cannot end a job this long after its grace has lost it


class TaskRunner(BaseModel, abc.ABC):
    """A place where a command can run. The fields of a subclass are the properties that YAML may give it.

    Instances may run several attempts at once, from several threads.
    """

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    capabilities: ClassVar[Capabilities] = Capabilities()
    poll_seconds: ClassVar[float] = 0.5

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
        """Return the one job of this engine that carries all `labels`, or None."""
        return None

    def list_owned(self, ctx: RunnerContext) -> Iterator[JobHandle]:  # noqa: ARG002 - for subclasses
        """Yield every job that this product started at this engine and that is still there."""
        return iter(())

    def attach(self, spec: TaskSpec, ctx: RunnerContext) -> JobHandle | None:  # noqa: ARG002 - for subclasses
        """Return the job that an earlier process started for this very attempt and that can be followed, or None."""
        return None

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

    @final
    def run(self, spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext) -> TaskResult:
        """Run one attempt to its end and return how it ended, whatever the body did.

        Stages in, starts, follows the log, enforces the timeout, obeys `ctx.cancelled`, takes the output files also
        after a failure, and leaves nothing behind at the engine. Blocks until then; holds one more thread for the log.

        Raises:
            TaskRunnerError: the body could not be started. Every later trouble is in the result.
        """
        if ctx.cancelled.is_set():
            return TaskResult(
                Phase.CANCELLED, failure_reason=FailureReason.CANCELLED, message="cancelled before it began"
            )
        started = ctx.clock()
        try:
            handle = self.attach(spec, ctx) or self.submit(spec, workdir, ctx)
        except TaskRunnerError as error:
            phase = _ENDED_BEFORE_START.get(error.failure_reason)
            if phase is None:
                raise
            return TaskResult(phase, failure_reason=error.failure_reason, message=error.message)
        pump = _LogPump(self, handle, ctx)
        try:
            status = self._follow(handle, spec, ctx, started)
            pump.finish()
            files, problem = self._outputs(spec, workdir, handle, ctx)
        finally:
            self._tidy(handle, ctx)
        if problem and status.phase is Phase.SUCCEEDED:
            status = JobStatus(
                Phase.FAILED,
                status.exit_code,
                FailureReason.OUTPUT_FILES,
                problem.message,
                status.usage,
                status.details,
            )
        return TaskResult(
            status=status.phase,
            exit_code=status.exit_code,
            failure_reason=status.failure_reason,
            message=status.message,
            output_files=files,
            stdout_lines=ctx.capture.counts[Stream.STDOUT],
            stderr_lines=ctx.capture.counts[Stream.STDERR],
            vars=pump.vars,
            metrics=tuple(pump.metrics),
            usage=status.usage,
            details=status.details,
        )

    def _follow(self, handle: JobHandle, spec: TaskSpec, ctx: RunnerContext, started: float) -> JobStatus:
        ending: FailureReason | None = None
        deadline = started + spec.timeout.total_seconds() if spec.timeout is not None else None
        reached = ctx.clock()
        while True:
            now = ctx.clock()
            try:
                status = self.poll(handle, ctx)
                reached = now
            except TaskRunnerError as error:
                if error.failure_reason is not FailureReason.UNAVAILABLE or now - reached > _UNREACHABLE_S:
                    return JobStatus(Phase.LOST, None, FailureReason.LOST, error.message)
                status = JobStatus(Phase.RUNNING)
            if status.phase.is_final:
                return _explained(status, ending, spec)
            if deadline is not None and now >= deadline:
                if ending is not None:
                    message = f"the job did not end within {_OVERTIME_S:g} s after it was told to"
                    return JobStatus(Phase.LOST, None, FailureReason.LOST, message)
                ending = FailureReason.DEADLINE
            elif ending is None and ctx.cancelled.is_set():
                ending = FailureReason.CANCELLED
            else:
                self.wait(handle, ctx, deadline - now if deadline is not None else self.poll_seconds)
                continue
            try:
                self.cancel(handle, spec.grace, ctx)
            except TaskRunnerError:
                ending = None  # the engine is away: tell it again, until it answers or `poll` gives up
                self.pause(ctx, self.poll_seconds)
                continue
            deadline = now + spec.grace.total_seconds() + _OVERTIME_S

    def _tidy(self, handle: JobHandle, ctx: RunnerContext) -> None:
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
            return {}, TaskRunnerError("file.outputs.unreadable", f"the output files cannot be taken: {error}")


def _explained(status: JobStatus, ending: FailureReason | None, spec: TaskSpec) -> JobStatus:
    # A body that ended well in the moment it was told to end did its work: what happened counts, not what was asked.
    if ending is None or status.phase in {Phase.SUCCEEDED, Phase.LOST}:
        return status
    if ending is FailureReason.DEADLINE:
        seconds = spec.timeout.total_seconds() if spec.timeout is not None else 0.0
        phase, message = Phase.FAILED, f"ended after its timeout of {seconds:g} s"
    else:
        phase, message = Phase.CANCELLED, "cancelled"
    return JobStatus(phase, status.exit_code, ending, message, status.usage, status.details)


class _LogPump:
    """The thread that carries lines from the engine to the caller, whatever the caller does with them."""

    def __init__(self, runner: TaskRunner, handle: JobHandle, ctx: RunnerContext) -> None:
        self.vars: dict[str, Any] = {}
        self.metrics: list[Metric] = []
        self._runner, self._handle, self._ctx = runner, handle, ctx
        self._error: Exception | None = None
        self._taken = 0
        self._thread = threading.Thread(target=self._run, name=f"log-{handle.id}", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait until everything was read; raise what the caller's `on_line` or the engine raised."""
        seen = -1
        while self._thread.is_alive() and seen != self._taken:
            seen = self._taken
            self._thread.join(_DRAIN_S)
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
        if isinstance(line.marker, Marker):
            self.vars.update(line.marker.outputs)
            self.metrics.extend(line.marker.metrics)
        self._ctx.on_line(line)
