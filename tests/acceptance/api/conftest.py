"""A whole server as a user starts it, for programs of others and for our own command line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers.application import FLOW_A
from tests.servers.git import git

MAINSTEM = Path(sys.executable).with_name("mainstem")
START_S = 60


@dataclass(frozen=True)
class Running:
    """A server that `mainstem up` started, and the folder it was started in."""

    url: str
    token: str
    folder: Path

    @property
    def environ(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("MAINSTEM_")}
        return kept | {"HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder / "config")}

    def mainstem(self, *arguments: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the server's folder, where it finds the server by its home."""
        return subprocess.run(
            [MAINSTEM, *arguments],
            cwd=self.folder,
            env=self.environ | environ,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@contextmanager
def _started(folder: Path) -> Iterator[Running]:
    """Start a server in a folder, and stop it afterwards."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("MAINSTEM_")}
    environ |= {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config")}
    log = (folder / "log").open("w+")
    process = subprocess.Popen(
        [MAINSTEM, "up", "--port", "0"], cwd=folder, env=environ, stdout=log, stderr=subprocess.STDOUT
    )
    deadline = time.monotonic() + START_S
    while "ready in" not in (text := (folder / "log").read_text()):
        assert process.poll() is None, text
        assert time.monotonic() < deadline, text
        time.sleep(0.05)
    url = next(line.split()[1] for line in text.splitlines() if line.split()[:1] == ["web"])
    yield Running(url, (folder / ".mainstem" / "token").read_text().strip(), folder)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0, (folder / "log").read_text()
    log.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with _started(tmp_path_factory.mktemp("up")) as running:
        yield running


@pytest.fixture
def proposing(tmp_path: Path) -> Iterator[Running]:
    """A server whose environment takes proposals only, with the flow `w.a`."""
    folder, work = tmp_path / "proposing", tmp_path / "work"
    folder.mkdir()
    (folder / "mainstem.yaml").write_text("environments: [{name: default, repository: hosted, writes: propose}]\n")
    (work / "flows").mkdir(parents=True)
    (work / "flows/a.yaml").write_text(FLOW_A)
    with _started(folder) as running:
        git(work, "init", "-q", "-b", "main")
        git(work, "add", "-A")
        git(work, "commit", "-q", "-m", "first")
        git(work, "push", "-q", f"{running.url.replace('://', f'://x:{running.token}@')}/git/flows.git", "main")
        yield running
