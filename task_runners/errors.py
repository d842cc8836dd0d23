"""What can go wrong before, around or after a task body, with a stable code and a reason a machine can branch on."""

from __future__ import annotations

import enum

__all__ = ["FailureReason", "JobGoneError", "JobInterruptedError", "JobLeftError", "TaskRunnerError"]


class FailureReason(enum.StrEnum):
    """Why a task did not succeed, in terms that are the same for every task runner."""

    APP_EXIT = "APP_EXIT"
    """The body ended by itself with an exit code other than zero."""
    OOM_KILLED = "OOM_KILLED"
    """It used more memory than its limit."""
    DISK_FULL = "DISK_FULL"
    """It used more disk than it may, or the disk of its machine is full."""
    KILLED = "KILLED"
    """A signal ended it that this product did not send."""
    DEADLINE = "DEADLINE"
    """It was ended because its timeout had passed."""
    CANCELLED = "CANCELLED"
    """Somebody asked for its end."""
    IMAGE_PULL = "IMAGE_PULL"
    """The container image is missing or cannot be fetched."""
    CONFIG_ERROR = "CONFIG_ERROR"
    """It could not start as described: command, limits, mounts, working directory."""
    POLICY = "POLICY"
    """The operator does not let flows of this namespace ask for it."""
    DENIED = "DENIED"
    """The engine refuses our credentials, or they may not do this."""
    INPUT_FILES = "INPUT_FILES"
    """The files that it needs cannot be brought to it."""
    OUTPUT_FILES = "OUTPUT_FILES"
    """The body succeeded, but the files it should hand back cannot be taken."""
    UNAVAILABLE = "UNAVAILABLE"
    """What runs it (daemon, supervisor, cluster) cannot be reached."""
    UNSCHEDULABLE = "UNSCHEDULABLE"
    """No machine can take it, or a quota is used up."""
    EVICTED = "EVICTED"
    """The machine threw it out."""
    PREEMPTED = "PREEMPTED"
    """The machine was taken away, as spot capacity is."""
    NODE_LOST = "NODE_LOST"
    """The machine failed or cannot be reached any more."""
    LOST = "LOST"
    """Nobody can say how it ended."""

    @property
    def is_interruption(self) -> bool:
        """Whether the place failed and not the task: the same work may well succeed elsewhere."""
        return self in {FailureReason.EVICTED, FailureReason.PREEMPTED, FailureReason.NODE_LOST}


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


class JobLeftError(Exception):
    """Whoever followed a job was asked to leave it: it goes on and can be found again; nothing is known of its end."""


class JobGoneError(Exception):
    """The job that was to be followed further is not at its engine any more, and was not to be started again here."""


class JobInterruptedError(Exception):
    """The place of a job was taken away, and the same task is to be carried out once more; `reason` says how."""

    def __init__(self, reason: FailureReason) -> None:
        super().__init__(reason.value)
        self.reason = reason
