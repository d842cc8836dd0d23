"""An OpenSSH server on loopback, with keys and settings of its own, before the repositories of a folder."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

from tests.servers.git import git
from tests.servers.ports import free_port

_SECONDS = 60
_CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
AcceptEnv GIT_PROTOCOL
"""


@dataclass(frozen=True)
class SshServer:
    """Where it listens, and the key of the one user who may come in."""

    folder: Path
    port: int

    def url(self, name: str) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{self.folder}/{name}"

    @property
    def key(self) -> str:
        return (self.folder / "user").read_text()

    @property
    def known_hosts(self) -> str:
        return f"[127.0.0.1]:{self.port} {(self.folder / 'host.pub').read_text()}"

    def repository(self, name: str) -> Path:
        path = self.folder / name
        git(self.folder, "init", "-q", "--bare", "-b", "main", str(path))
        git(path, "config", "uploadpack.allowFilter", "true")
        return path


def make_key(path: Path, passphrase: str = "") -> str:
    """Make a key and return its public half."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-C", "test", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    return path.with_name(f"{path.name}.pub").read_text()


@pytest.fixture(scope="module")
def ssh_server(
    tmp_path_factory: pytest.TempPathFactory, optional: Callable[[str, str], NoReturn]
) -> Iterator[SshServer]:
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        optional("sshd", "there is no OpenSSH server on this machine")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # it refuses to start as root without
    folder = tmp_path_factory.mktemp("ssh")
    make_key(folder / "host")
    (folder / "authorized").write_text(make_key(folder / "user"))
    port = free_port()
    (folder / "config").write_text(_CONFIG.format(port=port, folder=folder))
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([program, "-D", "-e", "-f", str(folder / "config")], stderr=log)
    _wait(process, port, folder / "log")
    yield SshServer(folder, port)
    process.terminate()
    process.wait(_SECONDS)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
        else:
            return
