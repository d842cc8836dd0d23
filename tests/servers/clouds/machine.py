"""A machine of a cloud that runs one container, with what it wrote and how it ended."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import docker
import docker.errors

from tests.servers.kubernetes.containers import _frames

STREAMS = {1: "stdout", 2: "stderr"}


@dataclass(frozen=True)
class Entry:
    """One line, with its moment to the microsecond; moments only grow."""

    at: datetime
    stream: str
    text: bytes


@dataclass
class Job:
    """One job, from its request to its end. `state` is `waiting`, `running` or `ended`."""

    name: str
    request: dict[str, Any]
    state: str = "waiting"
    exit_code: int | None = None
    error: str = ""
    was_cancelled: bool = False
    was_taken: bool = False
    entries: list[Entry] = field(default_factory=list)
    content: dict[str, bytes] = field(default_factory=lambda: {"stdout": b"", "stderr": b""})
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    container: str = ""


class Machines:
    """Runs jobs on one Docker daemon."""

    def __init__(self, docker_host: str, grace_s: float = 1.0) -> None:
        self._client: Any = docker.APIClient(base_url=docker_host, timeout=60)
        self._grace_s = grace_s
        self._lock = threading.Lock()

    def start(
        self,
        job: Job,
        image: str,
        command: Sequence[str],
        env: Mapping[str, str],
        binds: Sequence[str] = (),
        workdir: str = "",
    ) -> None:
        """Start the container of a job; one that cannot start ends the job with the daemon's words."""
        try:
            made = self._client.create_container_from_config(
                {
                    "Image": image,
                    "Entrypoint": list(command[:1]),
                    "Cmd": list(command[1:]),
                    "WorkingDir": workdir,
                    "Env": [f"{name}={value}" for name, value in env.items()],
                    "AttachStdout": True,
                    "AttachStderr": True,
                    "Labels": {"mainstem-test": "cloud"},
                    "HostConfig": {"NetworkMode": "host", "Binds": list(binds)},
                }
            )
            job.container = made["Id"]
            attached = self._client.attach_socket(job.container, {"stdout": 1, "stderr": 1, "stream": 1})
            self._client.start(job.container)
        except docker.errors.APIError as error:
            job.error, job.state = f"failed to pull or start {image}: {error.explanation}", "ended"
            return
        job.state = "running"
        threading.Thread(target=self._follow, args=[job, attached], daemon=True).start()

    def _follow(self, job: Job, attached: Any) -> None:
        partial = {1: b"", 2: b""}
        for stream, chunk in _frames(attached.read):
            job.content[STREAMS[stream]] += chunk
            *whole, partial[stream] = (partial[stream] + chunk).split(b"\n")
            self._keep(job, stream, whole)
        attached._response.close()
        for stream, rest in partial.items():
            self._keep(job, stream, [rest] if rest else [])
        try:
            job.exit_code = int(self._client.wait(job.container)["StatusCode"])
        except docker.errors.NotFound:
            return  # the job was deleted with its container: nobody asks how it ended
        self.after(job)
        job.state = "ended"

    def after(self, job: Job) -> None:
        """Do what the engine does between the end of the container and that of the job."""

    def _keep(self, job: Job, stream: int, lines: Sequence[bytes]) -> None:
        with self._lock:
            last = job.entries[-1].at if job.entries else datetime.fromtimestamp(0, UTC)
            for line in lines:
                last = max(datetime.now(UTC), last.replace(microsecond=last.microsecond))
                job.entries.append(Entry(last, STREAMS[stream], line))

    def stop(self, job: Job) -> None:
        """Ask the container to end, and force it after the grace of this cloud."""
        job.was_cancelled = True

        def end() -> None:
            self._signal(job, "SIGTERM")
            deadline = time.monotonic() + self._grace_s
            while job.state == "running" and time.monotonic() < deadline:
                time.sleep(0.02)
            self._signal(job, "SIGKILL")

        threading.Thread(target=end, daemon=True).start()

    def take_away(self, job: Job) -> None:
        """Let the machine of a job go, as a cloud does with spot capacity, and with it the container."""
        job.was_taken = True
        self._signal(job, "SIGKILL")

    def _signal(self, job: Job, name: str) -> None:
        if job.container and job.state == "running":
            with contextlib.suppress(docker.errors.APIError):
                self._client.kill(job.container, name)

    def remove(self, job: Job) -> None:
        """Remove the container, running or not."""
        if job.container:
            with contextlib.suppress(docker.errors.APIError):
                self._client.remove_container(job.container, force=True, v=True)

    def close(self) -> None:
        self._client.close()
