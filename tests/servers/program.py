"""A program of ours as a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

START_S = 60.0


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """Return the first truthy value of `condition`; fail with `what` when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)
    return found


def clean_environment(folder: Path) -> dict[str, str]:
    """Return an environment in which commands see nothing of this machine's own settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MAINSTEM_", "PYTEST_"))}
    return kept | {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config")}


def is_running(pid: int) -> bool:
    """Return whether there is a process with this id that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def processes_with(marker: str) -> dict[int, str]:
    """Return the processes whose command line or environment names `marker`, with their command lines."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            command, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
        except OSError:
            continue
        if marker.encode() in command + environment and is_running(int(entry.name)):
            found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


def descendants(pid: int) -> list[int]:
    """Return the ids of all processes below one."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


class Program:
    """`mainstem` with arguments, in a folder; it may be started again after it was killed."""

    def __init__(self, name: str, folder: Path, arguments: tuple[str, ...], environ: Mapping[str, str]) -> None:
        self.name = name
        self.folder = folder
        self._arguments = arguments
        self._environ = dict(environ)
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.banner = ""

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def launch(self, *, code: str = "") -> None:
        """Start without waiting. `code` runs first in its process."""
        program = f"{code}\nimport sys\nfrom runner.cli import main\nsys.exit(main())"
        self._before = len(self.log)
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", program, *self._arguments],
                cwd=self.folder,
                env=self._environ,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    def wait_ready(self) -> None:
        """Return when it says that it is ready."""
        wait_until(
            lambda: "Ctrl-C drains" in self.log[self._before :] or self.process.poll() is not None, "ready", START_S
        )
        assert self.process.poll() is None, self.log
        self.banner = self.log[self._before :]

    def address(self, word: str) -> str:
        """Return the address behind a word of what it said when it was ready."""
        return next(line.split()[1] for line in self.banner.splitlines() if line.split()[:1] == [word])

    def kill(self) -> None:
        """End it as the kernel would when memory is short."""
        self.process.kill()
        self.process.wait(30)

    def stop(self, *signals: int, seconds: float = 60.0) -> int:
        """Ask it to end and return its exit code."""
        for number in signals or (signal.SIGTERM,):
            self.process.send_signal(number)
        return self.process.wait(seconds)

    def end(self) -> None:
        """Leave nothing running."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
