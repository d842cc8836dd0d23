"""Git over ssh: the program `ssh` for each request, none of which outlives it."""

from __future__ import annotations

import contextlib
import shlex
import threading
from collections.abc import Sequence
from typing import Any, Final

from dulwich.client import SSHGitClient, SubprocessSSHVendor, SubprocessWrapper
from dulwich.errors import GitProtocolError

LONGEST_S: Final = 3_600.0
"""How long one request may take: a server may keep a connection alive and never answer."""


class SshClient(SSHGitClient):
    """A client for one host. The library leaves programs and pipes behind when the other side says no; `end` ends them.

    Args:
        host: the name that `ssh` gets.
        port: the port, None for the usual one.
        user: the user name there, None for the one here.
        command: the words that `ssh` is called with.
    """

    def __init__(self, host: str, port: int | None, user: str | None, command: Sequence[str]) -> None:
        self._programs = _Programs()
        self._protocols: list[Any] = []
        super().__init__(
            host,
            port=port,
            username=user,
            vendor=self._programs,
            ssh_command=shlex.join(command),
            thin_packs=False,
            quiet=True,
        )

    def _connect(self, *arguments: Any, **options: Any) -> Any:
        connected = super()._connect(*arguments, **options)
        self._protocols.append(connected[0])
        return connected

    def end(self) -> None:
        """End what is left of the last request. Again is no error."""
        self._programs.end()
        protocols, self._protocols = self._protocols, []
        for protocol in protocols:
            with contextlib.suppress(OSError, GitProtocolError):
                protocol.close()


class _Programs(SubprocessSSHVendor):
    """Starts `ssh`, remembers what it started, and ends it."""

    def __init__(self) -> None:
        self._started: list[tuple[SubprocessWrapper, threading.Timer]] = []

    def run_command(self, *arguments: Any, **options: Any) -> SubprocessWrapper:
        """Return the connection of a new program, which is killed after an hour."""
        found = super().run_command(*arguments, **options)
        timer = threading.Timer(LONGEST_S, found.proc.kill)
        timer.daemon = True
        timer.start()
        self._started.append((found, timer))
        return found

    def end(self) -> None:
        """Kill what still runs, wait for it and close its pipes."""
        started, self._started = self._started, []
        for connection, timer in started:
            timer.cancel()
            connection.proc.kill()
            with contextlib.suppress(OSError):
                connection.close()
