"""Runs a task as a local process.

It isolates failures, not people: a body under the user of the server can read what the server can. What it does
promise: a clean environment, limits, and nothing left behind, neither after the end of the body nor when the server or
its supervisor is killed. Bodies are started by the supervisor process of this server (`task_runners.supervisor`), which
the first body starts if the server has not.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import select
import socket
import sys
import termios
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from task_runners.base import (
    Capabilities,
    FailureReason,
    JobHandle,
    JobStatus,
    Limits,
    LogCursor,
    LogLine,
    Phase,
    RunnerContext,
    Stream,
    TaskRunner,
    TaskSpec,
    Usage,
    WorkDir,
)
from task_runners.control_groups import ControlGroups
from task_runners.docker_properties import Size
from task_runners.files import give_to
from task_runners.supervisor import Body, BodyEnd, Supervisor, shared_supervisor

__all__ = ["Process", "body_environment", "outer_path", "status_of"]

_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ")
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_READ_BYTES = 65536


@dataclass(slots=True)
class _Job:
    body: Body
    started: float
    memory_limit: int | None
    groups: ControlGroups
    end: BodyEnd | None = None
    wall_seconds: float = 0.0


class _Properties(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Memory(_Properties):
    """How much memory a body and all it starts may use."""

    memory: Annotated[Size, Field(ge=1)] | None = None


class Cpu(_Properties):
    """How many processors a body may keep busy."""

    cpus: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class Process(TaskRunner):
    """Runs the command on this machine, in the working directory itself.

    Where the server has control groups (`processRunner.cgroup`), each body has one, and `memory`, `processes` and `cpu`
    hold for all of it together, as far as the controller is there. Else `memory_bytes` limits the address space of each
    process, `processes` counts all of the user's (root is exempt), and `cpu` does not hold. `file_bytes` and
    `cpu_seconds` are those of `setrlimit`.
    """

    memory: Memory = Memory()
    cpu: Cpu = Cpu()
    processes: int | None = Field(default=None, ge=1)

    capabilities: ClassVar[Capabilities] = Capabilities(shared_files=True)
    poll_seconds: ClassVar[float] = 0.2

    type: Literal["core.runner.Process", "io.kestra.plugin.core.runner.Process"] = "core.runner.Process"

    _supervisor: Supervisor | None = PrivateAttr(default=None)
    _jobs: dict[str, _Job] = PrivateAttr(default_factory=dict)
    _lock: threading.Lock = PrivateAttr(default_factory=threading.Lock)

    def under(self, supervisor: Supervisor) -> Process:
        """Use `supervisor` instead of the shared one; return this task runner."""
        self._supervisor = supervisor
        return self

    def submit(self, spec: TaskSpec, workdir: WorkDir, ctx: RunnerContext) -> JobHandle:
        """Start the body; see the base class."""
        handle = JobHandle(self.type, f"{spec.task_run_id}-{spec.attempt}", socket.gethostname(), ctx.now())
        for name in ("home", "tmp"):
            (workdir.private / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        if spec.uid is not None:
            give_to(workdir.path, spec.uid)
        ctx.save_handle(handle)
        limits, groups = self.limits(spec.limits), ctx.control_groups
        body = (self._supervisor or shared_supervisor()).start_body(
            spec.command,
            env=body_environment(spec, workdir, ctx.environment),
            cwd=workdir.path,
            uid=spec.uid,
            limits=limits,
            group=(groups.path, handle.id) if groups.path is not None else None,
        )
        with self._lock:
            self._jobs[handle.id] = _Job(body, time.monotonic(), limits.memory_bytes, groups)
        return handle

    def limits(self, given: Limits) -> Limits:
        """Return what a body may use: what the flow says of this task runner, else `given`."""
        return replace(
            given,
            memory_bytes=self.memory.memory or given.memory_bytes,
            processes=self.processes or given.processes,
            cpus=self.cpu.cpus or given.cpus,
        )

    def poll(self, handle: JobHandle, ctx: RunnerContext) -> JobStatus:  # noqa: ARG002 - the clock is the job's own
        """Return where the body stands."""
        job = self._jobs.get(handle.id)
        if job is None:
            return JobStatus(Phase.LOST, failure_reason=FailureReason.LOST, message="no such process is running here")
        return _status(job, self._ended(job, 0))

    def wait(self, handle: JobHandle, ctx: RunnerContext, seconds: float) -> None:  # noqa: ARG002 - polled for cancel
        """Return at the end of the body, or within 0.2 s after a cancel."""
        job = self._jobs.get(handle.id)
        if job is not None:
            self._ended(job, min(seconds, self.poll_seconds))

    def logs(self, handle: JobHandle, since: LogCursor | None, ctx: RunnerContext) -> Iterator[LogLine]:  # noqa: ARG002 - pipes know no past
        """Yield the lines of both pipes as they come, until the body has ended and both are empty."""
        job = self._jobs.get(handle.id)
        if job is None:
            return
        open_pipes = {job.body.stdout: Stream.STDOUT, job.body.stderr: Stream.STDERR}
        poller = select.poll()
        for descriptor in open_pipes:
            poller.register(descriptor, select.POLLIN)
        left: dict[int, int] | None = None  # how much of what the body wrote is in each pipe, once it has ended
        while open_pipes:
            ready = poller.poll(500)
            if left is None and job.end is not None:
                left = {descriptor: _unread(descriptor) for descriptor in open_pipes}
            if left is not None and not any(left[descriptor] > 0 for descriptor in open_pipes):
                return  # somebody outside may hold the other end of a pipe, and write for ever
            for descriptor, _ in ready:
                chunk = os.read(descriptor, _READ_BYTES)
                if left is not None:
                    left[descriptor] -= len(chunk)
                if chunk:
                    yield from ctx.capture.feed(open_pipes[descriptor], chunk)
                else:
                    poller.unregister(descriptor)
                    del open_pipes[descriptor]

    def cancel(self, handle: JobHandle, grace: timedelta, ctx: RunnerContext) -> None:  # noqa: ARG002 - nothing to tell
        """Send SIGTERM to the body's group now and SIGKILL to all it started after `grace`."""
        job = self._jobs.get(handle.id)
        if job is not None:
            job.body.stop(grace.total_seconds())

    def cleanup(self, handle: JobHandle, ctx: RunnerContext) -> None:  # noqa: ARG002 - nothing to tell
        """Kill what still runs and close the pipes."""
        with self._lock:
            job = self._jobs.pop(handle.id, None)
        if job is not None:
            job.body.close()
            if job.end is not None and job.end.lost:
                job.groups.sweep()  # its keeper was killed and could not

    @staticmethod
    def _ended(job: _Job, timeout: float) -> BodyEnd | None:
        if job.end is None:
            end = job.body.wait(timeout)
            if end is not None:
                job.wall_seconds = time.monotonic() - job.started
                job.end = end
        return job.end


def _unread(descriptor: int) -> int:
    """Return how many bytes wait in a pipe."""
    waiting = array.array("i", [0])
    fcntl.ioctl(descriptor, termios.FIONREAD, waiting)
    return waiting[0]


def _status(job: _Job, end: BodyEnd | None) -> JobStatus:
    if end is None:
        return JobStatus(Phase.RUNNING, details={"pid": job.body.pid})
    return status_of(end, job.wall_seconds, memory_limit=job.memory_limit)


def status_of(end: BodyEnd, wall_seconds: float, *, memory_limit: int | None) -> JobStatus:
    """Return how a body ended that had `memory_limit` bytes."""
    usage = Usage(end.peak_memory_bytes, end.cpu_seconds, round(wall_seconds, 6))
    if end.lost:
        message = "the process that watched the body was killed; the body was ended"
        return JobStatus(Phase.LOST, None, FailureReason.LOST, message, usage)
    assert end.exit_code is not None  # only who did not see the end does not know it
    ended = JobStatus.exited(end.exit_code, usage)
    if end.out_of_memory and end.exit_code != 0:
        limit = f" (limit {memory_limit / 1024**2:g} MiB)" if memory_limit else ""
        ended = replace(ended, failure_reason=FailureReason.OOM_KILLED, message=f"out of memory{limit}")
    if end.signal is None:
        return ended
    return replace(ended, message=f"{ended.message} (signal {end.signal})", details={"signal": end.signal})


def body_environment(spec: TaskSpec, workdir: WorkDir, outer: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment of a local body.

    From `outer` come PATH (without the virtual environment of this program, so that scripts get the interpreters of the
    machine), LANG, LC_ALL and TZ. HOME and TMPDIR lie in the working directory. `spec.env` overrides all of these;
    WORKING_DIR does not give way.
    """
    env = {name: outer[name] for name in _INHERITED if name in outer}
    env["PATH"] = outer_path(outer)
    env.setdefault("LANG", "C.UTF-8")
    env["HOME"] = str(workdir.private / "home")
    env["TMPDIR"] = str(workdir.private / "tmp")
    return env | spec.environment(str(workdir.path))


def outer_path(outer: Mapping[str, str]) -> str:
    """Return the PATH of local bodies: that of `outer` without the virtual environment of this program."""
    return _foreign_path(outer.get("PATH") or _DEFAULT_PATH, outer.get("VIRTUAL_ENV"))


def _foreign_path(path: str, virtual_env: str | None) -> str:
    own = {
        Path(prefix, "bin") for prefix in (virtual_env, sys.prefix if sys.prefix != sys.base_prefix else None) if prefix
    }
    with contextlib.suppress(OSError):
        own |= {directory.resolve() for directory in own}
    return os.pathsep.join(part for part in path.split(os.pathsep) if part and Path(part) not in own) or _DEFAULT_PATH
