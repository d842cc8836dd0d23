"""What a Docker daemon refuses, in the words of this product."""

from __future__ import annotations

from datetime import timedelta

from task_runners.errors import FailureReason, TaskRunnerError
from task_runners.spec import TaskSpec

__all__ = ["cancelled", "no_image", "not_startable", "too_slow"]


def cancelled(message: str) -> TaskRunnerError:
    """Return what ends a start that nobody wants any more; `run` makes a result of it."""
    return TaskRunnerError("runner.cancelled", message, failure_reason=FailureReason.CANCELLED)


def too_slow(image: str, timeout: timedelta | None) -> TaskRunnerError:
    """Return what ends a start whose image did not arrive within the timeout of the task."""
    seconds = timeout.total_seconds() if timeout is not None else 0.0
    return TaskRunnerError(
        "runner.image.pull_failed",
        f"ended after its timeout of {seconds:g} s, while the image {image!r} was fetched",
        failure_reason=FailureReason.DEADLINE,
    )


def no_image(image: str, reason: str) -> TaskRunnerError:
    """Return `runner.image.missing` or `runner.image.pull_failed`, as far as the daemon's words tell."""
    is_missing = any(word in reason.lower() for word in ("not found", "does not exist", "manifest unknown"))
    return TaskRunnerError(
        "runner.image.missing" if is_missing else "runner.image.pull_failed",
        f"the image {image!r} cannot be fetched: {reason[:300]}",
        hint="check its name and tag, `credentials`, and the way from the daemon to the registry",
        failure_reason=FailureReason.IMAGE_PULL,
    )


def not_startable(error: Exception, spec: TaskSpec) -> TaskRunnerError:
    """Return `runner.command.missing` or `runner.start.failed` for what the daemon said of creating or starting."""
    reason = str(getattr(error, "explanation", None) or error)
    if "executable file not found" in reason or "no such file or directory" in reason:
        return TaskRunnerError(
            "runner.command.missing", f"the image has no program {spec.command[0]!r}: {reason[:300]}"
        )
    return TaskRunnerError("runner.start.failed", f"the container cannot be started: {reason[:300]}")
