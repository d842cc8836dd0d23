"""The job that carries out the body of an attempt: what its claim knows of it, and how it outlives a thread.

An attempt whose job runs elsewhere gives its thread back by raising `Parked`; when the job has ended, the task runs
once more, and the command that it gives then finds the ended job instead of starting one.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from runner.executions.models import Attempt
from runner.states import State
from task_runners.base import JobHandle, RunnerContext, TaskRunnerError
from task_runners.errors import FailureReason
from task_runners.remote import Job, RemoteTaskRunner
from task_runners.spec import JobStatus

_INTERRUPTED = frozenset(reason.value for reason in FailureReason if reason.is_interruption)

LossPolicy = Literal["RESTART", "REATTACH", "FAIL"]


def is_started_by(installation: str | None, stored: Mapping[str, Any]) -> bool:
    """Return whether a stored handle is of a job that the installation of this name started, or one without a name."""
    return stored.get("installation") == installation


@dataclass(slots=True)
class Ended:
    """A job that has ended, with its task runner and the context under which its log was told."""

    runner: RemoteTaskRunner
    job: Job
    status: JobStatus
    ctx: RunnerContext
    is_taken: bool = False
    """Whether the task took the results, and with them the care for what is left of the job."""


@dataclass(slots=True)
class AttemptJob:
    """What the claim of an attempt offers to the job of its body.

    Attributes:
        epoch: of the claim.
        save: stores the handle as JSON, before the job starts and whenever it changes.
        stored: what `save` got under an earlier claim of the same attempt: its job may still run.
        left_behind: jobs of earlier attempts whose workers were lost; they must not go on beside this one.
        may_park: whether somebody follows jobs that run elsewhere, so that no thread need wait for them.
        interruptions: how many jobs did this work before, and lost their machines.
        policy: what the task says about a lost worker; None leaves it to the task runner.
        can_outlive: whether a job of this attempt can be followed under a later claim.
        ended: the job, once it has ended and the task runs again to take its results.
        left: set when the job is to be left to others.
    """

    epoch: int = 0
    save: Callable[[Mapping[str, Any]], None] = lambda _document: None
    stored: Mapping[str, Any] | None = None
    left_behind: tuple[JobHandle, ...] = ()
    may_park: bool = False
    interruptions: int = 0
    policy: LossPolicy | None = None
    can_outlive: bool = True
    ended: Ended | None = None
    left: threading.Event = field(default_factory=threading.Event)
    outlives: bool = False
    """Whether the job that was saved goes on without this process, and may be followed by another one."""
    later: list[Callable[[], None]] = field(default_factory=list)
    """What is to be done once the result is stored."""

    @property
    def stored_handle(self) -> JobHandle | None:
        """The handle that was stored under an earlier claim."""
        return JobHandle.from_json(self.stored) if self.stored else None

    def look_back(self, attempts: Sequence[Attempt], installation: str | None = None) -> None:
        """Take what counts of the earlier attempts of its run, the oldest first; jobs of others are left alone."""
        lost = [each.handle for each in attempts if each.state is State.KILLED and each.handle]
        self.left_behind = tuple(JobHandle.from_json(each) for each in lost if is_started_by(installation, each))
        self.interruptions = _interruptions(attempts)

    def tidy(self) -> None:
        """Remove what is left of the job: how it ended is stored."""
        if self.ended is not None and not self.ended.is_taken:
            with contextlib.suppress(TaskRunnerError):  # the janitor finds what is left
                self.ended.runner.cleanup(self.ended.job.handle, self.ended.ctx)
        while self.later:
            self.later.pop(0)()


class Parked(BaseException):
    """The body runs elsewhere: the thread that started it has nothing more to do."""

    def __init__(self, runner: RemoteTaskRunner, job: Job, ctx: RunnerContext) -> None:
        super().__init__(job.handle.id)
        self.runner = runner
        self.job = job
        self.ctx = ctx


def _interruptions(attempts: Sequence[Attempt]) -> int:
    """Return how often the machine of a job was taken away since the last failure of its run.

    `attempts` are those of one run, the oldest first. A retry after a failure begins to count anew.
    """
    count = 0
    for each in attempts:
        if each.state is State.FAILED:
            count = 0
        elif each.state is State.KILLED and each.failure_reason in _INTERRUPTED:
            count += 1
    return count
