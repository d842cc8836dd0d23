"""A server that hosts the repository of its flows, and a person who pushes to it."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from runner.access import AccessControl, Role
from runner.flows.catalogue import Catalogue
from runner.settings import EnvironmentSettings, Settings
from runner.store import Store
from sync.activation import RevisionResult
from sync.hosted import HostedRepository
from sync.service import SyncService
from tests.servers.stand_in import serving
from tests.servers.store import fresh_store
from webhooks.hosted_git import HostedGit

FLOW = """\
id: {id}
namespace: {namespace}
tasks:
  - id: say
    type: core.log.Log
    message: {message}
"""


def flow(key: str, message: str = "hello") -> str:
    namespace, _, name = key.rpartition(".")
    return FLOW.format(id=name, namespace=namespace, message=message)


@dataclass
class Pushed:
    code: int
    output: str

    @property
    def remote(self) -> list[str]:
        """What the server said, without git's own words and the spaces that it pads with."""
        lines = [line for line in self.output.splitlines() if line.startswith("remote:")]
        return [line.removeprefix("remote:").removeprefix(" ").rstrip() for line in lines]


@dataclass
class WorkTree:
    path: Path

    def git(self, *arguments: str, code: int | None = 0) -> str:
        return run_git(self.path, *arguments, code=code).output.strip()

    def write(self, files: dict[str, str | None], message: str = "change") -> str:
        for name, text in files.items():
            target = self.path / name
            if text is None:
                target.unlink()
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def push(self, url: str, *options: str, refspec: str = "HEAD:refs/heads/main") -> Pushed:
        return run_git(self.path, "push", *options, url, refspec, code=None)


def run_git(folder: Path, *arguments: str, code: int | None = 0) -> Pushed:
    settings = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "credential.helper="]
    environ = {"PATH": "/usr/bin:/bin", "GIT_TERMINAL_PROMPT": "0", "HOME": str(folder), "LC_ALL": "C"}
    done = subprocess.run(
        ["git", *settings, *arguments],
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=90,
    )
    output = done.stdout.decode("utf-8", "replace")
    assert code is None or done.returncode == code, output
    return Pushed(done.returncode, output)


@dataclass
class Hosted:
    """A server with a hosted repository, and a token of each role."""

    port: int
    home: Path
    store: Store
    service: SyncService
    git: HostedGit
    tokens: dict[str, str]
    applied: list[RevisionResult] = field(default_factory=list)

    def url(self, role: str = "developer", path: str = "flows.git") -> str:
        return f"http://git:{self.tokens.get(role, 'wrong')}@127.0.0.1:{self.port}/git/{path}"

    def authorization(self, role: str = "developer") -> str:
        return "Basic " + base64.b64encode(f"git:{self.tokens.get(role, 'wrong')}".encode()).decode()

    @property
    def main(self) -> str | None:
        return self.service.repository("hosted").repository.head("refs/heads/main")

    def flows(self) -> dict[str, int]:
        versions = self.store.read(lambda db: db.flows.list())
        return {f"{version.namespace}.{version.flow_id}": version.revision for version in versions}


@pytest.fixture
def start_hosted(tmp_path: Path) -> Iterator[Callable[..., Hosted]]:
    stops: list[Callable[[], None]] = []

    def start(**environment: Any) -> Hosted:
        home = tmp_path / f"home{len(stops)}"
        home.mkdir()
        environments = [EnvironmentSettings(name="default", repository="hosted", **environment)]
        settings = Settings(home=home, environments=tuple(environments))
        store = fresh_store(settings.database_url)
        applied: list[RevisionResult] = []
        service = SyncService(store, Catalogue(store), settings, on_applied=applied.append)
        service.ensure_declared()
        access = AccessControl(store)
        tokens = {role.value: access.create(role.value, role)[0] for role in Role}
        application = HostedGit(HostedRepository(service), access)
        served = ExitStack()
        address = served.enter_context(serving(Starlette(routes=[Mount("/git", app=application)]), "hosted"))

        def stop() -> None:
            served.close()
            application.close()
            service.close()
            store.close()

        stops.append(stop)
        return Hosted(int(address.rpartition(":")[2]), home, store, service, application, tokens, applied)

    yield start
    for stop in stops:
        stop()


@pytest.fixture
def hosted(start_hosted: Callable[..., Hosted]) -> Hosted:
    return start_hosted()


@pytest.fixture
def work_tree(tmp_path: Path) -> WorkTree:
    path = tmp_path / "work"
    path.mkdir()
    run_git(path, "init", "-q", "-b", "main")
    return WorkTree(path)


@pytest.fixture
def flow_text() -> Callable[..., str]:
    return flow
