"""Starting and stopping local processes so that none is left behind: the client of the supervisor process.

One `Supervisor` per server. Its process is a bare interpreter that runs `task_runners.keeper`; the comment there says
how bodies are kept. It may be started at any time and from any thread, since it is exec'ed and not merely forked.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from task_runners import keeper
from task_runners.errors import FailureReason, TaskRunnerError
from task_runners.spec import Limits

__all__ = ["Body", "BodyEnd", "Supervisor", "shared_supervisor"]

_START_S = 30.0
_END_S = 10.0
_TRIES = 3
_REQUEST = b"body"


@dataclass(frozen=True, slots=True)
class BodyEnd:
    """How a body ended. `exit_code` is 128 + N after signal N and None when nobody saw the end (`lost`).

    `stopped` tells that it ended because `Body.stop` had been called. Memory and CPU include what the body started.
    """

    exit_code: int | None
    signal: int | None = None
    stopped: bool = False
    lost: bool = False
    peak_memory_bytes: int | None = None
    cpu_seconds: float | None = None
    out_of_memory: bool = False
    """Whether the kernel killed something in its control group at the limit of memory."""


class Body:
    """A process that was started. The caller reads the descriptors `stdout` and `stderr` and calls `close`."""

    def __init__(self, pid: int, stdout: int, stderr: int, control: socket.socket) -> None:
        self.pid = pid
        self.control = control
        """The socket to its keeper; for `Supervisor` only."""
        self.stdout = stdout
        self.stderr = stderr
        self._end: BodyEnd | None = None
        self._reading = threading.Lock()

    def wait(self, timeout: float | None = None) -> BodyEnd | None:
        """Return how the body ended, or None when `timeout` seconds have passed before."""
        with self._reading:
            if self._end is None and _readable(self.control, timeout):
                self._end = _end(self.control)
            return self._end

    def stop(self, grace: float = 0.0) -> None:
        """Send SIGTERM to the body's process group now, and SIGKILL to all it started after `grace` seconds.

        Returns at once. Without grace there is no SIGTERM. A second call can only shorten the grace; after the end it
        does nothing.
        """
        with contextlib.suppress(OSError):
            self.control.send(json.dumps({"stop": max(0.0, grace)}).encode())

    def close(self) -> None:
        """Release the descriptors; a body that still runs is killed."""
        for descriptor in (self.stdout, self.stderr):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self.stdout = self.stderr = -1
        self.control.close()


class Supervisor:
    """The process that starts bodies. Safe to use from any thread; starts itself, and again when it was killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._closed = False

    def start(self) -> Self:
        """Start the process if it does not run, without waiting until it is ready. Costs 1 ms; it needs 30 itself."""
        with self._lock:
            self._ensure()
        return self

    @property
    def pid(self) -> int | None:
        """The process id, or None when it does not run."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called; no body can start then."""
        return self._closed

    def start_body(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        uid: int | None = None,
        limits: Limits | None = None,
        group: tuple[Path, str] | None = None,
    ) -> Body:
        """Start `argv` with exactly the environment `env` and return when it runs.

        A program without a slash is searched on `env["PATH"]`. With `uid`, user and group get that number and no
        other groups (this process must be root). `group` is a control group to make one of its own below, and the name
        for that; where the system does not let us, the body runs without.

        Raises:
            TaskRunnerError: `runner.command.missing`, `runner.interpreter.denied`, `runner.start.failed`,
                `runner.supervisor.lost`.
        """
        bounds = {name: value for name, value in asdict(limits or Limits()).items() if value is not None}
        request: dict[str, Any] = {"argv": list(argv), "env": dict(env), "cwd": str(cwd), "uid": uid, "limits": bounds}
        if group is not None:
            request["group"] = {"parent": str(group[0]), "name": group[1]}
        for _ in range(_TRIES):
            body = self._hand_over(request)
            try:
                if _is_taken(body.control):
                    body.pid = _started(body.control, request)
                    return body
            except BaseException:  # its descriptors are closed whatever happens
                body.close()
                raise
            # It ended before a keeper had the request, so nothing of the body ever ran and it may be asked again.
            body.close()
        raise _lost()

    def _hand_over(self, request: Mapping[str, Any]) -> Body:
        try:
            with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
                out, err = _pipe(ours, theirs), _pipe(ours, theirs)
                control, control_body = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                ours.enter_context(control)
                theirs.enter_context(control_body)
                memory = os.memfd_create("body", os.MFD_CLOEXEC)
                theirs.callback(os.close, memory)
                _write(memory, request)
                self._send([memory, out[1], err[1], control_body.fileno()])
                ours.pop_all()  # they are the body's from now on
        except OSError as error:
            raise TaskRunnerError(
                "runner.start.failed",
                f"{request['argv'][0]!r} cannot be started: {error.strerror or error}",
                failure_reason=FailureReason.UNAVAILABLE,
            ) from error
        return Body(0, out[0], err[0], control)

    def close(self) -> None:
        """End the process and with it every body; returns when all are gone."""
        with self._lock:
            self._closed = True
            self._end()

    def __enter__(self) -> Self:
        """Start and return itself; `close` at the end of the block."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, descriptors: list[int]) -> None:
        with self._lock:
            for last in (False, True):
                try:
                    socket.send_fds(self._ensure(), [_REQUEST], descriptors)
                except OSError as error:
                    # It was killed: its bodies are reported lost by their own sockets, and a new one takes its place.
                    self._end()
                    if last:
                        raise _lost() from error
                else:
                    return

    def _ensure(self) -> socket.socket:
        if self._closed:
            raise TaskRunnerError(
                "runner.supervisor.closed",
                "no body can start: the server is going down",
                failure_reason=FailureReason.UNAVAILABLE,
            )
        if self._socket is not None and self._process is not None and self._process.poll() is None:
            return self._socket
        self._end()
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # -I -S: no site-packages, no environment variables, a small heap that forks fast.
        command = [sys.executable, "-I", "-S", str(Path(keeper.__file__).resolve()), str(there.fileno())]
        try:
            self._process = subprocess.Popen(command, pass_fds=[there.fileno()], stdin=subprocess.DEVNULL, env={})
        except OSError:
            here.close()
            raise
        finally:
            there.close()
        self._socket = here
        return here

    def _end(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        process, self._process = self._process, None
        if process is not None:
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


_shared: Supervisor | None = None
_shared_lock = threading.Lock()


def shared_supervisor() -> Supervisor:
    """Return the supervisor of this process, started at its first use, again after a `close`, and ended at exit."""
    global _shared  # noqa: PLW0603 - one per process is the point
    with _shared_lock:
        if _shared is None or _shared.is_closed:
            _shared = Supervisor().start()
            atexit.register(_shared.close)
        return _shared


def _pipe(ours: contextlib.ExitStack, theirs: contextlib.ExitStack) -> tuple[int, int]:
    """Return the two ends of a pipe; the one to read from is closed with `ours`, the one to write to with `theirs`."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    ours.callback(os.close, reader)
    theirs.callback(os.close, writer)
    return reader, writer


def _write(descriptor: int, request: Mapping[str, Any]) -> None:
    # Arguments and environment may have megabytes, more than one packet of a socket takes.
    content = json.dumps(request).encode()
    written = 0
    while written < len(content):
        written += os.write(descriptor, content[written:])


def _readable(control: socket.socket, timeout: float | None) -> bool:
    poller = select.poll()
    try:
        poller.register(control, select.POLLIN)
    except (OSError, ValueError):
        return True  # closed: `_end` says lost
    return bool(poller.poll(None if timeout is None else max(0.0, timeout) * 1000))


def _receive(control: socket.socket) -> dict[str, Any] | None:
    try:
        try:
            packet = control.recv(65536)
        except ConnectionResetError:
            # A keeper that ended with a word of ours unread resets the connection; its own last word comes after that.
            packet = control.recv(65536)
    except OSError:
        return None
    return json.loads(packet) if packet else None


def _is_taken(control: socket.socket) -> bool:
    if not _readable(control, _START_S):
        raise _lost()
    return _receive(control) is not None


def _started(control: socket.socket, request: Mapping[str, Any]) -> int:
    message = _receive(control) if _readable(control, _START_S) else None
    if message is None:
        raise _lost()
    if "started" in message:
        return int(message["started"])
    raise _start_error(request, message)


def _end(control: socket.socket) -> BodyEnd:
    message = _receive(control)
    if message is None or message.get("stopped") in {"supervisor", "server"}:
        return BodyEnd(None, lost=True)
    code = message["ended"]
    return BodyEnd(
        exit_code=code if code is None or code >= 0 else 128 - code,
        signal=-code if code is not None and code < 0 else None,
        stopped=message["stopped"] is not None,
        lost=code is None,
        peak_memory_bytes=message["peak_memory_bytes"],
        cpu_seconds=message["cpu_seconds"],
        out_of_memory=message.get("out_of_memory", False),
    )


def _lost() -> TaskRunnerError:
    return TaskRunnerError(
        "runner.supervisor.lost",
        "the process that starts task bodies was killed",
        hint="it starts again by itself; see the system's log for the out-of-memory killer",
        failure_reason=FailureReason.LOST,
    )


def _start_error(request: Mapping[str, Any], message: Mapping[str, Any]) -> TaskRunnerError:
    number, step, program = message.get("errno"), message["failed"], request["argv"][0]
    reason = os.strerror(number) if number is not None else message.get("reason", "unknown")
    if step == "exec" and number in {errno.ENOENT, errno.ENOTDIR}:
        return TaskRunnerError(
            "runner.command.missing",
            f"the program {program!r} is not on this machine",
            hint=f"searched on PATH={request['env'].get('PATH', os.defpath)}; a container image may have it",
        )
    if step == "exec" and number == errno.ELIBBAD:
        return TaskRunnerError(
            "runner.interpreter.missing",
            f"the program {program!r} is there, but the interpreter or loader that it names is not",
            hint="look at its first line (`#!`)",
        )
    if step == "exec" and number == errno.EACCES:
        return TaskRunnerError(
            "runner.interpreter.denied",
            f"the program {program!r} may not be executed by user id {request.get('uid') or os.getuid()}",
            hint="install it where every user can execute it, or use a container task runner",
        )
    if step == "exec" and number == errno.E2BIG:
        return TaskRunnerError(
            "runner.command.too_long",
            f"the command and environment of {program!r} are longer than the system allows",
            hint="put the script into a file (`inputFiles`) and pass values by files",
        )
    return TaskRunnerError("runner.start.failed", f"{program!r} cannot be started: {reason} ({step})")
