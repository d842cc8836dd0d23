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
import os
import select
import signal
import socket
import sys

if __name__ == "__main__":  # -I: not even its own folder is on the path
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120 - pathlib costs 10 ms

from task_runners.body_keeper import DESCRIPTORS, Keeper
from task_runners.body_start import only
from task_runners.descendants import HAS_CHILDREN_FILES, all_parents, descendants, kill, listed_children
from task_runners.kernel_calls import PR_SET_CHILD_SUBREAPER, drain, nothing, prctl, wakeup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_SPARES = 2


class _Supervisor:
    """Hands each request to a keeper that already waits, and forks the next one afterwards."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._keepers: set[int] = set()
        self._spares: list[socket.socket] = []
        self._closing = False
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # Blocked and not ignored: so it waits for a keeper that was forked and has not yet said what to do with it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._wake = wakeup({signal.SIGCHLD: nothing})

    def run(self) -> None:
        poller = select.poll()
        poller.register(self._requests, select.POLLIN)
        poller.register(self._wake, select.POLLIN)
        while not (self._closing and not self._keepers):
            self._fork_spares()
            ready = [descriptor for descriptor, _ in poller.poll()]
            if self._wake in ready:
                drain(self._wake)
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
            packet, descriptors, _, _ = socket.recv_fds(self._requests, 16, DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
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
        descriptor = only(channel.detach())
        keeper = Keeper(supervisor)
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
