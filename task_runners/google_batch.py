"""Runs a task as a job of Google Batch: a virtual machine of its own with one container."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from task_runners.cloud import CloudApi
from task_runners.cloud_job import Seen
from task_runners.errors import FailureReason
from task_runners.google_job import GoogleTaskRunner
from task_runners.remote import Interruptions
from task_runners.spec import Capabilities, JobHandle, Note, Phase, RunnerContext, TaskSpec
from task_runners.staging.wrapper import Wrapped

__all__ = ["Batch"]

_ENDPOINT: Final = "https://batch.googleapis.com"
_PHASES: Final = {
    "QUEUED": Phase.PENDING,
    "SCHEDULED": Phase.PENDING,
    "RUNNING": Phase.RUNNING,
    "SUCCEEDED": Phase.SUCCEEDED,
    "FAILED": Phase.FAILED,
    "CANCELLED": Phase.FAILED,
    "DELETION_IN_PROGRESS": Phase.RUNNING,
    "CANCELLATION_IN_PROGRESS": Phase.RUNNING,
}
# What Batch itself ends a task with; other codes are the body's.
_OWN_CODES: Final = {
    50001: (FailureReason.PREEMPTED, "the spot machine was taken away"),
    50002: (FailureReason.NODE_LOST, "the machine stopped to report"),
    50003: (FailureReason.NODE_LOST, "the machine restarted while the task ran"),
    50004: (FailureReason.NODE_LOST, "the task became unresponsive, as when memory or disk are full"),
    50005: (FailureReason.DEADLINE, "the task ran longer than the job may"),
    50006: (FailureReason.NODE_LOST, "the machine was made anew while the task ran"),
}


class _Properties(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class SpotInterruptions(Interruptions):
    """What happens when a spot machine is taken away."""

    last_attempt_on_demand: bool = False
    """Whether the last start gets a machine that nobody takes away."""


class ComputeResource(_Properties):
    """What the task gets: thousandths of a vCPU, MiB of memory, MiB of boot disk."""

    cpu: int = Field(default=2000, gt=0)
    memory: int = Field(default=2048, gt=0)
    boot_disk: int | None = None


class NetworkInterface(_Properties):
    """A network of the machine."""

    network: str | None = None
    subnetwork: str | None = None


class ActionCondition(_Properties):
    """For which exit codes an action is taken."""

    exit_codes: tuple[int, ...] = ()


class LifecyclePolicy(_Properties):
    """What happens to a task that failed with certain exit codes."""

    action: Literal["RETRY_TASK", "FAIL_TASK"]
    action_condition: ActionCondition


class Batch(GoogleTaskRunner):
    """Runs the command in a container of the task's image, on a machine that is made for it."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        container=True, reattach=True, remote=True, process_limits=False
    )

    type: Literal["ee.gcp.runner.Batch", "io.kestra.plugin.ee.gcp.runner.Batch"] = "ee.gcp.runner.Batch"
    machine_type: str = "e2-medium"
    compute_resource: ComputeResource = ComputeResource()
    provisioning_model: Literal["STANDARD", "SPOT"] | None = None
    """`SPOT` for machines that cost less and may be taken away; without it Google decides."""
    interruption_retry: SpotInterruptions = SpotInterruptions()
    reservation: str | None = None
    entry_point: tuple[str, ...] = ()
    network_interfaces: tuple[NetworkInterface, ...] = ()
    max_retry_count: int = Field(default=0, ge=0, le=10)
    lifecycle_policies: tuple[LifecyclePolicy, ...] = ()

    @property
    def _api(self) -> CloudApi:
        return self._api_at("Google Batch", self.endpoint_override or _ENDPOINT)

    def _path(self, handle: JobHandle) -> str:
        return f"/v1/{self._place}/jobs/{handle.id}"

    def _start(self, handle: JobHandle, wrapped: Wrapped, spec: TaskSpec, ctx: RunnerContext) -> Mapping[str, Any]:
        path = f"/v1/{self._place}/jobs"
        # 409 answers a request that arrived twice: the name is ours alone.
        self._api.call(
            "POST", path, params={"jobId": handle.id}, json=self._job(wrapped, spec, ctx.interruptions), accept=(409,)
        )
        return self._find(handle, ctx) or {}

    def _job(self, wrapped: Wrapped, spec: TaskSpec, interruptions: int) -> dict[str, Any]:
        size = self.compute_resource
        resource = {"cpuMilli": str(size.cpu), "memoryMib": str(size.memory)}
        entry, *arguments = [*self.entry_point, *wrapped.command]
        task: dict[str, Any] = {
            "runnables": [{"container": {"imageUri": spec.image, "entrypoint": entry, "commands": arguments}}],
            "environment": {"variables": dict(wrapped.env)},
            "computeResource": resource | ({"bootDiskMib": str(size.boot_disk)} if size.boot_disk else {}),
            "maxRetryCount": self.max_retry_count,
            "maxRunDuration": _seconds(self._longest(spec) + spec.grace + timedelta(minutes=2)),
            "lifecyclePolicies": [policy.model_dump(by_alias=True, mode="json") for policy in self.lifecycle_policies],
        }
        labels = self._prefixed(spec)
        return {
            "taskGroups": [{"taskCount": "1", "taskSpec": task}],
            "allocationPolicy": self._allocation(labels, interruptions),
            "labels": labels,
            "logsPolicy": {"destination": "CLOUD_LOGGING"},
        }

    def _allocation(self, labels: Mapping[str, str], interruptions: int) -> dict[str, Any]:
        given = {"reservation": self.reservation, "provisioningModel": self._provisioning(interruptions)}
        policy = {"machineType": self.machine_type} | {key: value for key, value in given.items() if value}
        networks = [each.model_dump(by_alias=True, exclude_none=True) for each in self.network_interfaces]
        return {
            "instances": [{"policy": policy}],
            "labels": dict(labels),
            **({"network": {"networkInterfaces": networks}} if networks else {}),
        }

    def _provisioning(self, interruptions: int) -> str | None:
        again = self.interruption_retry
        is_last = again.last_attempt_on_demand and interruptions + 1 >= again.max_attempts
        return "STANDARD" if is_last else self.provisioning_model

    def _find(self, handle: JobHandle, ctx: RunnerContext) -> Mapping[str, Any] | None:  # noqa: ARG002 - the port's
        answer = self._api.call("GET", self._path(handle), accept=(404,))
        return {"job": answer.json()["uid"]} if answer.is_success else None

    def _seen(self, handle: JobHandle, ctx: RunnerContext) -> Seen:  # noqa: ARG002 - the port's
        answer = self._api.call("GET", self._path(handle), accept=(404,))
        if not answer.is_success:
            return Seen(Phase.LOST, None, FailureReason.LOST, "Google Batch does not know the job any more")
        status = answer.json().get("status", {})
        state = str(status.get("state", "QUEUED"))
        events = [str(event.get("description", "")) for event in status.get("statusEvents", ())]
        message = events[-1] if events else None
        notes = tuple(Note(f"{number} {text}", text) for number, text in enumerate(events))
        phase = _PHASES.get(state, Phase.PENDING)
        if phase is not Phase.FAILED:
            return Seen(phase, None, None, message, notes)
        code = self._exit_code(handle)
        reason, said = _OWN_CODES.get(code or 0, (_reason(message or ""), message))
        return Seen(phase, None if code in _OWN_CODES else code, reason, said, notes)

    def _exit_code(self, handle: JobHandle) -> int | None:
        answer = self._api.call("GET", f"{self._path(handle)}/taskGroups/group0/tasks/0", accept=(404,))
        if not answer.is_success:
            return None
        events = answer.json().get("status", {}).get("statusEvents", ())
        codes = [event["taskExecution"].get("exitCode", 0) for event in events if event.get("taskExecution")]
        return int(codes[-1]) if codes else None

    def _log_filter(self, handle: JobHandle) -> str | None:
        uid = handle.data.get("job")
        return f'logName="projects/{self.project_id}/logs/batch_task_logs" AND labels.job_uid="{uid}"' if uid else None

    def cancel(self, handle: JobHandle, grace: timedelta, ctx: RunnerContext) -> None:  # noqa: ARG002 - the port's
        """Cancel the job; how long its container may take to end is Google's to say."""
        self._api.call("POST", f"{self._path(handle)}:cancel", json={}, accept=(400, 404, 409))

    def _discard(self, handle: JobHandle, ctx: RunnerContext) -> None:  # noqa: ARG002 - the port's
        self._api.call("DELETE", self._path(handle), accept=(404, 409))

    def _jobs(self) -> Iterator[Mapping[str, Any]]:
        return self._listed(self._api, f"/v1/{self._place}/jobs", "jobs")


def _reason(message: str) -> FailureReason | None:
    text = message.lower()
    words = {
        FailureReason.UNSCHEDULABLE: ("quota", "zone_resource_pool_exhausted", "no zones", "not available in"),
        FailureReason.IMAGE_PULL: ("pull access denied", "manifest unknown", "failed to pull", "manifest for"),
    }
    return next((reason for reason, found in words.items() if any(word in text for word in found)), None)


def _seconds(duration: timedelta) -> str:
    return f"{max(1, int(duration.total_seconds()))}s"
