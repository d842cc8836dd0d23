"""A program that must run as long as this process does: started by the supervisor, watched, started again."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from task_runners.errors import TaskRunnerError
from task_runners.supervisor import Body, Supervisor

__all__ = ["Service"]

_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 30.0
_STEADY_S = 10.0  # a program that ran this long did not die of how it was started
_LAST_LINES = 20

log = logging.getLogger(__name__)


class Service:
    """Keeps one program alive. It ends with this process, even when that is killed (see `task_runners.keeper`)."""

    def __init__(
        self, supervisor: Supervisor, name: str, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path
    ) -> None:
        self.name = name
        self.starts = 0
        """How often the program was started."""
        self._supervisor, self._argv, self._env, self._cwd = supervisor, tuple(argv), dict(env), cwd
        self._body: Body | None = None
        self._stopping = threading.Event()
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._thread = threading.Thread(target=self._keep, name=f"service-{name}", daemon=True)

    def start(self) -> Service:
        """Start the program and the thread that watches it.

        Raises:
            TaskRunnerError: it cannot be started at all.
        """
        self._begin()
        self._thread.start()
        return self

    @property
    def pid(self) -> int | None:
        """The process id of the running program, or None between an end and the next start."""
        body = self._body
        return body.pid if body is not None else None

    @property
    def last_output(self) -> str:
        """The last lines that the program wrote, for an error message."""
        return "\n".join(self._last)

    def stop(self, grace: float = 5.0) -> None:
        """End the program: SIGTERM, after `grace` seconds SIGKILL; returns when it has ended."""
        self._stopping.set()
        body = self._body
        if body is not None:
            body.stop(grace)
        if self._thread.is_alive():
            self._thread.join(grace + 10)

    def _begin(self) -> Body:
        body = self._supervisor.start_body(self._argv, env=self._env, cwd=self._cwd)
        self._body = body
        self.starts += 1
        return body

    def _keep(self) -> None:
        wait = _FIRST_WAIT_S
        while True:
            body, began = self._body, time.monotonic()
            if body is not None:
                self._read(body)
                end = body.wait()
                self._body = None
                body.close()
                if self._stopping.is_set():
                    return
                log.warning("service ended", extra={"service": self.name, "exit_code": end.exit_code if end else None})
            wait = _FIRST_WAIT_S if time.monotonic() - began > _STEADY_S else min(wait * 2, _LONGEST_WAIT_S)
            if self._stopping.wait(wait):
                return
            try:
                self._begin()
            except TaskRunnerError as error:
                log.warning("service cannot start", extra={"service": self.name, "error": error.message})
            else:
                if self._stopping.is_set() and self._body is not None:
                    self._body.stop(0)

    def _read(self, body: Body) -> None:
        """Read what the program writes until it has ended, so that it never blocks on a full pipe."""
        poller = select.poll()
        open_pipes = {body.stdout, body.stderr}
        for descriptor in open_pipes:
            poller.register(descriptor, select.POLLIN)
        while open_pipes:
            for descriptor, _ in poller.poll():
                chunk = b""
                with contextlib.suppress(OSError):
                    chunk = os.read(descriptor, 65536)
                if chunk:
                    self._last.extend(chunk.decode("utf-8", "replace").splitlines())
                else:
                    poller.unregister(descriptor)
                    open_pipes.discard(descriptor)
