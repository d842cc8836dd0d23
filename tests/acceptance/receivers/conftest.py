"""A repository at a git server, and a Mainstem that follows it and hears of pushes by webhooks only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers.git import git_server
from tests.servers.program import wait_until
from tests.servers.work_tree import work_tree

_MAINSTEM = Path(sys.executable).with_name("mainstem")
_START_S = 60.0
_SETTINGS = """\
repositories:
  - name: team
    url: {url}
    kind: gitea
    webhookSecret: ${{TEAM_HOOK}}
    previousWebhookSecret: ${{OLD_HOOK}}
    intervalS: 3600
environments:
  - name: production
    repository: team
    namespaces: [company]
"""
FLOW = """\
id: {name}
namespace: company.team
tasks:
  - id: say
    type: core.log.Log
    message: {message}
"""


@dataclass
class Followed:
    """The running server, the repository that it follows, and a clone of that."""

    folder: Path
    url: str
    banner: str
    bare: Path
    work_tree: Any
    git: Any

    def push(self, name: str, message: str = "hello") -> str:
        """Push a flow to the repository, without telling anybody; return the commit."""
        commit: str = self.work_tree.write({f"flows/{name}.yaml": FLOW.format(name=name, message=message)})
        self.work_tree.push(self.bare)
        return commit

    def deliver(self, sent: Any) -> httpx.Response:
        return httpx.post(f"{self.url}/hooks/team", content=sent.body, headers=sent.headers, timeout=30)

    def get(self, path: str) -> Any:
        token = (self.folder / ".mainstem/token").read_text().strip()
        answer = httpx.get(f"{self.url}{path}", headers={"authorization": f"Bearer {token}"}, timeout=60)
        return answer.json() if "json" in answer.headers["content-type"] else answer.text

    @property
    def active(self) -> str | None:
        commit: str | None = self.get("/api/v1/main/environments/production")["active"]
        return commit

    def wait_until_active(self, commit: str, seconds: float = 60.0) -> float:
        """Return how many seconds it took."""
        begun = time.monotonic()
        while self.active != commit:
            assert time.monotonic() - begun < seconds, self.get("/api/v1/main/environments/production")
            time.sleep(0.01)
        return time.monotonic() - begun

    def looks(self) -> int:
        """Return how often the repository was asked where `main` is; reports ask for their own branch."""
        return sum(b"ref-prefix refs/heads/main0000" in body for _, _, body in self.git.requests)

    def mainstem(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [_MAINSTEM, *arguments],
            cwd=self.folder,
            env=_environ(self.folder) | environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def mainstem_json(self, *arguments: str) -> Any:
        done = self.mainstem(*arguments, "--json")
        assert done.returncode == 0, done
        return json.loads(done.stdout)


def _environ(folder: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MAINSTEM_")}
    return kept | {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder / "config")}


@pytest.fixture
def followed(tmp_path: Path, git_server: Any, work_tree: Any, forges: Any) -> Iterator[Followed]:
    folder = tmp_path / "server"
    folder.mkdir()
    (git_server.root / "acme").mkdir()
    bare = git_server.repository("acme/flows.git")
    (folder / "mainstem.yaml").write_text(_SETTINGS.format(url=f"{git_server.url}/acme/flows.git"))
    environ = _environ(folder) | {"TEAM_HOOK": forges.SECRET, "OLD_HOOK": "the secret before"}
    log = (folder / "log").open("w+")
    process = subprocess.Popen(
        [_MAINSTEM, "up", "--port", "0"], cwd=folder, env=environ, stdout=log, stderr=subprocess.STDOUT
    )
    try:
        banner = _banner(process, folder / "log")
        url = next(line.split()[1] for line in banner.splitlines() if line.split()[:1] == ["web"])
        server = Followed(folder, url, banner, bare, work_tree, git_server)
        first = server.push("first")
        _run(server.mainstem, "sync", "run", "production")
        assert server.active == first
        # The server looks at each repository when it starts, too: that look must not be counted with those of a test.
        wait_until(lambda: server.looks() >= 2, "the look of the start")
        git_server.requests.clear()
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(30)
        log.close()
    assert code == 0, (folder / "log").read_text()


def _run(call: Callable[..., subprocess.CompletedProcess[str]], *arguments: str) -> None:
    done = call(*arguments)
    assert done.returncode == 0, done


def _banner(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + _START_S
    while "Ctrl-C" not in (text := log.read_text()):
        assert process.poll() is None, text
        assert time.monotonic() < deadline, text
        time.sleep(0.05)
    return text
