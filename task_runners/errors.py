"""What can go wrong before, around or after a task body, with a stable code and a reason a machine can branch on."""

from __future__ import annotations

import enum

__all__ = ["FailureReason", "TaskRunnerError"]


class FailureReason(enum.StrEnum):
    """Why a task did not succeed, in terms that are the same for every task runner."""

    APP_EXIT = "APP_EXIT"
    """The body ended by itself with an exit code other than zero."""
    OOM_KILLED = "OOM_KILLED"
    """It used more memory than its limit."""
    DEADLINE = "DEADLINE"
    """It was ended because its timeout had passed."""
    CANCELLED = "CANCELLED"
    """Somebody asked for its end."""
    IMAGE_PULL = "IMAGE_PULL"
    """The container image is missing or cannot be fetched."""
    CONFIG_ERROR = "CONFIG_ERROR"
    """It could not start as described: command, limits, mounts, working directory."""
    OUTPUT_FILES = "OUTPUT_FILES"
    """The body succeeded, but the files it should hand back cannot be taken."""
    UNAVAILABLE = "UNAVAILABLE"
    """What runs it (daemon, supervisor) cannot be reached."""
    UNSCHEDULABLE = "UNSCHEDULABLE"
    """No machine can take it."""
    EVICTED = "EVICTED"
    """The machine threw it out."""
    PREEMPTED = "PREEMPTED"
    """The machine was taken away."""
    LOST = "LOST"
    """Nobody can say how it ended."""


class TaskRunnerError(Exception):
    """A task cannot be run, or its files cannot be moved: `code`, a sentence with the value, a hint, a reason."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        hint: str | None = None,
        failure_reason: FailureReason = FailureReason.CONFIG_ERROR,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.failure_reason = failure_reason
