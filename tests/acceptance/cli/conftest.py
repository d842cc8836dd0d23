"""A user's shell: an own folder and home, the installed command, and a terminal where one is needed."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

MAINSTEM = Path(sys.executable).with_name("mainstem")
SECONDS = 60


@dataclass(frozen=True)
class Shell:
    """A folder to call commands in, without anything of the environment around the tests."""

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        foreign = ("MAINSTEM_", "SECRET_", "XDG_", "NO_COLOR", "FORCE_COLOR", "COLUMNS")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
        return kept | {"HOME": str(self.folder), "TMPDIR": str(self.temporary), **self.variables}

    @property
    def temporary(self) -> Path:
        folder = self.folder / "tmp"
        folder.mkdir(exist_ok=True)
        return folder

    def write(self, name: str, content: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [MAINSTEM, *arguments],
            cwd=self.folder,
            text=True,
            **{
                "env": self.environ,
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                **options,
            },
        )

    def mainstem(self, *arguments: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [MAINSTEM, *arguments],
            cwd=self.folder,
            env=self.environ | environ,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def terminal(self, *arguments: str, answers: Mapping[str, str] | None = None, **environ: str) -> tuple[int, str]:
        """Call a command on a terminal; when a text of `answers` appears, type what belongs to it, once."""
        outer, inner = pty.openpty()
        process = subprocess.Popen(
            [MAINSTEM, *arguments],
            cwd=self.folder,
            env=self.environ | {"TERM": "xterm-256color", "COLUMNS": "120"} | environ,
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
        )
        os.close(inner)
        waiting, seen, deadline = dict(answers or {}), "", time.monotonic() + SECONDS
        with contextlib.suppress(OSError):  # the terminal is gone when the last process on it has ended
            while time.monotonic() < deadline:
                if select.select([outer], [], [], 0.2)[0]:
                    seen += os.read(outer, 65536).decode("utf-8", "replace")
                for text in [text for text in waiting if text in seen]:
                    os.write(outer, waiting.pop(text).encode())
        os.close(outer)
        return process.wait(SECONDS), seen


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@dataclass(frozen=True)
class Server:
    """A server that `mainstem up` started in the folder of a shell."""

    process: subprocess.Popen[str]
    url: str
    banner: str

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(SECONDS) == 0


@contextlib.contextmanager
def serving(shell: Shell, *arguments: str) -> Iterator[Server]:
    """Give a server in the folder of `shell`, stopped at the end if it was not before."""
    log = shell.folder / "up.log"
    # The bodies of a server that is root run as others, who may not go into a folder of the tests.
    environ = {key: value for key, value in shell.environ.items() if key != "TMPDIR"}
    with log.open("w") as file:
        process = shell.start("up", "--port", "0", *arguments, env=environ, stdout=file, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + SECONDS
        while "ready in" not in (text := log.read_text()):
            assert process.poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.05)
        url = next(line.split()[1] for line in text.splitlines() if line.split()[:1] == ["web"])
        yield Server(process, url, text)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(SECONDS)


@pytest.fixture
def start_up() -> Iterator[Callable[..., Server]]:
    with contextlib.ExitStack() as stack:
        yield lambda shell, *arguments: stack.enter_context(serving(shell, *arguments))


@pytest.fixture(scope="session")
def up() -> Callable[..., contextlib.AbstractContextManager[Server]]:
    return serving


@pytest.fixture(scope="session")
def shell_in() -> Callable[[Path], Shell]:
    return Shell
