"""Runs a task as a job of Azure Batch: one task in one container on a pool that is there.

The engine itself brings the archive to the container and takes the files away, so the image needs `sh` and `tar` only.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, ClassVar, Final, Literal

import httpx
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from task_runners.azure_access import BatchKeyAuth, TokenAuth
from task_runners.capture import Stream
from task_runners.cloud import CloudApi, demand_known_host, kept
from task_runners.cloud_job import Addresses, CloudTaskRunner, Seen
from task_runners.errors import FailureReason
from task_runners.log_pages import LogCursor, LogPage, RawLine, file_lines
from task_runners.spec import Capabilities, JobHandle, Phase, RunnerContext, TaskSpec
from task_runners.staging.azure_blob import AzureStore
from task_runners.staging.object_store import ObjectStore
from task_runners.staging.port import INPUT, OUTPUT, SignedUpload, Stage
from task_runners.staging.wrapper import REPORT, Wrapped, script

__all__ = ["Batch", "under_way"]

_VERSION: Final = "2024-07-01.20.0"
_HOSTS: Final = (".batch.azure.com", ".batch.azure.us", ".batch.chinacloudapi.cn", ".batch.usgovcloudapi.net")
_BLOB_HOSTS: Final = (".blob.core.windows.net", ".blob.core.usgovcloudapi.net", ".blob.core.chinacloudapi.cn")
_TYPE: Final = "application/json; odata=minimalmetadata"
_SCOPE: Final = "https://batch.core.windows.net/.default"
_OWNED: Final = "mainstem-taskrun-id"
_SCRIPT: Final = "mainstem.sh"
_CHUNK_BYTES: Final = 1024 * 1024
_ADDRESS_TIME: Final = timedelta(days=1)
_BARE: Final = 'export MAINSTEM_RUN; MAINSTEM_RUN=$(printf %s "$MAINSTEM_RUN" | base64 -d)\n'
_FILES: Final = {Stream.STDOUT: "stdout.txt", Stream.STDERR: "stderr.txt"}
_PHASES: Final = {"active": Phase.PENDING, "preparing": Phase.PENDING, "running": Phase.RUNNING}


class _Properties(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)


class BlobStorage(_Properties):
    """The container through which files travel: by a connection string, or by account and key."""

    connection_string: str | None = None
    endpoint: str | None = None
    shared_key_account_name: str | None = None
    shared_key_account_access_key: str | None = None
    container_name: str

    def options(self) -> dict[str, str]:
        """Return what opens the container."""
        given = {
            "connectionString": self.connection_string,
            "endpoint": self.endpoint,
            "account": self.shared_key_account_name,
            "accountKey": self.shared_key_account_access_key,
        }
        return {key: value for key, value in given.items() if value}


class IdentityReference(_Properties):
    """A managed identity of the pool."""

    resource_id: str


class Registry(_Properties):
    """Who we are at the registry of the image."""

    registry_server: str | None = None
    user_name: str | None = None
    password: str | None = None
    identity_reference: IdentityReference | None = None

    def described(self) -> dict[str, Any]:
        """Return the registry as the engine wants it."""
        given = {"registryServer": self.registry_server, "username": self.user_name, "password": self.password}
        found: dict[str, Any] = {key: value for key, value in given.items() if value}
        if self.identity_reference is not None:
            found["identityReference"] = {"resourceId": self.identity_reference.resource_id}
        return found


class Batch(CloudTaskRunner):
    """Runs the command in a container of the task's image on a node of the pool."""

    capabilities: ClassVar[Capabilities] = Capabilities(
        container=True, reattach=True, remote=True, process_limits=False
    )

    type: Literal["ee.azure.runner.Batch", "io.kestra.plugin.ee.azure.runner.Batch"] = "ee.azure.runner.Batch"
    account: str
    access_key: str | None = None
    """Key of the Batch account; without it a token of Entra ID."""
    endpoint: str
    pool_id: str
    blob_storage: BlobStorage | None = None
    registry: Registry | None = None
    stream_logs: bool = False
    """Accepted for flows of others: lines are told while the task runs in any case."""

    # --- what the base class asks for ---------------------------------------------------------------------------------

    def _open_store(self) -> ObjectStore | None:
        given = self.blob_storage
        if given is not None and not (given.connection_string or given.shared_key_account_access_key):
            demand_known_host(given.endpoint or "", _BLOB_HOSTS, "blobStorage.sharedKeyAccountAccessKey")
        return kept(given, lambda: AzureStore(given.container_name, "", given.options())) if given is not None else None

    def _addresses(self, stage: Stage, lifetime: timedelta, most_bytes: int) -> Addresses | None:  # noqa: ARG002 - the port's
        if self.blob_storage is None:
            return None
        return Addresses(SignedUpload(f"./{OUTPUT}"), SignedUpload(f"./{REPORT}"), lambda: f"./{INPUT}")

    def _start(self, handle: JobHandle, wrapped: Wrapped, spec: TaskSpec, ctx: RunnerContext) -> Mapping[str, Any]:
        longest = self._longest(spec) + spec.grace + timedelta(minutes=2)
        labels = {f"mainstem-{key}": value for key, value in self._labels(spec).items()}
        job = {
            "id": handle.id,
            "poolInfo": {"poolId": self.pool_id},
            "constraints": {"maxWallClockTime": _iso(longest + self.wait_until_running), "maxTaskRetryCount": 0},
            "metadata": [{"name": key, "value": value} for key, value in labels.items()],
        }
        self._call("POST", "/jobs", json=job, accept=(409,))
        task = {
            "id": _task_of(handle),
            "containerSettings": self._container(spec),
            "constraints": {"maxWallClockTime": _iso(longest), "maxTaskRetryCount": 0, "retentionTime": "P1D"},
            "userIdentity": {"autoUser": {"scope": "task", "elevationLevel": "admin"}},
            **self._body(handle, wrapped, spec, ctx),
        }
        self._call("POST", f"/jobs/{handle.id}/tasks", json=task, accept=(409,))
        return {"job": handle.id}

    def _container(self, spec: TaskSpec) -> dict[str, Any]:
        container: dict[str, Any] = {"imageName": spec.image, "workingDirectory": "taskWorkingDirectory"}
        # An entry point of the image would take the command for its arguments.
        container["containerRunOptions"] = "--entrypoint="
        if self.registry is not None:
            container["registry"] = self.registry.described()
        return container

    def _body(self, handle: JobHandle, wrapped: Wrapped, spec: TaskSpec, ctx: RunnerContext) -> dict[str, Any]:
        """Return command line, files and environment. A command line is one text, so it holds nothing but names."""
        store = self._open_store()
        env = dict(wrapped.env)
        if not isinstance(store, AzureStore):
            env["MAINSTEM_SCRIPT"] = _encoded(_BARE + script())
            env["MAINSTEM_RUN"] = _encoded(env["MAINSTEM_RUN"])
            line = 'sh -c \'eval "$(printf %s "$MAINSTEM_SCRIPT" | base64 -d)"\''
            return {"commandLine": line, "environmentSettings": _settings(env)}
        stage = self._stage(handle, ctx)
        stage.put(_SCRIPT, io.BytesIO(script().encode()))
        lifetime = max(_ADDRESS_TIME, self._longest(spec) + self.wait_until_running + timedelta(hours=1))
        target = store.sign_container(lifetime)
        return {
            "commandLine": f"sh ./{_SCRIPT}",
            "environmentSettings": _settings(env),
            "resourceFiles": [
                {"httpUrl": stage.download(name, lifetime), "filePath": name} for name in (INPUT, _SCRIPT)
            ],
            "outputFiles": [
                {
                    "filePattern": name,
                    "destination": {"container": {"containerUrl": target, "path": f"{handle.id}/{name}"}},
                    "uploadOptions": {"uploadCondition": "taskcompletion"},
                }
                for name in (OUTPUT, REPORT)
            ],
        }

    def _find(self, handle: JobHandle, ctx: RunnerContext) -> Mapping[str, Any] | None:  # noqa: ARG002 - the port's
        answer = self._call("GET", self._path(handle), accept=(404,))
        return {"job": handle.id} if answer.is_success else None

    def _seen(self, handle: JobHandle, ctx: RunnerContext) -> Seen:  # noqa: ARG002 - the port's
        answer = self._call("GET", self._path(handle), accept=(404,))
        if not answer.is_success:
            return Seen(Phase.LOST, None, FailureReason.LOST, "Azure Batch does not know the task any more")
        task = answer.json()
        info = task.get("executionInfo", {})
        if task.get("state") != "completed":
            return under_way(handle.data.get("node"), task)
        code = info.get("exitCode")
        failure = info.get("failureInfo") or {}
        message = str(failure.get("message") or (info.get("containerInfo") or {}).get("error") or "") or None
        phase = Phase.SUCCEEDED if info.get("result") == "success" else Phase.FAILED
        reason = _reason(str(failure.get("code", "")), message or "") if code is None else None
        return Seen(phase, code, reason, message)

    def _page(self, handle: JobHandle, since: LogCursor | None, ctx: RunnerContext, *, is_final: bool) -> LogPage:
        token = since.token if since is not None and since.token else "0,0"
        starts = dict(zip(_FILES, map(int, token.split(",")), strict=True))
        lines: list[RawLine] = []
        has_more = False
        for stream, name in _FILES.items():
            content = self._read(handle, name, starts[stream])
            is_full = len(content) >= _CHUNK_BYTES
            fresh, size = file_lines(content, ctx.now(), stream, is_full=is_full, is_final=is_final)
            starts[stream] += size
            lines += fresh
            has_more |= is_full
        after = ",".join(str(starts[stream]) for stream in _FILES)
        return LogPage(lines, after, is_exact=True, has_more=has_more, is_settled=is_final and not has_more)

    def _read(self, handle: JobHandle, name: str, start: int) -> bytes:
        span = {"ocp-range": f"bytes={start}-{start + _CHUNK_BYTES - 1}"}
        answer = self._call("GET", f"{self._path(handle)}/files/{name}", headers=span, accept=(404, 409, 416))
        if not answer.is_success:
            return b""  # it has not begun, is gone, or has nothing behind what was read
        return answer.content if answer.status_code == 206 else answer.content[start : start + _CHUNK_BYTES]

    def cancel(self, handle: JobHandle, grace: timedelta, ctx: RunnerContext) -> None:  # noqa: ARG002 - the port's
        """Terminate the task: Azure kills its container at once, so no files come back."""
        self._call("POST", f"{self._path(handle)}/terminate", accept=(404, 409))

    def _discard(self, handle: JobHandle, ctx: RunnerContext) -> None:  # noqa: ARG002 - the port's
        self._call("DELETE", f"/jobs/{handle.id}", accept=(404, 409))

    def _owned(self, ctx: RunnerContext) -> Iterator[tuple[JobHandle, Mapping[str, str]]]:
        ours = [job for job in self._jobs() if _OWNED in _metadata(job)]
        for job in sorted(ours, key=lambda each: str(each.get("creationTime", ""))):
            handle = JobHandle(self.type, job["id"])
            labels = {key.removeprefix("mainstem-"): value for key, value in _metadata(job).items()}
            yield replace(handle, data=dict(self._find(handle, ctx) or {})), labels

    # --- Azure --------------------------------------------------------------------------------------------------------

    def _jobs(self) -> Iterator[Mapping[str, Any]]:
        path = "/jobs"
        while path:
            page = self._call("GET", path).json()
            yield from (job for job in page.get("value", ()) if job.get("state") not in {"deleting", "completed"})
            path = page.get("odata.nextLink", "")

    def _path(self, handle: JobHandle) -> str:
        return f"/jobs/{handle.id}/tasks/{_task_of(handle)}"

    def _api(self) -> CloudApi:
        if not self.access_key:
            demand_known_host(self.endpoint, _HOSTS, "accessKey")
        auth = BatchKeyAuth(self.account, self.access_key) if self.access_key else TokenAuth(_SCOPE)
        return CloudApi("Azure Batch", self.endpoint.rstrip("/"), auth)

    def _call(self, method: str, path: str, *, accept: tuple[int, ...] = (), **options: Any) -> httpx.Response:
        api = kept(("Azure Batch", self.endpoint, self.account, self.access_key), self._api)
        headers = {"Content-Type": _TYPE} if "json" in options else {}
        headers |= options.pop("headers", {})
        if "api-version=" not in path:
            options["params"] = {"api-version": _VERSION}
        return api.call(method, path, accept=accept, headers=headers, **options)


def under_way(known: str | None, task: Mapping[str, Any]) -> Seen:
    """Return how a task stands that has not ended; `known` is the node that it was seen on before.

    Azure puts the task of a node that is taken away back into its queue. There it would write over its log, so it
    counts as ended, and is started again as a new one.
    """
    node = (task.get("nodeInfo") or {}).get("nodeId")
    is_back = task.get("state") == "active" or node != known
    if task.get("executionInfo", {}).get("requeueCount") or (known is not None and is_back):
        message = f"the node {known or 'of the task'} was taken away"
        return Seen(Phase.FAILED, None, FailureReason.PREEMPTED, message)
    phase = _PHASES.get(str(task.get("state")), Phase.PENDING)
    return Seen(phase, data={"node": node} if node and phase is Phase.RUNNING else {})


def _task_of(handle: JobHandle) -> str:
    return f"task-{handle.id}"[:64]


def _iso(duration: timedelta) -> str:
    return f"PT{max(1, int(duration.total_seconds()))}S"


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()


def _settings(env: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in env.items()]


def _metadata(job: Mapping[str, Any]) -> dict[str, str]:
    return {item["name"]: item["value"] for item in job.get("metadata") or ()}


def _reason(code: str, message: str) -> FailureReason | None:
    text = f"{code} {message}".lower()
    words = {
        FailureReason.IMAGE_PULL: ("image", "pull", "registry"),
        FailureReason.INPUT_FILES: ("resourcecontainer", "blobdownload", "blobaccess", "resource file"),
        FailureReason.DISK_FULL: ("diskfull", "no space left"),
        FailureReason.DEADLINE: ("maxwallclocktime",),
    }
    return next((reason for reason, found in words.items() if any(word in text for word in found)), None)
