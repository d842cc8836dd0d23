"""The supervisor process and its keepers: how bodies are started so that nothing of them outlives its purpose.

This is a program, not a library: `task_runners.supervisor` starts it with a bare interpreter, so it imports only small
parts of the standard library and stays one thread. Linux only.

    server ── supervisor ── keeper ── body ── whatever the body starts

- The **supervisor** forks keepers. It ignores SIGTERM and SIGINT, ends on the end of file of its socket, and, being a
  subreaper, kills what a keeper that was killed left behind.
- A **keeper** serves one body: it forks and execs it, waits for its end, for a word on its control socket or for the
  end of that socket, then kills every descendant until there is none, and reports. It is a subreaper too, so neither a
  double fork nor a new session escapes it. It ends with the supervisor by a parent-death signal (SIGTERM: it sweeps).
- The **body** has a parent-death signal (SIGKILL), set after the change of user, since that change clears it.

Messages are JSON in single packets. To the supervisor: one packet per body with four descriptors (request in a memfd,
stdout, stderr, control socket). On the control socket: `{"taken": pid}`, then `{"started": pid}` or
`{"failed": step, "errno": n}`, later `{"ended": ...}`. Without `taken`, nothing of the body ever ran. The other way:
`{"stop": grace_seconds}`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import resource
import select
import signal
import socket
import sys
import time

if __name__ == "__main__":  # -I: not even its own folder is on the path
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120 - pathlib costs 10 ms

from task_runners import cgroup
from task_runners.descendants import (
    HAS_CHILDREN_FILES,
    all_parents,
    descendants,
    frozen_descendants,
    kill,
    listed_children,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_SPARES = 2
_FIRST_FREE = 3  # after stdin, stdout and stderr
_DESCRIPTORS = 4
_PACKET_BYTES = 65536
_EXEC_FAILED = 127

_LIMITS = {
    "memory_bytes": resource.RLIMIT_AS,
    "open_files": resource.RLIMIT_NOFILE,
    "processes": resource.RLIMIT_NPROC,
    "file_bytes": resource.RLIMIT_FSIZE,
    "cpu_seconds": resource.RLIMIT_CPU,
}

_SIGNALS = sorted(map(int, signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}))

_libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def _wakeup(handled: dict[int, Callable[[int, Any], None]]) -> int:
    """Return a descriptor that becomes readable when one of `handled` arrives: no signal is lost between two looks."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number, handler in handled.items():
        signal.signal(number, handler)
    return reader


def _drain(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.read(descriptor, 4096)


def _nothing(_number: int, _frame: Any) -> None:
    pass


# --- the body ---------------------------------------------------------------------------------------------------------


def _become_body(
    request: dict[str, Any], stdout: int, stderr: int, errors: int, keeper: int, place: _Place | None
) -> NoReturn:
    step = "session"
    try:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)  # what is ignored stays ignored through exec
        os.setsid()
        limits = dict(request.get("limits") or {})
        if place is not None and place.enter():
            limits = {name: value for name, value in limits.items() if name not in place.held}
        step = "descriptors"
        stdin = os.open("/dev/null", os.O_RDONLY)
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        errors = _only(errors)
        step = "limits"
        for name in limits.keys() & _LIMITS.keys():
            _limit(_LIMITS[name], limits[name])
        _limit(resource.RLIMIT_CORE, 0)
        step = "user"
        uid = request.get("uid")
        if uid is not None:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            _prctl(_PR_SET_NO_NEW_PRIVS, 1)  # no way back to root through a setuid program
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(_EXEC_FAILED)
        step = "cwd"
        os.chdir(request["cwd"])
        os.umask(0o022)
        step = "exec"
        _exec(request["argv"], request["env"])
    except OSError as error:
        os.write(errors, json.dumps({"failed": step, "errno": error.errno}).encode())
    except BaseException as error:  # noqa: BLE001 - nothing may unwind into the keeper's code in the child
        os.write(errors, json.dumps({"failed": step, "errno": None, "reason": repr(error)}).encode())
    os._exit(_EXEC_FAILED)


def _exec(argv: list[str], env: dict[str, str]) -> NoReturn:
    # Not `os.execvpe`: it imports a module on its way, which this user may not be able to read.
    directories = [""] if "/" in argv[0] else env.get("PATH", os.defpath).split(":")
    denied: OSError | None = None
    for directory in directories:
        program = f"{directory}/{argv[0]}" if directory else argv[0]
        try:
            os.execve(program, argv, env)  # noqa: S606 - the point of this program
        except (FileNotFoundError, NotADirectoryError) as error:
            if os.access(program, os.F_OK):
                raise OSError(errno.ELIBBAD, "interpreter") from error  # the file is there, what runs it is not
        except PermissionError as error:
            denied = error
    raise denied or FileNotFoundError(errno.ENOENT, argv[0])


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value))


def _only(descriptor: int) -> int:
    """Close everything above stderr but `descriptor`, which is moved down to 3 and closes on exec."""
    if descriptor != _FIRST_FREE:
        os.dup2(descriptor, _FIRST_FREE, inheritable=False)
    os.closerange(_FIRST_FREE + 1, os.sysconf("SC_OPEN_MAX"))
    return _FIRST_FREE


# --- the keeper -------------------------------------------------------------------------------------------------------


class _Place:
    """The control group of a body. `held` are the limits that it enforces; the others are left to `setrlimit`."""

    def __init__(self, group: cgroup.Group, limits: dict[str, Any]) -> None:
        self.group = group
        self.held = group.limit(limits)
        self._is_inside = False

    @classmethod
    def of(cls, request: dict[str, Any]) -> _Place | None:
        """Return the place that a request asks for; None when the system has none, and the body does without."""
        wish = request.get("group")
        try:
            return cls(cgroup.make(wish["parent"], wish["name"]), request.get("limits") or {}) if wish else None
        except OSError:
            return None

    def fork(self) -> int:
        """Do what `os.fork` does, with the child in the group if the system can."""
        body = self.group.fork()
        self._is_inside = body is not None
        return os.fork() if body is None else body

    def enter(self) -> bool:
        """Be in the group, in the child; return whether the system let it."""
        return self._is_inside or self.group.enter()

    def leave(self) -> dict[str, Any]:
        """Remove the group with all in it; return what was used there."""
        used = self.group.usage()
        self.group.close()
        return used


class _Keeper:
    """One body from start to end, in a process of its own."""

    def __init__(self, supervisor: int) -> None:
        self._terminated = False
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        os.setsid()
        self._wake = _wakeup({signal.SIGTERM: self._on_term, signal.SIGCHLD: _nothing})
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        self._orphaned = os.getppid() != supervisor

    def _on_term(self, _number: int, _frame: Any) -> None:
        self._terminated = True

    @property
    def must_end(self) -> bool:
        return self._terminated or self._orphaned

    def wait_for_request(self, channel: socket.socket) -> list[int] | None:
        """Return the descriptors of a body, or None when there will be none."""
        poller = select.poll()
        poller.register(channel, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        while not self.must_end:
            ready = [descriptor for descriptor, _ in poller.poll()]
            if channel.fileno() in ready:
                _, descriptors, _, _ = socket.recv_fds(channel, 16, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
                return descriptors if len(descriptors) == _DESCRIPTORS else None
            _drain(self._wake)
        return None

    def serve(self, descriptors: list[int]) -> None:
        memory, stdout, stderr, control_fd = descriptors
        with socket.socket(fileno=control_fd) as control:
            with os.fdopen(memory, "rb") as file:
                file.seek(0)
                request = json.load(file)
            self._send(control, {"taken": os.getpid()})
            place = _Place.of(request)
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
        self, request: dict[str, Any], stdout: int, stderr: int, place: _Place | None
    ) -> tuple[int | None, dict[str, Any]]:
        """Return the process id of the body, or None and what is to be told of the failure."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        keeper = os.getpid()
        try:
            body = os.fork() if place is None else place.fork()
        except OSError as error:
            return None, {"failed": "fork", "errno": error.errno}
        if body == 0:
            _become_body(request, stdout, stderr, writer, keeper, place)
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
            _drain(self._wake)
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


# --- the supervisor ---------------------------------------------------------------------------------------------------


class _Supervisor:
    """Hands each request to a keeper that already waits, and forks the next one afterwards."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._keepers: set[int] = set()
        self._spares: list[socket.socket] = []
        self._closing = False
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Blocked and not ignored: so it waits for a keeper that was forked and has not yet said what to do with it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._wake = _wakeup({signal.SIGCHLD: _nothing})

    def run(self) -> None:
        poller = select.poll()
        poller.register(self._requests, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        while not (self._closing and not self._keepers):
            self._fork_spares()
            ready = [descriptor for descriptor, _ in poller.poll()]
            if self._wake in ready:
                _drain(self._wake)
                self._reap()
            if self._requests.fileno() in ready and not self._closing and not self._serve():
                self._closing = True
                poller.unregister(self._requests)
                for channel in self._spares:
                    channel.close()
                for keeper in self._keepers:
                    kill(keeper, signal.SIGTERM)
        self._kill_strays()

    def _serve(self) -> bool:
        try:
            packet, descriptors, _, _ = socket.recv_fds(self._requests, 16, _DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            return False
        if not packet:
            return False
        try:
            self._hand_over(descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _hand_over(self, descriptors: list[int]) -> None:
        while True:
            if not self._spares and not self._fork_keeper():
                return  # the end of file of its control socket tells the server
            with self._spares.pop(0) as channel, contextlib.suppress(OSError):
                socket.send_fds(channel, [b"go"], descriptors)
                return

    def _fork_spares(self) -> None:
        while not self._closing and len(self._spares) < _SPARES and self._fork_keeper():
            pass

    def _fork_keeper(self) -> bool:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        supervisor = os.getpid()
        try:
            keeper = os.fork()
        except OSError:
            here.close()
            there.close()
            return False
        if keeper == 0:
            _run_keeper(there, supervisor)
        there.close()
        self._keepers.add(keeper)
        self._spares.append(here)
        return True

    def _reap(self) -> None:
        while True:
            try:
                process, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._keepers.clear()
                return
            if process == 0:
                break
            self._keepers.discard(process)
        self._kill_strays()

    def _kill_strays(self) -> None:
        """Kill what became ours because its keeper was killed. Their end comes back as SIGCHLD until none is left."""
        me = os.getpid()
        children = listed_children(me) if HAS_CHILDREN_FILES else [pid for pid, up in all_parents().items() if up == me]
        for stray in set(children) - self._keepers:
            for process in (stray, *descendants(stray)):
                kill(process, signal.SIGKILL)


def _run_keeper(channel: socket.socket, supervisor: int) -> NoReturn:
    status = 1
    try:
        # Nothing of the supervisor's may stay open here: other keepers' channels, the socket whose end means its end.
        signal.set_wakeup_fd(-1)
        descriptor = _only(channel.detach())
        keeper = _Keeper(supervisor)
        with socket.socket(fileno=descriptor) as own:
            descriptors = keeper.wait_for_request(own)
        if descriptors is not None:
            keeper.serve(descriptors)
        status = 0
    finally:
        os._exit(status)


def main(descriptor: int) -> None:
    """Be the supervisor that is spoken to through the socket `descriptor`, until its other end is closed."""
    os.setsid()
    with socket.socket(fileno=descriptor) as requests:
        requests.set_inheritable(False)
        os.chdir("/")
        _Supervisor(requests).run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
