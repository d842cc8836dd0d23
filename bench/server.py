"""A server to measure: `mainstem up` as a process of its own, on a throw-away home."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import httpx

START_S = 30.0
PROGRAM = (sys.executable, "-P", "-c", "from runner.cli import main; main()")


class Server:
    """Starts at entry, stops at exit. `ready_s` is the time from the start of the process to its readiness."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self.room = Path(tempfile.mkdtemp(prefix="mainstem-bench-"))
        self.home = self.room / "home"
        self.home.mkdir(mode=0o700)
        self.url = ""
        self.token = ""
        self.ready_s = 0.0
        self._settings = dict(settings or {})
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        log = self.room / "server.log"
        started = time.monotonic()
        environment = {**os.environ, "XDG_CONFIG_HOME": str(self.room / "config"), **self._settings}
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [*PROGRAM, "up", "--home", str(self.home), "--port", "0"],
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
            )
        while "Ctrl-C" not in log.read_text():
            if self._process.poll() is not None or time.monotonic() - started > START_S:
                raise SystemExit(f"the server did not start:\n{log.read_text()}")
            time.sleep(0.005)
        self.ready_s = time.monotonic() - started
        self.url = next(line.split()[1] for line in log.read_text().splitlines() if line.startswith("  web "))
        self.token = (self.home / "token").read_text().strip()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.room, ignore_errors=True)

    @property
    def pid(self) -> int:
        """The process id of the server itself."""
        return self._process.pid

    def client(self) -> httpx.Client:
        """Return an API client."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=f"{self.url}/api/v1/main", headers=headers, timeout=60)

    def git(self, *arguments: str, cwd: Path) -> str:
        """Run git against the server; return what it prints."""
        identity = {f"GIT_{role}_{key}": text for role in ("AUTHOR", "COMMITTER") for key, text in _PERSON}
        header = {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"http.{self.url}/.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: Bearer {self.token}",
            "GIT_TERMINAL_PROMPT": "0",
        }
        environment = {**os.environ, **identity, **header}
        done = subprocess.run(
            ["git", *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"git {' '.join(arguments)}:\n{done.stderr}")
        return done.stdout + done.stderr

    def push(self, flows: Mapping[str, str]) -> Path:
        """Push flow files by name to `main`; return the working copy."""
        work = self.room / "work"
        (work / "flows").mkdir(parents=True, exist_ok=True)
        for name, source in flows.items():
            (work / "flows" / name).write_text(source)
        self.git("init", "--quiet", "--initial-branch=main", cwd=work)
        self.git("add", ".", cwd=work)
        self.git("commit", "--quiet", "--message=flows", cwd=work)
        self.git("push", f"{self.url}/git/flows.git", "main", cwd=work)
        return work

    def processes(self) -> list[int]:
        """Return the ids of the server and all its descendants."""
        found, queue = [], [self.pid]
        while queue:
            pid = queue.pop()
            found.append(pid)
            try:
                queue += [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            except OSError:
                continue
        return found

    def cpu_seconds(self) -> float:
        """Return the CPU time used so far by the server and all its descendants."""
        ticks = 0
        for pid in self.processes():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident_mb(self) -> float:
        """Return the proportional resident memory of the server and all its descendants, in MB."""
        total = 0
        for pid in self.processes():
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return total / 1024


_PERSON = (("NAME", "Bench"), ("EMAIL", "bench@example.com"))
