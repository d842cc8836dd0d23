"""Runs a task as a job of Google Cloud Run: one container, without machines to look after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from task_runners.cloud import CloudApi, refused
from task_runners.cloud_job import Seen
from task_runners.errors import FailureReason, TaskRunnerError
from task_runners.google_job import GoogleTaskRunner
from task_runners.spec import Capabilities, JobHandle, Note, Phase, RunnerContext, TaskSpec
from task_runners.staging.wrapper import Wrapped

__all__ = ["CloudRun"]

_ENDPOINT: Final = "https://run.googleapis.com"
_READY_S: Final = 120.0


class _Properties(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class RunResources(_Properties):
    """What the container gets, as Cloud Run writes it: `1`, `2000m`; `512Mi`, `2Gi`."""

    cpu: str | None = None
    memory: str | None = None


class RunVolume(_Properties):
    """A bucket as a folder of the container."""

    bucket: str
    mount_path: str
    read_only: bool = False


class CloudRun(GoogleTaskRunner):
    """Runs the command in a container of the task's image."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        container=True, reattach=True, remote=True, process_limits=False
    )

    type: Literal["ee.gcp.runner.CloudRun", "io.kestra.plugin.ee.gcp.runner.CloudRun"] = "ee.gcp.runner.CloudRun"
    resources: RunResources = RunResources()
    max_retries: int = Field(default=0, ge=0, le=10)
    """How often Cloud Run starts a container again that failed."""
    vpc_access_connector: str | None = None
    vpc_egress: str | None = None
    network: str | None = None
    subnetwork: str | None = None
    volumes: tuple[RunVolume, ...] = ()
    runtime_service_account: str | None = None
    sync_working_directory: bool = False

    def _synced(self, spec: TaskSpec) -> TaskSpec:
        return replace(spec, sync_workdir=True) if self.sync_working_directory else spec

    @property
    def _api(self) -> CloudApi:
        return self._api_at("Cloud Run", self.endpoint_override or _ENDPOINT)

    def _path(self, handle: JobHandle) -> str:
        return f"/v2/{self._place}/jobs/{handle.id}"

    def _start(self, handle: JobHandle, wrapped: Wrapped, spec: TaskSpec, ctx: RunnerContext) -> Mapping[str, Any]:
        if self.volumes and not ctx.policy.allow_volumes:
            raise TaskRunnerError(
                "runner.volumes.refused",
                "this server does not let flows set `volumes` of the Cloud Run task runner",
                hint="the operator can allow it in the settings of the server",
                failure_reason=FailureReason.POLICY,
            )
        path = f"/v2/{self._place}/jobs"
        made = self._api.call("POST", path, params={"jobId": handle.id}, json=self._job(wrapped, spec), accept=(409,))
        if made.is_success:
            self._done(made.json(), ctx)
        run = self._api.call("POST", f"{self._path(handle)}:run", json={}).json()
        name = run.get("metadata", {}).get("name")
        return {"job": name} if name else self._find(handle, ctx) or {}

    def _done(self, operation: dict[str, Any], ctx: RunnerContext) -> None:
        deadline = ctx.clock() + _READY_S
        while not operation.get("done"):
            if ctx.clock() > deadline:
                raise refused("Cloud Run", f"the job was not made within {_READY_S:g} s")
            self.pause(ctx, min(1.0, self.completion_check_interval.total_seconds()))
            operation = self._api.call("GET", f"/v2/{operation['name']}").json()
        if operation.get("error"):
            raise refused("Cloud Run", str(operation["error"].get("message")))

    def _job(self, wrapped: Wrapped, spec: TaskSpec) -> dict[str, Any]:
        limits = self.resources.model_dump(exclude_none=True)
        volumes = {f"volume-{number}": volume for number, volume in enumerate(self.volumes)}
        container: dict[str, Any] = {
            "image": spec.image,
            "command": [wrapped.command[0]],
            "args": list(wrapped.command[1:]),
            "env": [{"name": key, "value": value} for key, value in wrapped.env.items()],
            "resources": {"limits": limits} if limits else {},
            "volumeMounts": [{"name": name, "mountPath": volume.mount_path} for name, volume in volumes.items()],
        }
        template: dict[str, Any] = {
            "containers": [container],
            "maxRetries": self.max_retries,
            "timeout": f"{max(1, int((self._longest(spec) + spec.grace).total_seconds()) + 120)}s",
            "volumes": [
                {"name": name, "gcs": {"bucket": volume.bucket, "readOnly": volume.read_only}}
                for name, volume in volumes.items()
            ],
        }
        if self.runtime_service_account:
            template["serviceAccount"] = self.runtime_service_account
        if access := self._vpc_access():
            template["vpcAccess"] = access
        labels = self._prefixed(spec)
        return {"labels": labels, "template": {"labels": labels, "taskCount": 1, "template": template}}

    def _vpc_access(self) -> dict[str, Any]:
        network = {"network": self.network, "subnetwork": self.subnetwork}
        interface = {key: value for key, value in network.items() if value}
        access = {
            "connector": self.vpc_access_connector,
            "egress": self.vpc_egress,
            "networkInterfaces": [interface] if interface else None,
        }
        return {key: value for key, value in access.items() if value}

    def _find(self, handle: JobHandle, ctx: RunnerContext) -> Mapping[str, Any] | None:  # noqa: ARG002 - the port's
        answer = self._api.call("GET", self._path(handle), accept=(404,))
        name = answer.json().get("latestCreatedExecution", {}).get("name") if answer.is_success else None
        if not name:
            return None
        return {"job": name if "/" in name else f"{self._path(handle).removeprefix('/v2/')}/executions/{name}"}

    def _seen(self, handle: JobHandle, ctx: RunnerContext) -> Seen:  # noqa: ARG002 - the port's
        answer = self._api.call("GET", f"/v2/{handle.data['job']}", accept=(404,))
        if not answer.is_success:
            return Seen(Phase.LOST, None, FailureReason.LOST, "Cloud Run does not know the execution any more")
        execution = answer.json()
        conditions = [each for each in execution.get("conditions", ()) if each.get("message")]
        notes = tuple(Note(f"{each.get('type')} {each['message']}", str(each["message"])) for each in conditions)
        message = str(conditions[-1]["message"]) if conditions else None
        if execution.get("completionTime") is None:
            phase = Phase.RUNNING if execution.get("runningCount") else Phase.PENDING
            return Seen(phase, None, None, message, notes)
        if execution.get("succeededCount"):
            return Seen(Phase.SUCCEEDED, 0, None, message, notes)
        code, said = self._attempt(handle)
        if execution.get("cancelledCount"):
            return Seen(Phase.FAILED, code, None, "the execution was cancelled", notes)
        return Seen(Phase.FAILED, code, _reason(f"{said} {message}") if code is None else None, said or message, notes)

    def _attempt(self, handle: JobHandle) -> tuple[int | None, str]:
        answer = self._api.call("GET", f"/v2/{handle.data['job']}/tasks", accept=(404,))
        tasks = answer.json().get("tasks", ()) if answer.is_success else ()
        result = tasks[0].get("lastAttemptResult", {}) if tasks else {}
        signal = result.get("termSignal")
        code = 128 + int(signal) if signal else result.get("exitCode")
        return (int(code) if code else None), str(result.get("status", {}).get("message", ""))

    def _log_filter(self, handle: JobHandle) -> str | None:
        execution = str(handle.data.get("job") or "").rpartition("/")[2]
        if not execution:
            return None
        logs = " OR ".join(
            f'"projects/{self.project_id}/logs/run.googleapis.com%2F{stream}"' for stream in ("stdout", "stderr")
        )
        name = f'labels."run.googleapis.com/execution_name"="{execution}"'
        return f'resource.type="cloud_run_job" AND {name} AND logName=({logs})'

    def cancel(self, handle: JobHandle, grace: timedelta, ctx: RunnerContext) -> None:  # noqa: ARG002 - the port's
        """Cancel the execution: Cloud Run sends SIGTERM, and SIGKILL ten seconds later whatever `grace` says."""
        if handle.data.get("job"):
            self._api.call("POST", f"/v2/{handle.data['job']}:cancel", json={}, accept=(400, 404, 409))

    def _discard(self, handle: JobHandle, ctx: RunnerContext) -> None:
        self.cancel(handle, timedelta(0), ctx)
        self._api.call("DELETE", self._path(handle), accept=(404, 409))

    def _jobs(self) -> Iterator[Mapping[str, Any]]:
        return self._listed(self._api, f"/v2/{self._place}/jobs", "jobs")


def _reason(message: str) -> FailureReason | None:
    text = message.lower()
    words = {
        FailureReason.IMAGE_PULL: ("image", "pull", "manifest"),
        FailureReason.OOM_KILLED: ("out of memory", "memory limit"),
        FailureReason.UNSCHEDULABLE: ("quota",),
    }
    return next((reason for reason, found in words.items() if any(word in text for word in found)), None)
