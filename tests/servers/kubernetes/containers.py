"""One container of a pod, as a Docker container."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import docker.errors

from tests.servers.kubernetes.logs import Log

__all__ = ["Container", "NotStarted", "Process", "quantity"]

_FRAME = struct.Struct(">BxxxL")
_FORGOTTEN_S = 0.5
_POWERS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "k": 10**3, "M": 10**6, "G": 10**9, "m": 1e-3, "": 1}


class NotStarted(Exception):  # noqa: N818 - it is what a state says
    """The container runtime cannot start it."""


def quantity(text: str | float | None) -> float:
    """Return the number that a resource quantity (`128Mi`, `500m`) means."""
    number = str(text or 0)
    suffix = next((each for each in _POWERS if each and number.endswith(each)), "")
    return float(number.removesuffix(suffix)) * _POWERS[suffix]


@dataclass(frozen=True)
class Process:
    """A command in a running container: the socket that carries its streams, and how to learn its exit code."""

    connection: Any
    socket: Any
    """The socket itself, under what docker-py puts around it."""
    exit_code: Callable[[], int | None]

    def close(self) -> None:
        """End the connection; it may have ended."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.connection._response.close()

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """Yield what the command writes."""
        yield from _frames(self.socket.recv)


class Container:
    """A container with its log; each belongs to one pod and is started once."""

    def __init__(
        self,
        client: Any,
        image: str,
        spec: Mapping[str, Any],
        mounts: Mapping[str, str],
        wake: Callable[[], None],
        processes: str = "",
    ) -> None:
        self.name = str(spec["name"])
        self.spec = spec
        self.log = Log(wake)
        self.id = ""
        self.started_at = ""
        self.state: dict[str, Any] | None = None
        """The `terminated` state, once it has ended."""
        self._client, self._image, self._mounts, self._wake = client, image, mounts, wake
        self._processes = processes
        self._ended = threading.Event()
        self._commands: list[Process] = []

    def start(self, env: Mapping[str, str]) -> None:
        """Make and start it. Raises `NotStarted`."""
        created = self._client.create_container_from_config(self._description(env))
        self.id = created["Id"]
        attached = self._client.attach_socket(self.id, {"stdout": 1, "stderr": 1, "stream": 1})
        try:
            self._client.start(self.id)
        except docker.errors.APIError as error:
            attached._response.close()
            self.log.end()
            self.state = self._terminated(128, "StartError", f"failed to create containerd task: {error.explanation}")
            raise NotStarted(str(error.explanation)) from error
        self.started_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        threading.Thread(target=self._follow, args=[attached], daemon=True).start()

    def _description(self, env: Mapping[str, str]) -> dict[str, Any]:
        spec, security = self.spec, self.spec.get("securityContext") or {}
        limits = (spec.get("resources") or {}).get("limits") or {}
        memory = int(quantity(limits.get("memory")))
        user = security.get("runAsUser")
        return {
            "Image": self._image,
            "Entrypoint": spec.get("command") or None,
            "Cmd": spec.get("args") or ([] if spec.get("command") else None),
            "WorkingDir": spec.get("workingDir") or "",
            "Env": [f"{name}={value}" for name, value in env.items()],
            "User": "" if user is None else f"{user}:{security.get('runAsGroup', 0)}",
            "AttachStdout": True,
            "AttachStderr": True,
            "Labels": {"mainstem-test": "kubernetes"},
            "HostConfig": {
                "Binds": [f"{self._mounts[m['name']]}:{m['mountPath']}" for m in spec.get("volumeMounts") or []],
                "NetworkMode": "host",  # all containers of a pod share a network; this node's only pods have its own
                "PidMode": self._processes,
                "Memory": memory,
                "MemorySwap": memory,
                "NanoCpus": int(quantity(limits.get("cpu")) * 10**9),
                "CapDrop": (security.get("capabilities") or {}).get("drop") or None,
                "SecurityOpt": ["no-new-privileges"] if security.get("allowPrivilegeEscalation") is False else None,
                "ReadonlyRootfs": bool(security.get("readOnlyRootFilesystem")),
            },
        }

    def _follow(self, attached: Any) -> None:
        for stream, chunk in _frames(attached.read):
            self.log.feed(stream, chunk)
        attached._response.close()
        self._client.wait(self.id)
        state = self._client.inspect_container(self.id)["State"]
        code = int(state["ExitCode"])
        reason = "OOMKilled" if state.get("OOMKilled") else "Error" if code else "Completed"
        self.state = self._terminated(code, reason)
        self.log.end()
        self._ended.set()
        self._wake()
        self._end_commands()

    def _end_commands(self) -> None:
        """Let no command outlast the container.

        Docker forgets those that end in the same moment as a container which shares its processes with others: nobody
        would ever hear of their end, as one does from a kubelet.
        """
        time.sleep(_FORGOTTEN_S)
        for command in self._commands:
            command.close()

    def _terminated(self, code: int, reason: str, message: str | None = None) -> dict[str, Any]:
        ended = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        state = {"exitCode": code, "reason": reason, "startedAt": self.started_at or ended, "finishedAt": ended}
        return state | {"containerID": f"docker://{self.id}"} | ({} if message is None else {"message": message})

    def signal(self, name: str) -> None:
        """Send its first process a signal, if it runs."""
        if self.id and self.state is None:
            with contextlib.suppress(docker.errors.APIError):
                self._client.kill(self.id, name)

    def wait(self, seconds: float) -> bool:
        """Return whether it has ended within `seconds`; at once for one that never ran."""
        return not self.id or self.state is not None or self._ended.wait(seconds)

    def remove(self) -> None:
        """Remove it, running or not; its log stays."""
        if self.id:
            with contextlib.suppress(docker.errors.APIError):
                self._client.remove_container(self.id, force=True, v=True)

    def execute(self, command: list[str], *, with_input: bool) -> Process:
        """Start a command in the running container."""
        started = self._client.exec_create(self.id, command, stdin=with_input)["Id"]
        connection = self._client.exec_start(started, socket=True)
        process = Process(connection, connection._sock, lambda: self._exit_code(started))
        self._commands.append(process)
        return process

    def _exit_code(self, command: str) -> int | None:
        """Return how a command ended; None when nobody knows."""
        try:
            code: int | None = self._client.exec_inspect(command)["ExitCode"]
        except docker.errors.NotFound:
            return None
        return code


def _frames(read: Callable[[int], bytes | None]) -> Iterator[tuple[int, bytes]]:
    """Yield the stream number and the content of each frame of a Docker stream until its end."""
    while header := _exactly(read, _FRAME.size):
        stream, size = _FRAME.unpack(header)
        yield stream, _exactly(read, size)


def _exactly(read: Callable[[int], bytes | None], size: int) -> bytes:
    pieces = bytearray()
    while len(pieces) < size:
        try:
            piece = read(size - len(pieces))
        except (OSError, ValueError):
            return b""
        if not piece:
            return b""
        pieces += piece
    return bytes(pieces)
