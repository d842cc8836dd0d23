"""A keeper: one body from start to end, in a process of its own (`task_runners.keeper` says how they speak).

For `task_runners.keeper`, which is a bare interpreter: it imports only small parts of the standard library.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import time

from task_runners.body_place import Place
from task_runners.body_start import become_body
from task_runners.descendants import frozen_descendants, kill
from task_runners.kernel_calls import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, drain, nothing, prctl, wakeup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DESCRIPTORS = 4
"""With each request: itself in a memfd, stdout, stderr, control socket."""
_PACKET_BYTES = 65536


class Keeper:
    """One body from start to end, in a process of its own."""

    def __init__(self, supervisor: int) -> None:
        self._terminated = False
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        os.setsid()
        self._wake = wakeup({signal.SIGTERM: self._on_term, signal.SIGCHLD: nothing})
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        self._orphaned = os.getppid() != supervisor

    def _on_term(self, _number: int, _frame: Any) -> None:
        self._terminated = True

    @property
    def must_end(self) -> bool:
        """Whether it was told to end, or its supervisor is gone."""
        return self._terminated or self._orphaned

    def wait_for_request(self, channel: socket.socket) -> list[int] | None:
        """Return the descriptors of a body, or None when there will be none."""
        poller = select.poll()
        poller.register(channel, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        while not self.must_end:
            ready = [descriptor for descriptor, _ in poller.poll()]
            if channel.fileno() in ready:
                _, descriptors, _, _ = socket.recv_fds(channel, 16, DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
                return descriptors if len(descriptors) == DESCRIPTORS else None
            drain(self._wake)
        return None

    def serve(self, descriptors: list[int]) -> None:
        """Start the body that the descriptors describe, and stay until nothing of it is left."""
        memory, stdout, stderr, control_fd = descriptors
        with socket.socket(fileno=control_fd) as control:
            with os.fdopen(memory, "rb") as file:
                file.seek(0)
                request = json.load(file)
            self._send(control, {"taken": os.getpid()})
            place = Place.of(request)
            body, failure = self._start(request, stdout, stderr, place)
            if body is None:
                if place is not None:
                    place.leave()
                self._send(control, failure)
                return
            self._send(control, {"started": body})
            stopped, status = self._watch(body, control)
            if place is not None:
                place.group.kill()
            status = self._sweep(body, status)
            used = place.leave() if place is not None else {}
            self._report(control, status, used, stopped=stopped)

    def _start(
        self, request: dict[str, Any], stdout: int, stderr: int, place: Place | None
    ) -> tuple[int | None, dict[str, Any]]:
        """Return the process id of the body, or None and what is to be told of the failure."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        keeper = os.getpid()
        try:
            body = os.fork() if place is None else place.fork()
        except OSError as error:
            return None, {"failed": "fork", "errno": error.errno}
        if body == 0:
            become_body(request, stdout, stderr, writer, keeper, place)
        for descriptor in (writer, stdout, stderr):
            os.close(descriptor)
        failure = os.read(reader, 4096)
        os.close(reader)
        if failure:
            os.waitpid(body, 0)
            return None, json.loads(failure)
        return body, {}

    def _watch(self, body: int, control: socket.socket) -> tuple[str | None, int | None]:
        """Wait until the body ended or has to; return why it was stopped, if it was, and its wait status if known."""
        stopped: str | None = None
        kill_at: float | None = None
        poller = select.poll()
        poller.register(control, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        while True:
            status = _reap(body)
            if status is not None or self.must_end:
                return "supervisor" if self.must_end else stopped, status
            wait_ms = None if kill_at is None else max(0.0, kill_at - time.monotonic()) * 1000
            ready = [descriptor for descriptor, _ in poller.poll(wait_ms)]
            drain(self._wake)
            if control.fileno() in ready:
                message = _received(control)
                if message is None:
                    return "server", None
                stopped = "request"
                if message["stop"] > 0:
                    kill(-body, signal.SIGTERM)
                at = time.monotonic() + message["stop"]
                kill_at = at if kill_at is None else min(kill_at, at)
            if kill_at is not None and time.monotonic() >= kill_at:
                return stopped, None

    def _sweep(self, body: int, status: int | None) -> int | None:
        """Kill every descendant until there is none; return the wait status of the body."""
        keeper = os.getpid()
        while True:
            for process in frozen_descendants(keeper):
                kill(process, signal.SIGKILL)
            try:
                process, ended = os.waitpid(-1, 0)
            except ChildProcessError:
                return status
            if process == body:
                status = ended
            more = _reap(body)
            status = status if more is None else more

    def _report(self, control: socket.socket, status: int | None, used: dict[str, Any], *, stopped: str | None) -> None:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        code = os.waitstatus_to_exitcode(status) if status is not None else None
        report = {
            "ended": code,
            "stopped": stopped,
            "peak_memory_bytes": usage.ru_maxrss * 1024,
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            **used,
        }
        self._send(control, report)

    @staticmethod
    def _send(control: socket.socket, message: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the server may be gone; then nobody wants to know
            control.send(json.dumps(message).encode())


def _reap(body: int) -> int | None:
    """Collect every child that has ended; return the wait status of `body` if it is among them."""
    found = None
    while True:
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if process == 0:
            return found
        if process == body:
            found = status


def _received(control: socket.socket) -> dict[str, Any] | None:
    try:
        packet = control.recv(_PACKET_BYTES)
    except OSError:
        return None
    return json.loads(packet) if packet else None
