"""When a job has ended, when it must be told to end, and when it is lost: decided from what was seen, without a clock.

The blocking form of a task runner asks after each look and keeps the `Watch` in memory; the form that holds no thread
stores it between two looks. Times are seconds of one clock, whichever the caller uses throughout.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from task_runners.errors import FailureReason, TaskRunnerError
from task_runners.spec import JobStatus, Phase, TaskSpec

__all__ = ["OVERTIME_S", "End", "Next", "Tell", "Wait", "Watch", "begin", "look", "next_moment", "told"]

OVERTIME_S: Final = 30.0  # an engine that cannot end a job this long after its grace has lost it
_STARTED: Final = frozenset({Phase.RUNNING, Phase.STAGING_OUT})


@dataclass(frozen=True, slots=True)
class Watch:
    """What is remembered of a job between two looks."""

    began_at: float
    reached_at: float
    """When the engine last answered."""
    grace_s: float
    patience_s: float
    """How long the engine may be out of reach."""
    timeout_s: float | None = None
    """Seconds after `began_at` at which the job must have ended."""
    start_within_s: float | None = None
    """Seconds after `began_at` at which the body must run."""
    running_at: float | None = None
    ended_at: float | None = None
    ending: str | None = None
    """Why the job was told to end (a `FailureReason`)."""
    message: str | None = None
    end_by: float | None = None

    def started(self, now: float) -> Watch:
        """Return the watch over a job whose body was seen to run."""
        return replace(self, running_at=now)

    def resumed(self, seconds: float) -> Watch:
        """Return the watch over a job that somebody else began so many seconds before: its timeout goes on."""
        began_at = self.began_at - seconds
        return replace(self, began_at=began_at, running_at=began_at)

    def taken_over(self, now: float) -> Watch:
        """Return the watch of somebody else, who begins to ask `now`: for how long nobody did says nothing."""
        return replace(self, reached_at=now)

    def stages(self, collecting_s: float) -> dict[str, float]:
        """Return the seconds that each part of an ended job's life took."""
        ended_at = self.ended_at if self.ended_at is not None else self.reached_at
        running_at = self.running_at if self.running_at is not None else ended_at
        parts = {"starting": running_at - self.began_at, "running": ended_at - running_at, "collecting": collecting_s}
        return {name: round(seconds, 3) for name, seconds in parts.items()}

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, for `from_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Watch:
        """Return the watch that `as_json` described."""
        return cls(**document)


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again later."""

    watch: Watch


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the job to end, then call `told`."""

    watch: Watch
    reason: FailureReason
    message: str


@dataclass(frozen=True, slots=True)
class End:
    """The job has ended like this, or nobody can say how."""

    watch: Watch
    status: JobStatus


Next = Wait | Tell | End


def begin(
    spec: TaskSpec, now: float, *, patience_s: float, start_within_s: float | None, longest_s: float | None
) -> Watch:
    """Return the watch over a job whose attempt begins `now`; `longest_s` counts where the task has no timeout."""
    timeout = spec.timeout.total_seconds() if spec.timeout is not None else longest_s
    return Watch(now, now, spec.grace.total_seconds(), patience_s, timeout, start_within_s)


def look(watch: Watch, seen: JobStatus | TaskRunnerError, now: float, *, is_cancelled: bool) -> Next:
    """Return what follows from `seen`, the answer of the engine or its error."""
    if isinstance(seen, TaskRunnerError):
        if seen.failure_reason is not FailureReason.UNAVAILABLE or now - watch.reached_at > watch.patience_s:
            return End(_ended(watch, now), JobStatus(Phase.LOST, None, FailureReason.LOST, seen.message))
        seen = JobStatus(Phase.PENDING)
    else:
        has_started = watch.running_at is None and seen.phase in _STARTED
        watch = replace(watch, reached_at=now, running_at=now if has_started else watch.running_at)
    if seen.phase.is_final:
        return End(_ended(watch, now), _explained(seen, watch))
    if watch.end_by is None:
        return _due(watch, seen, now, is_cancelled=is_cancelled)
    if now < watch.end_by:
        return Wait(watch)
    message = f"the job did not end within {OVERTIME_S:g} s after it was told to"
    return End(_ended(watch, now), JobStatus(Phase.LOST, None, FailureReason.LOST, message))


def told(tell: Tell, now: float) -> Watch:
    """Return the watch over a job that was told to end: it has its grace, and some time more."""
    watch = tell.watch
    end_by = now + watch.grace_s + OVERTIME_S
    return replace(watch, ending=tell.reason.value, message=tell.message, end_by=end_by)


def next_moment(watch: Watch) -> float | None:
    """Return when the next limit of a job passes, None without one."""
    limits = [
        watch.end_by,
        watch.began_at + watch.timeout_s if watch.timeout_s is not None and watch.end_by is None else None,
        watch.began_at + watch.start_within_s
        if watch.start_within_s is not None and watch.running_at is None and watch.end_by is None
        else None,
    ]
    return min((limit for limit in limits if limit is not None), default=None)


def _due(watch: Watch, seen: JobStatus, now: float, *, is_cancelled: bool) -> Next:
    if watch.timeout_s is not None and now >= watch.began_at + watch.timeout_s:
        return Tell(watch, FailureReason.DEADLINE, f"ended after its timeout of {watch.timeout_s:g} s")
    if is_cancelled:
        return Tell(watch, FailureReason.CANCELLED, "cancelled")
    is_late = watch.start_within_s is not None and now >= watch.began_at + watch.start_within_s
    if is_late and watch.running_at is None:
        why = f": {seen.message}" if seen.message else ""
        reason = seen.failure_reason or FailureReason.UNSCHEDULABLE
        return Tell(watch, reason, f"did not start within {watch.start_within_s:g} s{why}")
    return Wait(watch)


def _explained(status: JobStatus, watch: Watch) -> JobStatus:
    # A body that ended well in the moment it was told to end did its work: what happened counts, not what was asked.
    # One that is gone after it was told to end was ended, also where the engine keeps nothing of it.
    if watch.ending is None or status.phase is Phase.SUCCEEDED:
        return status
    reason = FailureReason(watch.ending)
    phase = Phase.CANCELLED if reason is FailureReason.CANCELLED else Phase.FAILED
    return replace(status, phase=phase, failure_reason=reason, message=watch.message)


def _ended(watch: Watch, now: float) -> Watch:
    return watch if watch.ended_at is not None else replace(watch, ended_at=now)
