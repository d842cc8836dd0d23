"""Runs a task in a container of a Docker or Podman daemon.

Files are copied in and out through the API, so the daemon may be elsewhere. The log is attached to before the start,
since that is the only way that never loses a line. Containers get no capability, no new privileges, at most 512
processes and an init process that passes SIGTERM on.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, PrivateAttr

from task_runners.base import (
    Capabilities,
    FailureReason,
    JobHandle,
    JobStatus,
    LogCursor,
    LogLine,
    Phase,
    RunnerContext,
    Stream,
    TaskRunner,
    TaskRunnerError,
    TaskSpec,
    WorkDir,
)
from task_runners.docker_archive import archives_of
from task_runners.docker_container import (
    OWNED_LABEL,
    PREFIX,
    attempt_of,
    container_description,
    is_kept,
    label_value,
    owner_of,
)
from task_runners.docker_end import DENIED, SETTLING_S, denied, has_ended, is_unexplained, removed, status_of
from task_runners.docker_faults import cancelled, not_startable
from task_runners.docker_log import StoredLog, frames_of
from task_runners.docker_properties import (
    Cpu,
    Credentials,
    DeviceRequest,
    FileHandling,
    Memory,
    PullPolicy,
    Size,
)
from task_runners.docker_pull import login, pull
from task_runners.docker_removal import CONFLICT, clear, remove
from task_runners.outputs import PRIVATE
from task_runners.ownership import is_ours
from task_runners.staging.direct import TarStream
from task_runners.staging.port import Staged

__all__ = ["Docker"]

APIClient = Any  # docker.APIClient, imported at first use; its type stubs cover a part of it only

_API_TIMEOUT_S = 60
_CLOSING_S = 2.0
_DEFAULT_HOST = "unix:///var/run/docker.sock"


@dataclass(slots=True)
class _Job:
    workdir: Path
    attached: Any = None  # the socket of the attach call
    log_ended: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)  # the container was seen to have ended
    kill_at: float | None = None
    killed_at: float | None = None  # when a kill was first seen that nobody here asked for
    polls_after_log: int = 0
    was_denied: bool = False  # the output said so

    def heard(self, piece: bytes) -> bytes:
        """Return a piece of the output, after a look at it."""
        self.was_denied = self.was_denied or DENIED.encode() in piece
        return piece

    def may_vanish(self, state: Mapping[str, Any], now: float) -> bool:
        """Return whether whoever killed the container may be about to remove it, too."""
        if self.kill_at is not None or not is_unexplained(state):
            return False
        self.killed_at = now if self.killed_at is None else self.killed_at
        return now - self.killed_at < SETTLING_S

    def detach(self) -> None:
        """Close the connection of the attach call."""
        attached, self.attached = self.attached, None
        if attached is not None:
            with contextlib.suppress(OSError):
                attached._response.close()  # noqa: SLF001 - where docker-py keeps what owns the connection


class Docker(TaskRunner):
    """Runs the command in a new container of the task's image.

    Of the limits of a task, `memory_bytes` and `processes` are enforced for the container as a whole, the others for
    each of its processes. Links that a body makes in its working directory do not come back.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(container=True, reattach=True, gpu=True)
    poll_seconds: ClassVar[float] = 0.5

    type: Literal["scripts.runner.docker.Docker", "io.kestra.plugin.scripts.runner.docker.Docker"] = (
        "scripts.runner.docker.Docker"
    )
    host: str | None = None
    config: dict[str, Any] | str | None = None
    credentials: Credentials | None = None
    image: str | None = None
    user: str | None = None
    entry_point: tuple[str, ...] = ("",)
    extra_hosts: tuple[str, ...] = ()
    network_mode: str | None = None
    port_bindings: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    pull_policy: PullPolicy = PullPolicy.IF_NOT_PRESENT
    device_requests: tuple[DeviceRequest, ...] = ()
    cpu: Cpu = Cpu()
    memory: Memory = Memory()
    shm_size: Size | None = None
    privileged: bool = False
    file_handling_strategy: FileHandling = FileHandling.VOLUME
    delete: bool = True
    wait_for_end: bool = Field(default=True, alias="wait")
    kill_grace_period: timedelta | None = None
    resume: bool = True

    _jobs: dict[str, _Job] = PrivateAttr(default_factory=dict)
    _clients: dict[str, APIClient] = PrivateAttr(default_factory=dict)
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    def submit(self, spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext) -> JobHandle:
        """Fetch the image, make the container, copy the files, start it; see the base class."""
        image = self.image or spec.image
        if not image:
            raise TaskRunnerError(
                "runner.image.unset", "the task names no container image", hint="set `containerImage` on the task"
            )
        with self._talking(ctx) as client:
            user = self._image(client, image, ctx, spec.timeout)
            container = self._create(client, image, spec, workdir, ctx)
            place = {**self._machine(ctx), "root": str(workdir.path)}
            handle = JobHandle(self.type, container, self._host(ctx), ctx.now(), place)
            job = self._jobs[container] = _Job(workdir.path)
            try:
                ctx.save_handle(handle)
                if self._must_send(workdir, self.user or user):
                    self._staging(client, container, workdir.path, self.user or user).put(spec, workdir, ctx)
                if ctx.cancelled.is_set():
                    raise cancelled("cancelled before the container started")
                job.attached = client.attach_socket(container, {"stdout": 1, "stderr": 1, "stream": 1})
                self._begin(client, container, spec)
            except BaseException:  # no container stays, be it an interrupt
                self._jobs.pop(container, None)
                job.detach()
                remove(client, container)
                raise
        return handle

    def poll(self, handle: JobHandle, ctx: RunnerContext) -> JobStatus:
        """Return what the daemon says of the container, and kill it when its grace has passed."""
        import docker.errors

        details = {"containerId": handle.id}
        if not self.wait_for_end:
            return JobStatus(Phase.SUCCEEDED, 0, details=details)
        job = self._job(handle)
        with self._talking(ctx) as client:
            try:
                state = client.inspect_container(handle.id)
            except docker.errors.NotFound:
                job.over.set()
                return removed(details)
            if job.kill_at is not None and ctx.clock() >= job.kill_at and state["State"]["Running"]:
                _signal(client, handle.id, "SIGKILL")
        if not has_ended(state) or job.may_vanish(state, ctx.clock()):
            return JobStatus(Phase.RUNNING, details=details)
        job.over.set()
        job.log_ended.wait(1)
        status = status_of(state, details)
        return denied(status, ctx.policy.capabilities) if job.was_denied and not self.privileged else status

    def wait(self, handle: JobHandle, ctx: RunnerContext, seconds: float) -> None:
        """Return when the log has ended, which is when the container ends, or soon after a cancel."""
        job = self._job(handle)
        if job.log_ended.is_set():
            # A body may close its output long before it ends: look often at first, then less and less.
            job.polls_after_log += 1
            self.pause(ctx, min(seconds, self.poll_seconds, 0.01 * 2 ** min(job.polls_after_log, 8)))
        elif job.kill_at is not None or ctx.cancelled.is_set():
            job.log_ended.wait(min(seconds, 0.1))
        else:
            job.log_ended.wait(min(seconds, self.poll_seconds))

    def logs(self, handle: JobHandle, since: LogCursor | None, ctx: RunnerContext) -> Iterator[LogLine]:
        """Yield the lines of the attached container; without a connection by reading its log each half second."""
        job = self._job(handle)
        try:
            if not self.wait_for_end:
                return
            if job.attached is not None:
                for stream, piece in frames_of(job.attached):
                    yield from ctx.capture.feed(stream, job.heard(piece))
                job.log_ended.set()
                if not self._goes_on(handle, job, ctx):
                    return
                ctx.capture.forget_unfinished()  # it comes again as a whole
            # What was told so far came by a connection, in this life of the attempt or an earlier one.
            for stream, piece in self._stored_log(handle, StoredLog(ctx.capture.counts, since), ctx):
                yield from ctx.capture.feed(stream, job.heard(piece))
        finally:
            job.log_ended.set()

    def cancel(self, handle: JobHandle, grace: timedelta, ctx: RunnerContext) -> None:
        """Send SIGTERM now and SIGKILL after `killGracePeriod`, or `grace` when that is not set."""
        seconds = (grace if self.kill_grace_period is None else self.kill_grace_period).total_seconds()
        job = self._job(handle)
        at = ctx.clock() + seconds
        job.kill_at = at if job.kill_at is None else min(at, job.kill_at)
        with self._talking(ctx) as client:
            _signal(client, handle.id, "SIGTERM" if seconds > 0 else "SIGKILL")

    def cleanup(self, handle: JobHandle, ctx: RunnerContext) -> None:
        """Remove the container unless `delete` is false; one that still runs is killed, unless nobody waits for it."""
        import docker.errors

        with self._lock:
            job = self._jobs.pop(handle.id, None)
        with self._talking(ctx) as client, contextlib.suppress(docker.errors.NotFound):
            if not self.wait_for_end and client.inspect_container(handle.id)["State"]["Running"]:
                pass  # it goes on; whoever tidies up finds it when it has ended
            elif self.delete:
                remove(client, handle.id)
            else:
                _signal(client, handle.id, "SIGKILL")
        if job is not None:
            job.detach()
        self.close()

    def close(self) -> None:
        """Close the connections to the daemon when no job needs them."""
        with self._lock:
            if not self._jobs:
                for client in self._clients.values():
                    client.close()
                self._clients.clear()

    def find(self, labels: Mapping[str, str], ctx: RunnerContext) -> JobHandle | None:
        """Return the newest container of ours that carries all `labels` (without prefix), or None."""
        wanted = [f"mainstem.io/{key}={label_value(value)}" for key, value in labels.items()]
        with self._talking(ctx) as client:
            found = client.containers(all=True, filters={"label": wanted})
        found = [each for each in found if is_ours(each["Labels"], ctx, PREFIX)]
        newest = max(found, key=lambda container: container["Created"], default=None)
        return self._handle(newest, ctx) if newest is not None else None

    def list_owned(self, ctx: RunnerContext) -> Iterator[JobHandle]:
        """Yield every container that this product made, also ended ones."""
        with self._talking(ctx) as client:
            found = client.containers(all=True, filters={"label": [OWNED_LABEL]})
        ours = [each for each in found if is_ours(each["Labels"], ctx, PREFIX) and not is_kept(each)]
        yield from (self._handle(container, ctx) for container in ours)

    def attach(self, spec: TaskSpec, ctx: RunnerContext) -> JobHandle | None:
        """Return the container that an earlier process started for this attempt; one that never started is removed."""
        stored = ctx.stored_handle
        if not self.resume or stored is None or stored.data.get("machine") != self._machine(ctx).get("machine"):
            return None
        with self._talking(ctx) as client:
            labels = [f"{OWNED_LABEL}={label_value(spec.task_run_id)}", f"mainstem.io/taskrun-attempt={spec.attempt}"]
            found = client.containers(all=True, filters={"id": stored.id, "label": labels})
            if not found or not is_ours(found[0]["Labels"], ctx, PREFIX):
                return None
            if found[0]["State"] == "created":
                remove(client, found[0]["Id"])
                return None
        return replace(self._handle(found[0], ctx), data=stored.data)

    def collect(self, spec: TaskSpec, workdir: WorkDir, handle: JobHandle, ctx: RunnerContext) -> Mapping[str, Path]:
        """Copy the files out of the container that the task names, or all of them, then take the outputs."""
        import docker.errors

        # Another worker may have started it, whose folder of working directories is another one.
        root = Path(handle.data.get("root", workdir.path))
        if self.file_handling_strategy is FileHandling.VOLUME or root != workdir.path:
            with self._talking(ctx) as client:
                try:
                    staging = self._staging(client, handle.id, root)
                    staging.get(Staged(str(workdir.path)), spec, workdir, ctx)
                except docker.errors.NotFound as error:
                    raise TaskRunnerError(
                        "file.outputs.unreadable",
                        f"the container has no directory {root} any more",
                        failure_reason=FailureReason.OUTPUT_FILES,
                    ) from error
        return super().collect(spec, workdir, handle, ctx)

    # --- the daemon ---------------------------------------------------------------------------------------------------

    def _host(self, ctx: RunnerContext) -> str:
        return self.host or ctx.environment.get("DOCKER_HOST") or _DEFAULT_HOST

    @contextlib.contextmanager
    def _talking(self, ctx: RunnerContext) -> Iterator[APIClient]:
        """Give the client; what goes wrong on the way to the daemon comes out as one error with a hint."""
        import docker
        import docker.errors
        import requests

        host = self._host(ctx)
        try:
            with self._lock:
                client = self._clients.get(host)
                if client is None:
                    _check_socket(host)
                    options = {} if self.host else docker.utils.kwargs_from_env(environment=dict(ctx.environment))
                    options["base_url"] = host
                    client = docker.APIClient(timeout=_API_TIMEOUT_S, version="auto", **options)
                    self._clients[host] = client
            yield client
        except docker.errors.APIError as error:
            raise TaskRunnerError(
                "runner.daemon.refused",
                f"the Docker daemon at {host} refused: {str(error.explanation or error)[:300]}",
                failure_reason=FailureReason.UNAVAILABLE,
            ) from error
        except (docker.errors.DockerException, requests.exceptions.RequestException) as error:
            raise TaskRunnerError(
                "runner.daemon.unreachable",
                f"no Docker daemon answers at {host}: {str(error)[:300]}",
                hint="start it, set `host` or DOCKER_HOST, or use the task runner core.runner.Process",
                failure_reason=FailureReason.UNAVAILABLE,
            ) from error

    def _job(self, handle: JobHandle) -> _Job:
        with self._lock:
            return self._jobs.setdefault(handle.id, _Job(Path()))

    def _handle(self, container: Mapping[str, Any], ctx: RunnerContext) -> JobHandle:
        created = datetime.fromtimestamp(container["Created"], UTC)
        owner = attempt_of(container["Labels"])
        return JobHandle(self.type, container["Id"], self._host(ctx), created, self._machine(ctx), owner)

    def _machine(self, ctx: RunnerContext) -> dict[str, str]:
        # The same path of a socket is another daemon on another machine.
        return {"machine": socket.gethostname()} if self._host(ctx).startswith("unix:") else {}

    # --- before the start ---------------------------------------------------------------------------------------------

    def _image(self, client: APIClient, image: str, ctx: RunnerContext, timeout: timedelta | None) -> str:
        """Have the image at the daemon as the pull policy says; return the user it runs as."""
        import docker.errors

        try:
            if self.pull_policy is not PullPolicy.ALWAYS:
                return str(client.inspect_image(image)["Config"].get("User") or "")
        except docker.errors.ImageNotFound:
            if self.pull_policy is PullPolicy.NEVER:
                raise TaskRunnerError(
                    "runner.image.missing",
                    f"the image {image!r} is not at the daemon, and `pullPolicy: NEVER` forbids to fetch it",
                    failure_reason=FailureReason.IMAGE_PULL,
                ) from None
        pull(client, image, login(image, self.credentials, self.config), ctx, timeout)
        return str(client.inspect_image(image)["Config"].get("User") or "")

    def _create(self, client: APIClient, image: str, spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext) -> str:
        import docker.errors

        # A copy of a database has the same task runs: theirs would take each other's name, and be removed for it.
        name = "-".join(["tr", *filter(None, [ctx.installation]), spec.task_run_id, str(spec.attempt)])
        try:
            description = container_description(self, image, spec, workdir, ctx.policy)
            return str(client.create_container_from_config(description, name)["Id"])
        except ValueError as error:
            raise TaskRunnerError("runner.property.invalid", str(error)) from error
        except docker.errors.APIError as error:
            if error.status_code != CONFLICT:
                raise not_startable(error, spec) from error
            # The name says that it is of this very attempt: what an earlier life left, and nobody follows.
            clear(client, name)
            return str(client.create_container_from_config(description, name)["Id"])

    def _must_send(self, workdir: WorkDir, user: str) -> bool:
        """Return whether the directory has to be sent: the daemon makes an empty one by itself, which root owns."""
        if self.file_handling_strategy is not FileHandling.VOLUME:
            return False
        return owner_of(user) != 0 or any(path.name != PRIVATE for path in workdir.path.iterdir())

    @staticmethod
    def _staging(client: APIClient, container: str, root: Path, user: str = "") -> TarStream:
        return TarStream(
            send=lambda archive: client.put_archive(container, "/", archive),
            fetch=lambda spec: archives_of(client, container, str(root), spec),
            prefix=str(root).lstrip("/"),  # the directory itself travels too: its owner and mode matter
            owner=owner_of(user),
        )

    @staticmethod
    def _begin(client: APIClient, container: str, spec: TaskSpec) -> None:
        import docker.errors

        try:
            client.start(container)
        except docker.errors.APIError as error:
            raise not_startable(error, spec) from error

    # --- the log as the daemon stored it ------------------------------------------------------------------------------

    def _goes_on(self, handle: JobHandle, job: _Job, ctx: RunnerContext) -> bool:
        """Return whether the container goes on without its connection, as it does when its daemon is restarted.

        Between the end of its output and its own there is a moment, within which whoever polls sees it.
        """
        if job.over.wait(_CLOSING_S):
            return False
        try:
            with self._talking(ctx) as client:
                return bool(client.inspect_container(handle.id)["State"]["Running"])
        except TaskRunnerError:
            return True  # who reads the stored log waits for the daemon

    def _stored_log(self, handle: JobHandle, log: StoredLog, ctx: RunnerContext) -> Iterator[tuple[Stream, bytes]]:
        """Yield what the daemon stored, piece by piece, each once.

        Following the log loses its last line now and then and attaching anew its first ones (both measured), so it is
        read again and again, and once more after the end. A daemon that is away for long ends it: that the job is lost
        then is for `poll` to say.
        """
        reached_at, is_last = ctx.clock(), False
        while True:
            try:
                with self._talking(ctx) as client:
                    is_running, pieces = log.look(client, handle.id)
            except TaskRunnerError:
                if ctx.clock() - reached_at > self.patience_s:
                    return
                self.pause(ctx, self.poll_seconds)
                continue
            reached_at = ctx.clock()
            yield from pieces
            if is_last:
                return
            is_last = not is_running
            if is_running:
                self.pause(ctx, self.poll_seconds)


def _check_socket(host: str) -> None:
    # The client finds out by itself, but leaves a socket open and says it in five nested exceptions.
    import docker.errors

    if host.startswith("unix://"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as trial:
            trial.settimeout(_API_TIMEOUT_S)
            try:
                trial.connect(host.removeprefix("unix://"))
            except OSError as error:
                raise docker.errors.DockerException(error.strerror or str(error)) from error


def _signal(client: APIClient, container: str, name: str) -> None:
    import docker.errors

    with contextlib.suppress(docker.errors.APIError):  # it has ended, or is gone
        client.kill(container, name)
