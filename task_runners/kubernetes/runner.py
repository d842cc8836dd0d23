"""Runs a task in a pod of its own.

The pod's name follows from the attempt, so that two of them never run for one. Nothing that counts is held in this
process: whoever has the handle can go on. Files travel over HTTP where the pod reaches the server, else by `exec`.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from pydantic import Field

from task_runners.base import (
    Capabilities,
    FailureReason,
    JobHandle,
    JobStatus,
    Phase,
    RunnerContext,
    TaskRunnerError,
    TaskSpec,
    WorkDir,
)
from task_runners.docker_container import attempt_of
from task_runners.kubernetes import transfer
from task_runners.kubernetes.api import Api, ApiError, Object
from task_runners.kubernetes.cluster import Cluster, cluster_of, told
from task_runners.kubernetes.manifest import IN_FILES, MAIN, OUT_FILES, ROOT, grace_s, login_secret, pod_of
from task_runners.kubernetes.names import OWNED, PREFIX, label_value, labels_of, name_of, owned_selector
from task_runners.kubernetes.properties import (
    NAMESPACE,
    Config,
    Credentials,
    FileSidecar,
    FileTransfer,
    PullPolicy,
    Resources,
)
from task_runners.kubernetes.states import gone, has_left_files, has_stopped, runs, status_of
from task_runners.log_pages import LogCursor, LogPage
from task_runners.ownership import is_ours
from task_runners.remote import RemoteTaskRunner
from task_runners.staging.port import Staged

__all__ = ["Kubernetes"]

_NAME: Final = "ee.kubernetes.runner.Kubernetes"
_SUBMISSION: Final = "mainstem.io/submission"
_REPLACED_S: Final = 60.0
_CONFLICT: Final = 409
_SOON_S, _LATE_S, _AWAY_S = 0.2, 5.0, 2.0
_AGE_SHARE: Final = 20.0  # a body that ran for a minute and a half is looked at every five seconds


class Kubernetes(RemoteTaskRunner):
    """Runs the command in a new pod; its containers but `out-files` must end for it to have ended.

    Of the limits of a task, `memory_bytes` is enforced. Standard error comes with standard output, as Kubernetes keeps
    them together. What a body had written into files is gone when it was ended by a timeout or a kill.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(
        container=True, reattach=True, remote=True, gpu=True, separate_stderr=False, process_limits=False
    )

    poll_seconds: ClassVar[float] = _SOON_S

    type: Literal["ee.kubernetes.runner.Kubernetes", "io.kestra.plugin.ee.kubernetes.runner.Kubernetes"] = _NAME
    config: Config | None = None
    namespace: str | None = Field(default=None, pattern=NAMESPACE)
    image: str | None = None
    pull_policy: PullPolicy = PullPolicy.ALWAYS
    credentials: Credentials | None = None
    service_account_name: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    node_selector: dict[str, str] = Field(default_factory=dict)
    resources: Resources = Resources()
    pod_spec: dict[str, Any] = Field(default_factory=dict)
    container_spec: dict[str, Any] = Field(default_factory=dict)
    container_default_spec: dict[str, Any] = Field(default_factory=dict)
    file_side_car_spec: dict[str, Any] = Field(default_factory=dict)
    file_sidecar: FileSidecar = FileSidecar()
    file_transfer: FileTransfer = FileTransfer.AUTO
    sync_working_directory: bool = False
    fail_fast_on_image_error: bool = True

    def submit(self, spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext) -> JobHandle:
        """Keep the files, store the handle, make the Secret and the pod; see the base class."""
        image = self.image or spec.image
        if not image:
            raise TaskRunnerError(
                "runner.image.unset", "the task names no container image", hint="set `containerImage` on the task"
            )
        spec = self._synced(spec)
        cluster = self._cluster(ctx)
        name = name_of(spec)
        longest = (spec.timeout or self.wait_until_completion) + self.wait_until_running + timedelta(hours=1)
        files = transfer.staged_files(spec, workdir, ctx, self.file_transfer, longest)
        pod = pod_of(self, name, image, spec, files, ctx.policy)
        data = {
            "root": files.root,
            "staged": files.staged.as_json() if files.staged is not None else None,
            "secret": self.credentials is not None,
        }
        handle = JobHandle(self.type, name, cluster.api.namespace, ctx.now(), data)
        ctx.save_handle(handle)
        try:
            if ctx.cancelled.is_set():
                raise TaskRunnerError(
                    "runner.cancelled", "cancelled before the pod was made", failure_reason=FailureReason.CANCELLED
                )
            with told(cluster, f"to make the pod {name}"):
                if self.credentials is not None:
                    secret = login_secret(name, image, self.credentials, labels_of(spec, {}))
                    self._create(cluster.api, "secrets", secret, spec)
                made = self._create(cluster.api, "pods", pod, spec)
        except BaseException:  # no pod and no secret stay, be it an interrupt
            with contextlib.suppress(TaskRunnerError):  # why it cannot start says more than why nothing can be removed
                self.cleanup(handle, ctx)
            raise
        return _with(handle, uid=made["metadata"]["uid"])

    def poll(self, handle: JobHandle, ctx: RunnerContext) -> JobStatus:
        """Return what the pod's status means; brings input files, and asks for output files, when it is time."""
        cluster = self._cluster(ctx, handle)
        with told(cluster, f"to show the pod {handle.id}", is_waiting=True):
            pod = cluster.informer.pod(handle.id)
            if pod is None or pod["metadata"]["uid"] != handle.data.get("uid", pod["metadata"]["uid"]):
                return gone(cluster.informer.last_of(handle.id))
            events = _events(cluster.api, pod) if pod["status"].get("phase") == "Pending" else []
        status = status_of(pod, events, fails_fast=self.fail_fast_on_image_error)
        if status.phase is Phase.STAGING_IN and handle.data.get("staged") and runs(pod, IN_FILES):
            return self._bring(cluster, handle, status, ctx)
        if status.phase.is_final and has_left_files(pod) and not handle.data.get("out"):
            return self._release_files(cluster, handle, status, ctx)
        return status

    def read_log(self, handle: JobHandle, since: LogCursor | None, ctx: RunnerContext, *, is_final: bool) -> LogPage:
        """Return the next lines of the container `main`."""
        cluster = self._cluster(ctx, handle)
        with told(cluster, f"to show the log of {handle.id}", is_waiting=True):
            return cluster.logs.read(handle.id, MAIN, since, is_final=is_final)

    def cancel(self, handle: JobHandle, grace: timedelta, ctx: RunnerContext) -> None:
        """Delete the pod: SIGTERM now, SIGKILL after `grace`, at least a second."""
        cluster = self._cluster(ctx, handle)
        seconds = grace_s(grace.total_seconds())
        cluster.logs.follow_end(handle.id, MAIN, ctx.progress.cursor, seconds)
        with told(cluster, f"to delete the pod {handle.id}", is_waiting=True):
            cluster.api.delete("pods", handle.id, grace_s=seconds, tries=1)

    def cleanup(self, handle: JobHandle, ctx: RunnerContext) -> None:
        """Remove the pod (kept with `delete: false`, and then let end), its Secret, and what was staged for it."""
        cluster = self._cluster(ctx, handle)
        cluster.logs.forget(handle.id)
        try:
            ctx.stage.remove()
        finally:  # a storage that is away must not let a pod run on
            with told(cluster, f"to delete the pod {handle.id}"):
                self._remove_pod(cluster.api, handle)

    def _remove_pod(self, api: Api, handle: JobHandle) -> None:
        if handle.data.get("secret"):
            api.delete("secrets", handle.id)
        # The pod goes last: by it, whoever tidies up after a crash finds all the rest.
        if self.delete:
            api.delete("pods", handle.id, grace_s=1)
        else:
            with contextlib.suppress(ApiError):  # it has no such container, or ended
                transfer.end_sidecar(api, handle.id)

    def attach(self, spec: TaskSpec, ctx: RunnerContext) -> JobHandle | None:
        """Return the handle of the pod that an earlier worker made for this attempt; None when there is none."""
        stored = ctx.stored_handle
        if stored is None or not self.resume:
            return None
        cluster = self._cluster(ctx, stored)
        with told(cluster, f"to show the pod {stored.id}"):
            pod = cluster.api.pod(stored.id, tries=6)
        labels = (pod["metadata"].get("labels") or {}) if pod is not None else {}
        if pod is None or labels.get(OWNED) != label_value(spec.task_run_id) or not is_ours(labels, ctx, PREFIX):
            return None
        return _with(stored, uid=stored.data.get("uid", pod["metadata"]["uid"]))

    def find(self, labels: Mapping[str, str], ctx: RunnerContext) -> JobHandle | None:
        """Return the one pod that carries all `labels`; None when there is none or several."""
        found = list(self._owned(owned_selector(labels), ctx))
        return found[0] if len(found) == 1 else None

    def list_owned(self, ctx: RunnerContext) -> Iterator[JobHandle]:
        """Yield every pod of this product in the namespace that is not being removed."""
        yield from self._owned(owned_selector(), ctx)

    def collect(self, spec: TaskSpec, workdir: WorkDir, handle: JobHandle, ctx: RunnerContext) -> Mapping[str, Path]:
        """Fetch the files that the pod sent or still keeps, then take the outputs."""
        cluster, out = self._cluster(ctx, handle), handle.data.get("out")
        spec = self._synced(spec)
        if out not in {"sent", "kept"}:
            raise TaskRunnerError(
                "file.outputs.unreadable",
                "the pod was gone before its files could be fetched",
                failure_reason=FailureReason.OUTPUT_FILES,
            )
        with told(cluster, f"to hand out the files of the pod {handle.id}"):
            transfer.fetch(
                cluster.api,
                handle.id,
                spec,
                workdir,
                ctx,
                root=handle.data["root"],
                is_sent=out == "sent",
                is_over=_over(cluster, handle, OUT_FILES, ctx),
            )
        return super().collect(spec, workdir, handle, ctx)

    def interval(self, status: JobStatus | None) -> float:
        """Return the seconds until the next look: short at first and around the end, longer while a pod goes on."""
        if status is None:
            return _AWAY_S
        if status.phase.is_final or status.phase is Phase.STAGING_OUT:
            return _SOON_S
        return max(_SOON_S, min((status.usage.wall_seconds or 0.0) / _AGE_SHARE, _LATE_S))

    # --- steps --------------------------------------------------------------------------------------------------------

    def _cluster(self, ctx: RunnerContext, handle: JobHandle | None = None) -> Cluster:
        namespace = self.namespace if handle is None else handle.node
        return cluster_of(self.config, namespace, ctx.environment)

    def _synced(self, spec: TaskSpec) -> TaskSpec:
        return replace(spec, sync_workdir=True) if self.sync_working_directory else spec

    def _create(self, api: Api, resource: str, obj: Object, spec: TaskSpec) -> Object:
        """Create an object. One of its name is what an earlier life of this attempt left: it is replaced.

        Raises:
            ApiError: it cannot be made, or somebody else's has its name.
        """
        submission = uuid.uuid4().hex
        meta = {**obj["metadata"], "annotations": {**obj["metadata"].get("annotations", {}), _SUBMISSION: submission}}
        try:
            return api.create(resource, {**obj, "metadata": meta})
        except ApiError as error:
            if error.code != _CONFLICT:
                raise
            if resource == "pods":
                found = api.pod(obj["metadata"]["name"])
                if found is not None and (found["metadata"].get("annotations") or {}).get(_SUBMISSION) == submission:
                    return found  # the answer to our request was lost, not the request
                if found is not None and found["metadata"]["labels"].get(OWNED) != label_value(spec.task_run_id):
                    raise
        api.delete(resource, obj["metadata"]["name"], grace_s=1)
        return self._create_when_gone(api, resource, {**obj, "metadata": meta})

    def _create_when_gone(self, api: Api, resource: str, obj: Object) -> Object:
        until = time.monotonic() + _REPLACED_S
        while True:
            try:
                return api.create(resource, obj)
            except ApiError as error:
                if error.code != _CONFLICT or time.monotonic() > until:
                    raise
            time.sleep(_SOON_S)

    def _bring(self, cluster: Cluster, handle: JobHandle, status: JobStatus, ctx: RunnerContext) -> JobStatus:
        is_over = _over(cluster, handle, IN_FILES, ctx)
        try:
            fault = None
            if transfer.is_wanted(cluster.api, handle.id, is_over):
                fault = transfer.bring(cluster.api, handle.id, Staged.from_json(handle.data["staged"]), ctx, is_over)
        except ApiError as error:
            # The container may just have ended, and a connection may break: the next look decides.
            fault = f"files may not be brought to the pod: {error.message}" if error.code in {401, 403} else None
        return (
            status
            if fault is None
            else replace(status, phase=Phase.FAILED, failure_reason=FailureReason.INPUT_FILES, message=fault)
        )

    def _release_files(self, cluster: Cluster, handle: JobHandle, status: JobStatus, ctx: RunnerContext) -> JobStatus:
        """Return the status of an ended task with how its files left the pod; not final while they are on their way."""
        try:
            out = transfer.ask_how_files_left(cluster.api, handle.id, _over(cluster, handle, OUT_FILES, ctx))
        except ApiError as error:
            if error.may_pass and error.code != 500:
                with told(cluster, f"to run a command in the pod {handle.id}", is_waiting=True):
                    raise
            out = "refused"
        if not out:
            return replace(status, phase=Phase.STAGING_OUT, exit_code=None, failure_reason=None, message=None)
        return replace(status, handle=_with(handle, out=out))

    def _owned(self, selector: str, ctx: RunnerContext) -> Iterator[JobHandle]:
        cluster = self._cluster(ctx)
        with told(cluster, "to list pods"):
            _, pods = cluster.api.pods(selector)
        for pod in pods:
            meta = pod["metadata"]
            if not meta.get("deletionTimestamp") and is_ours(meta["labels"], ctx, PREFIX):
                created = datetime.fromisoformat(meta["creationTimestamp"]).astimezone(UTC)
                data = {"uid": meta["uid"], "root": (meta.get("annotations") or {}).get(ROOT), "secret": True}
                owner = attempt_of(meta.get("labels") or {})
                yield JobHandle(self.type, meta["name"], meta["namespace"], created, data, owner)


def _over(cluster: Cluster, handle: JobHandle, container: str, ctx: RunnerContext) -> Callable[[], bool]:
    """Return what tells that a command in a container need not be waited for: the task is killed, or that has ended."""

    def is_over() -> bool:
        pod = cluster.informer.last_of(handle.id)
        if ctx.cancelled.is_set() or pod is None:
            return ctx.cancelled.is_set()
        return pod["metadata"]["uid"] == handle.data.get("uid") and has_stopped(pod, container)

    return is_over


def _with(handle: JobHandle, **data: Any) -> JobHandle:
    return replace(handle, data={**handle.data, **data})


def _events(api: Api, pod: Object) -> list[Object]:
    try:
        return api.events(pod["metadata"]["uid"])
    except ApiError:
        return []  # they only explain; a role may leave them out
