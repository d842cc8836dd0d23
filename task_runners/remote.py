"""Task runners whose jobs run elsewhere for hours: nothing here holds a thread while a job runs.

The life of a job is cut into phases over what is stored of it: `begin` submits or finds it again, `look` asks once how
it stands and tells the new lines of its log, `finish` takes the files and removes it. Whoever has the stored `Job` can
make the next step, on any worker. `run` is the blocking form over the same phases, for callers that have to wait.
A subclass only talks to its engine.
"""

from __future__ import annotations

import abc
import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, ClassVar, final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from task_runners import following
from task_runners.base import TaskRunner
from task_runners.capture import LogLine
from task_runners.errors import FailureReason, JobLeftError, TaskRunnerError
from task_runners.following import End, Tell, Watch
from task_runners.log_pages import LogCursor, LogPage, unseen
from task_runners.policy import demand_allowed
from task_runners.spec import (
    Capabilities,
    JobHandle,
    JobStatus,
    RunnerContext,
    TaskResult,
    TaskSpec,
    WorkDir,
)

__all__ = ["Interruptions", "Job", "Looked", "RemoteTaskRunner"]

_MOST_PAGES = 16  # pages of one log in one look: others wait for theirs
_SOON_S = 0.05


@dataclass(frozen=True, slots=True)
class Job:
    """What is stored of a job that runs elsewhere."""

    handle: JobHandle
    watch: Watch

    def as_json(self) -> dict[str, Any]:
        """Return the job as JSON values, for `from_json`."""
        return {**self.handle.as_json(), "watch": self.watch.as_json()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Job:
        """Return the job that `as_json` described."""
        return cls(JobHandle.from_json(document), Watch.from_json(document["watch"]))


@dataclass(frozen=True, slots=True)
class Looked:
    """What one look found: how the job ended (`status`), or in how many seconds to look again."""

    job: Job
    status: JobStatus | None = None
    again_s: float = 0.0


class Interruptions(BaseModel):
    """What happens when the machine of a job is taken away, as spot capacity is: the job is started again elsewhere."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    max_attempts: int = Field(default=3, ge=1, le=10)
    """How often it is started in all; these starts do not count for the task's own `retry`."""


class RemoteTaskRunner(TaskRunner, abc.ABC):
    """A place elsewhere. `logs` is not for subclasses: they answer `read_log`, which never waits.

    What a subclass needs to go on in another process stands in `JobHandle.data` (JSON, no secrets); one that learns
    more returns the new handle in `JobStatus.handle`. `poll` may make a short step, such as handing over files. Its
    engine's troubles are errors with the reason UNAVAILABLE, which are waited out for ten minutes.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(container=True, reattach=True, remote=True)
    poll_seconds: ClassVar[float] = 2.0
    patience_s: ClassVar[float] = 600.0

    delete: bool = True
    """Whether the job is removed from its engine at the end."""
    resume: bool = True
    """Whether a job that a lost worker started is followed again."""
    wait_until_running: timedelta = timedelta(minutes=10)
    """How long scheduling, fetching the image and starting may take."""
    wait_until_completion: timedelta = timedelta(hours=1)
    """How long a task without a timeout may take."""
    wait_for_logs: timedelta = timedelta(seconds=30)
    """How long the last lines of an ended job are waited for."""
    interruption_retry: Interruptions = Interruptions()

    @abc.abstractmethod
    def read_log(self, handle: JobHandle, since: LogCursor | None, ctx: RunnerContext, *, is_final: bool) -> LogPage:
        """Return the lines that the engine has from `since` on, the oldest first, at most a few thousand; at once.

        Lines that were given before may come again (see `LogPage`). A line that has no end yet is held back, unless
        the job has ended (`is_final`). A job that has no log yet gives an empty page.
        """

    def attach(self, spec: TaskSpec, ctx: RunnerContext) -> JobHandle | None:  # noqa: ARG002 - for subclasses
        """Return the job that an earlier worker started for this attempt, None when it is to be submitted.

        Override it where the handle is stored before the engine has the job: one that never arrived is submitted again.
        """
        return ctx.stored_handle if self.resume else None

    def interval(self, status: JobStatus | None) -> float:  # noqa: ARG002 - for subclasses
        """Return the seconds until the next look; `status` is None while the engine does not answer."""
        return self.poll_seconds

    # --- the phases ---------------------------------------------------------------------------------------------------

    @final
    def begin(self, spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext) -> Job:
        """Submit the job, or find the one that was submitted for this attempt before.

        Raises:
            TaskRunnerError: it cannot be started; nothing of it is left.
            JobGoneError: as `run` of the base class.
        """
        began_at = ctx.now().timestamp()
        demand_allowed(ctx.policy, self, spec.image)
        handle = self._found(spec, ctx)
        if handle is not None and ctx.stored_watch is not None:
            return Job(handle, Watch.from_json(ctx.stored_watch).taken_over(began_at))
        watch = following.begin(
            spec,
            began_at,
            patience_s=self.patience_s,
            start_within_s=self.wait_until_running.total_seconds(),
            longest_s=self.wait_until_completion.total_seconds(),
        )
        if handle is None:
            if ctx.stored_handle is not None:
                self._tidy(ctx.stored_handle, ctx)  # two jobs of one attempt must never run
            handle = self._submitted(spec, workdir, ctx)
        ctx.save_job(handle, watch.as_json())
        return Job(handle, watch)

    @final
    def look(self, job: Job, ctx: RunnerContext) -> Looked:
        """Ask once how the job stands, tell it to end when it is time, and tell what is new in its log."""
        seen = self._poll(job.handle, ctx)
        status = seen if isinstance(seen, JobStatus) else None
        handle = status.handle or job.handle if status is not None else job.handle
        now = ctx.now().timestamp()
        step = following.look(job.watch, seen, now, is_cancelled=ctx.cancelled.is_set())
        # Before its log is read, which may take an engine half a minute: a kill must not wait for that.
        watch = self._end(handle, step, now, ctx) if isinstance(step, Tell) else step.watch
        is_settled = self._tell(handle, status, ctx)
        found = Job(handle, watch)
        if handle != job.handle or _differs(watch, job.watch):
            ctx.save_job(handle, watch.as_json())
        if not isinstance(step, End):
            return Looked(found, again_s=self._wait_s(status, watch, now))
        if status is not None and not is_settled and now < (watch.ended_at or now) + self.wait_for_logs.total_seconds():
            return Looked(found, again_s=min(self.interval(status), 1.0))
        return Looked(found, step.status)

    @final
    def finish(self, job: Job, status: JobStatus, spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext) -> TaskResult:
        """Take the output files of an ended job, also after a failure, remove it, and return how it ended."""
        collected_from = time.monotonic()
        try:
            self._last_line(ctx)
            files, problem = self._outputs(spec, workdir, job.handle, ctx)
        finally:
            self._tidy(job.handle, ctx)
        progress = ctx.progress
        return TaskResult(
            status=status.phase,
            exit_code=status.exit_code,
            failure_reason=status.failure_reason,
            message=status.message,
            output_files=files,
            stdout_lines=progress.capture.stdout,
            stderr_lines=progress.capture.stderr,
            vars=progress.vars,
            metrics=progress.metrics,
            usage=status.usage,
            details=status.details,
            stages=job.watch.stages(time.monotonic() - collected_from),
        ).spoilt_by(problem)

    @final
    def run(self, spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext) -> TaskResult:
        """Run one attempt to its end and return how it ended; holds its thread until then. See the base class."""
        if ctx.cancelled.is_set() and ctx.stored_handle is None:
            return TaskResult.before_start(FailureReason.CANCELLED, "cancelled before it began")
        try:
            job = self.begin(spec, workdir, ctx)
        except TaskRunnerError as error:
            return TaskResult.not_started(error)
        while True:
            if ctx.left.is_set():
                raise JobLeftError(job.handle.id)
            looked = self.look(job, ctx)
            job = looked.job
            if looked.status is not None:
                return self.finish(job, looked.status, spec, workdir, ctx)
            self.pause(ctx, looked.again_s)

    @final
    def logs(self, handle: JobHandle, since: LogCursor | None, ctx: RunnerContext) -> Iterator[LogLine]:
        """Yield the job's lines until it has ended and everything was read."""
        while True:
            has_ended = self.poll(handle, ctx).phase.is_final
            page = self.read_log(handle, since, ctx, is_final=has_ended)
            fresh, since = unseen(page, since)
            for raw in fresh:
                yield from ctx.capture.take(raw.stream, raw.text, raw.at)
            if page.has_more:
                continue
            if has_ended and page.is_settled:
                return
            self.pause(ctx, self.poll_seconds)

    # --- steps of the phases ------------------------------------------------------------------------------------------

    def _found(self, spec: TaskSpec, ctx: RunnerContext) -> JobHandle | None:
        try:
            return super()._found(spec, ctx)
        except TaskRunnerError as error:
            # It was submitted, for its watch was stored: whether it is still there, the first look with an answer says.
            was_submitted = self.resume and ctx.stored_watch is not None
            if error.failure_reason is not FailureReason.UNAVAILABLE or not was_submitted:
                raise
            return ctx.stored_handle

    def _poll(self, handle: JobHandle, ctx: RunnerContext) -> JobStatus | TaskRunnerError:
        try:
            return self.poll(handle, ctx)
        except TaskRunnerError as error:
            return error

    def _end(self, handle: JobHandle, tell: Tell, now: float, ctx: RunnerContext) -> Watch:
        try:
            self.cancel(handle, timedelta(seconds=tell.watch.grace_s), ctx)
        except TaskRunnerError:
            return tell.watch  # the engine is away: it is told again at the next look
        return following.told(tell, now)

    def _wait_s(self, status: JobStatus | None, watch: Watch, now: float) -> float:
        moment = following.next_moment(watch)
        return max(_SOON_S, min(self.interval(status), moment - now if moment is not None else self.interval(status)))

    def _tell(self, handle: JobHandle, status: JobStatus | None, ctx: RunnerContext) -> bool:
        """Tell new notes and lines; return whether nothing more is to be expected of the log now."""
        if status is None:
            return False
        self._tell_notes(status, ctx)
        try:
            return self._tell_lines(handle, ctx, is_final=status.phase.is_final)
        except TaskRunnerError as error:
            if error.failure_reason is not FailureReason.UNAVAILABLE:
                raise
            return False  # the cursor stands where it stood

    @staticmethod
    def _tell_notes(status: JobStatus, ctx: RunnerContext) -> None:
        known = set(ctx.progress.notes)
        fresh = [note for note in status.notes if note.key not in known]
        if fresh:
            keys = (*ctx.progress.notes, *(note.key for note in fresh))
            ctx.tell(fresh, replace(ctx.progress, notes=keys))

    def _tell_lines(self, handle: JobHandle, ctx: RunnerContext, *, is_final: bool) -> bool:
        page = LogPage()
        for _ in range(_MOST_PAGES):
            before = ctx.progress
            page = self.read_log(handle, before.cursor, ctx, is_final=is_final)
            fresh, cursor = unseen(page, before.cursor)
            lines = [line for raw in fresh for line in ctx.capture.take(raw.stream, raw.text, raw.at)]
            if cursor != before.cursor:
                ctx.tell(lines, before.with_lines(lines, cursor, ctx.capture.state()))
            if not page.has_more:
                return page.is_settled
        return False

    @staticmethod
    def _last_line(ctx: RunnerContext) -> None:
        lines = list(ctx.capture.finish())
        if lines:
            with contextlib.suppress(TaskRunnerError):
                ctx.tell(lines, ctx.progress)


def _differs(new: Watch, old: Watch) -> bool:
    return replace(new, reached_at=0.0) != replace(old, reached_at=0.0)
