"""How a container ended, from what `GET /containers/ID/json` says of it.

Somebody who removes a running container (`docker rm -f`) has it killed first: what is seen in between is no end that
its body made. Docker calls that `removing`. Podman, and whoever does both steps by hand, shows an ordinary end for a
moment, so one that nothing explains is looked at again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from task_runners.errors import FailureReason
from task_runners.spec import JobStatus, Phase, Usage

__all__ = ["DENIED", "SETTLING_S", "denied", "has_ended", "is_unexplained", "removed", "status_of"]

SETTLING_S: Final = 1.0
"""How long a container that was killed may take to vanish, if that was the purpose."""

DENIED: Final = "Operation not permitted"

_OVER: Final = frozenset({"exited", "stopped", "removing", "dead"})
_GOING: Final = frozenset({"removing", "dead"})
_KILLED: Final = 128 + 9


def has_ended(state: Mapping[str, Any]) -> bool:
    """Return whether the body has ended; a word that we do not know (`stopping`) says nothing of it."""
    return state["State"]["Status"] in _OVER


def is_unexplained(state: Mapping[str, Any]) -> bool:
    """Return whether SIGKILL ended a container for a reason that cannot be seen, so that it may be about to vanish."""
    ended = state["State"]
    return int(ended["ExitCode"]) == _KILLED and not ended.get("OOMKilled") and ended["Status"] not in _GOING


def removed(details: Mapping[str, Any]) -> JobStatus:
    """Return the status of a container that is gone, or going, though nobody here wanted that."""
    message = "the container was removed by somebody else"
    return JobStatus(Phase.LOST, None, FailureReason.LOST, message, details=details)


def status_of(state: Mapping[str, Any], details: Mapping[str, Any]) -> JobStatus:
    """Return how a container ended."""
    ended = state["State"]
    code, usage = int(ended["ExitCode"]), Usage(wall_seconds=_seconds(ended))
    if ended.get("OOMKilled") and code != 0:
        limit = state["HostConfig"].get("Memory") or 0
        message = f"out of memory (limit {limit / 1024**2:g} MiB)" if limit else "out of memory"
        return JobStatus(Phase.FAILED, code, FailureReason.OOM_KILLED, message, usage, details)
    if code == _KILLED and ended["Status"] in _GOING:
        return removed(details)
    if code == 0:
        return JobStatus.exited(0, usage, details=details)
    words = [f"command failed with exit code {code}"]
    words += ["signal 9, which was not sent from here"] if code == _KILLED else []
    words += [str(ended["Error"])] if ended.get("Error") else []
    return JobStatus(Phase.FAILED, code, FailureReason.APP_EXIT, ": ".join(words), usage, details)


def denied(status: JobStatus, capabilities: Sequence[str]) -> JobStatus:
    """Return the status of a container whose output said that something was not permitted, with what may help.

    Images that are made to start as root do so: they change owners and users, which takes capabilities.
    """
    if status.failure_reason is not FailureReason.APP_EXIT:
        return status
    given = ", ".join(capabilities) or "none"
    why = f"its output says {DENIED!r}; containers have the `capabilities` that `runnerPolicies` list: {given}"
    return replace(status, message=f"{status.message}: {why}")


def _seconds(ended: Mapping[str, Any]) -> float | None:
    with contextlib.suppress(ValueError, KeyError):
        start, end = (datetime.fromisoformat(ended[key][:26].rstrip("Z")) for key in ("StartedAt", "FinishedAt"))
        return (end - start).total_seconds()
    return None
