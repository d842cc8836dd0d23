"""AWS Batch in values: what a job definition says, which sizes Fargate has, what a status means."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from task_runners.cloud_job import Seen
from task_runners.errors import FailureReason, TaskRunnerError
from task_runners.spec import Note, Phase
from task_runners.staging.wrapper import Wrapped

__all__ = [
    "Platform",
    "Request",
    "Resources",
    "check_size",
    "definition",
    "platform_of",
    "seen",
    "tag_value",
    "tags",
]

_LONGEST_TAG: Final = 256
_NO_TAG: Final = re.compile(r"[^\w +=.:/@-]")
_PHASES: Final = {
    "SUBMITTED": Phase.PENDING,
    "PENDING": Phase.PENDING,
    "RUNNABLE": Phase.PENDING,
    "STARTING": Phase.PENDING,
    "RUNNING": Phase.RUNNING,
    "SUCCEEDED": Phase.SUCCEEDED,
    "FAILED": Phase.FAILED,
}
# Fargate's sizes: for each number of vCPUs the least and the most memory in MiB, and the step between them.
_FARGATE: Final = {
    0.25: (512, 2048, 512),
    0.5: (1024, 4096, 1024),
    1.0: (2048, 8192, 1024),
    2.0: (4096, 16384, 1024),
    4.0: (8192, 30720, 1024),
    8.0: (16384, 61440, 4096),
    16.0: (32768, 122880, 8192),
}
_WRONG_SIZE_AT: Final = {(0.25, 1536)}  # the one hole in the steps above
_PULL: Final = re.compile(r"CannotPull\w*Error|ImagePull|pull image|ErrImagePull", re.IGNORECASE)
_INTERRUPTED: Final = re.compile(r"Host EC2 .*terminated|Spot Task was interrupted|Spot interruption", re.IGNORECASE)
_OOM: Final = re.compile(r"OutOfMemoryError|OOMKilled|out of memory", re.IGNORECASE)
_DISK: Final = re.compile(r"no space left on device", re.IGNORECASE)
_CONFIG: Final = re.compile(
    r"CannotStartContainerError|ResourceInitializationError|CannotCreateContainerError|InvalidImageName|MISCONFIGURATION",
    re.IGNORECASE,
)


class _Properties(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class Request(_Properties):
    """What a job gets: memory in MiB, and vCPUs."""

    memory: int = Field(default=2048, gt=0)
    cpu: float = Field(default=1.0, gt=0)


class Resources(_Properties):
    """The size of a job as a whole."""

    request: Request = Request()


class Platform(enum.StrEnum):
    """What stands behind a compute environment."""

    FARGATE = "FARGATE"
    EC2 = "EC2"
    EKS = "EKS"


def platform_of(environment: Mapping[str, Any]) -> Platform:
    """Return the platform of what DescribeComputeEnvironments says of one."""
    if environment.get("eksConfiguration") or environment.get("containerOrchestrationType") == "EKS":
        return Platform.EKS
    kind = str(environment.get("computeResources", {}).get("type", "EC2"))
    return Platform.FARGATE if kind.startswith("FARGATE") else Platform.EC2


def check_size(request: Request) -> None:
    """Refuse a size that Fargate does not have.

    Raises:
        TaskRunnerError: `runner.resources.refused`, with the sizes for this number of vCPUs.
    """
    sizes = _FARGATE.get(request.cpu)
    if sizes is None:
        known = ", ".join(f"{cpu:g}" for cpu in _FARGATE)
        raise TaskRunnerError(
            "runner.resources.refused",
            f"Fargate has no {request.cpu:g} vCPUs",
            hint=f"set `resources.request.cpu`: {known}",
        )
    least, most, step = sizes
    is_step = (request.memory - least) % step == 0 and (request.cpu, request.memory) not in _WRONG_SIZE_AT
    if not least <= request.memory <= most or not is_step:
        raise TaskRunnerError(
            "runner.resources.refused",
            f"Fargate does not give {request.memory} MiB to {request.cpu:g} vCPUs",
            hint=f"set `resources.request.memory` to {least} to {most} MiB in steps of {step}",
        )


def tag_value(value: str) -> str:
    """Return `value` as a tag may be."""
    return _NO_TAG.sub("_", value)[:_LONGEST_TAG]


def tags(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the tags that stand for labels, each under our prefix and under Kestra's."""
    return {f"{prefix}-{key}": value for prefix in ("mainstem", "kestra") for key, value in labels.items()}


def definition(  # noqa: PLR0913 - what a job definition consists of
    name: str,
    platform: Platform,
    wrapped: Wrapped,
    image: str,
    labels: Mapping[str, str],
    request: Request,
    *,
    execution_role: str | None,
    task_role: str | None,
    longest: timedelta,
) -> dict[str, Any]:
    """Return the arguments of RegisterJobDefinition."""
    common: dict[str, Any] = {
        "jobDefinitionName": name,
        "type": "container",
        "tags": dict(labels),
        "propagateTags": True,
        "timeout": {"attemptDurationSeconds": max(60, int(longest.total_seconds()))},
        # Started again after an interruption it is by us, under a new attempt with a log of its own.
        "retryStrategy": {"attempts": 1},
    }
    if platform is Platform.EKS:
        return {**common, "eksProperties": {"podProperties": _pod(wrapped, image, request, task_role)}}
    container: dict[str, Any] = {
        "image": image,
        "command": list(wrapped.command),
        "environment": [{"name": key, "value": value} for key, value in wrapped.env.items()],
        "resourceRequirements": [
            {"type": "VCPU", "value": f"{request.cpu:g}"},
            {"type": "MEMORY", "value": str(request.memory)},
        ],
    }
    roles = {"executionRoleArn": execution_role, "jobRoleArn": task_role}
    container |= {key: value for key, value in roles.items() if value}
    if platform is Platform.FARGATE:
        container["networkConfiguration"] = {"assignPublicIp": "ENABLED"}
    return {**common, "platformCapabilities": [platform.value], "containerProperties": container}


def _pod(wrapped: Wrapped, image: str, request: Request, account: str | None) -> dict[str, Any]:
    size = {"cpu": f"{request.cpu:g}", "memory": f"{request.memory}Mi"}
    container = {
        "name": "main",
        "image": image,
        "command": list(wrapped.command),
        # A variable in brackets after a dollar would be replaced by its value in the cluster; two dollars are one.
        "env": [{"name": key, "value": value.replace("$(", "$$(")} for key, value in wrapped.env.items()],
        "resources": {"limits": size, "requests": size},
    }
    return {"containers": [container], **({"serviceAccountName": account} if account else {})}


def seen(job: Mapping[str, Any]) -> Seen:
    """Return what DescribeJobs says of a job."""
    phase = _PHASES.get(str(job.get("status")), Phase.PENDING)
    container = _container(job)
    reasons = [str(text) for text in (job.get("statusReason"), container.get("reason")) if text]
    message = ": ".join(dict.fromkeys(reasons)) or None
    stream = container.get("logStreamName") or next(iter(_streams(job)), None)
    attempt = len(job.get("attempts", ()))
    note = Note(
        f"status {job.get('status')} {attempt}", f"job {job.get('jobId')}: {job.get('status')} {message or ''}".strip()
    )
    data = {"stream": stream} if stream else {}
    code = container.get("exitCode") if phase.is_final else None
    reason = _reason(message or "", phase)
    return Seen(phase, int(code) if code is not None else None, reason, message, (note,), data)


def _container(job: Mapping[str, Any]) -> Mapping[str, Any]:
    pods = job.get("eksProperties", {}).get("podProperties", {}).get("containers", ())
    found: Mapping[str, Any] = job.get("container") or next(iter(pods), {})
    return found


def _streams(job: Mapping[str, Any]) -> list[str]:
    attempts = [attempt.get("container", {}).get("logStreamName") for attempt in job.get("attempts", ())]
    return [stream for stream in reversed(attempts) if stream]


def _reason(message: str, phase: Phase) -> FailureReason | None:
    found = {
        FailureReason.PREEMPTED: _INTERRUPTED,
        FailureReason.OOM_KILLED: _OOM,
        FailureReason.IMAGE_PULL: _PULL,
        FailureReason.DISK_FULL: _DISK,
        FailureReason.CONFIG_ERROR: _CONFIG,
    }
    if phase is Phase.SUCCEEDED:
        return None
    if phase is Phase.FAILED and "attemptDurationSeconds" in message:
        return FailureReason.DEADLINE
    return next((reason for reason, pattern in found.items() if pattern.search(message)), None)
