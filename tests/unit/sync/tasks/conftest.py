"""Git tasks in an execution, against a server with git's own HTTP backend."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runner.context import TaskContext
from runner.errors import TaskError
from runner.executions.models import Execution, LogEntry, TaskRun
from runner.flows.catalogue import Catalogue
from runner.flows.models import Flow
from runner.key_values import MemoryKeyValues
from runner.services import Host
from runner.settings import EnvironmentSettings, RepositorySettings, Settings
from runner.states import State
from runner.store import Store
from sync.commit_record import Author
from sync.repository import GitRepository
from sync.service import SyncService
from tests.servers.git import git, git_server
from tests.servers.ssh import ssh_server
from tests.servers.store import fresh_store


@dataclass
class Bench:
    """Runs tasks one after the other in one working directory, as a WorkingDirectory does."""

    host: Host
    path: Path
    logs: list[LogEntry]
    environment: str | None = None
    commit: str | None = None
    namespace: str = "company.team"
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    variables: dict[str, Any] = field(default_factory=dict)

    def run(self, kind: Any, **fields: Any) -> Any:
        """Run a task and return its outputs."""
        number = next(self.numbers)
        task = kind.model_validate({"id": f"t{number}", "type": "x", **fields})
        flow = Flow(id="a", namespace=self.namespace, tasks=(task,))
        now = self.host.clock()
        execution = Execution("e", flow.namespace, flow.id, 1, State.RUNNING, now)
        execution = replace(execution, environment=self.environment, commit=self.commit)
        run = TaskRun(f"run{number}", "e", task.id, State.RUNNING, now, attempts=1)
        variables = {"flow": {"id": flow.id, "namespace": flow.namespace}, **self.variables}
        with TaskContext(self.host, flow, execution, run, variables, lambda: self.path) as ctx:
            return task.run(ctx)

    def fail(self, kind: Any, **fields: Any) -> TaskError:
        """Run a task that must fail and return its error."""
        with pytest.raises(TaskError) as raised:
            self.run(kind, **fields)
        return raised.value

    def said(self, level: str) -> str:
        return "\n".join(entry.message for entry in self.logs if entry.level == level)

    def files(self, folder: str = "") -> dict[str, str]:
        """Return the contents of the working directory but for `.git`."""
        root = self.path / folder
        paths = [path for path in root.rglob("*") if path.is_file() and ".git" not in path.relative_to(root).parts]
        return {path.relative_to(root).as_posix(): path.read_text() for path in paths}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path)


def make_bench(folder: Path, **ports: Any) -> Bench:
    settings = Settings(home=folder / "home", work=folder / "rooms", git_max_mib=1)
    settings.home.mkdir()
    (folder / "workdir").mkdir()
    logs: list[LogEntry] = []
    host = Host.open(settings, MemoryKeyValues(), environment=dict(os.environ), log=logs.append, **ports)
    return Bench(host, folder / "workdir", logs)


@pytest.fixture
def seed() -> Callable[..., str]:
    """Give what commits files to a branch of a bare repository, and returns the commit."""

    def commit(repository: Path, files: dict[str, str | None], branch: str = "main") -> str:
        found = GitRepository.open(repository)
        ref = f"refs/heads/{branch}"
        head = found.head(ref) or found.head("refs/heads/main")
        contents = {name: None if text is None else text.encode() for name, text in files.items()}
        author = Author("Ann", "ann@example.org")
        new = found.commit_changes(head, contents, author=author, message="change", at=datetime.now(UTC))
        assert found.set_head(ref, found.head(ref), new)
        found.close()
        return new

    return commit


FLOW = """\
id: {id}
namespace: {namespace}  # whose it is
tasks:
  - {{id: say, type: core.log.Log, message: {message}}}
"""


@dataclass
class Server:
    """The parts of a server over a repository of its own, and a bench for tasks of its environment."""

    bench: Bench
    sync: SyncService
    store: Store
    repository: Path

    def run(self, kind: Any, **fields: Any) -> Any:
        """Run a task in an execution at the active commit."""
        self.bench.commit = self.sync.environment("prod").active
        return self.bench.run(kind, **fields)

    def fail(self, kind: Any, **fields: Any) -> TaskError:
        with pytest.raises(TaskError) as raised:
            self.run(kind, **fields)
        return raised.value

    def rows(self, uri: str) -> list[dict[str, Any]]:
        with self.bench.host.storage.open(uri) as file:
            return [json.loads(line) for line in file.read().splitlines()]

    def flows(self) -> dict[str, str]:
        """Return the active flows: name to source."""
        versions = self.store.read(lambda db: db.flows.list())
        return {f"{each.namespace}.{each.flow_id}": each.source for each in versions}

    def commits(self) -> int:
        return int(git(self.repository, "rev-list", "--count", "main"))


@pytest.fixture
def flow() -> Callable[..., str]:
    return lambda name, namespace="company.team", message="hello": FLOW.format(
        id=name, namespace=namespace, message=message
    )


@pytest.fixture
def server(tmp_path: Path, git_server: Any, seed: Callable[..., str], flow: Any) -> Iterator[Server]:
    repository = git_server.repository("own.git")
    files = {"flows/company.team/a.yaml": flow("a"), "flows/company.team/q.sql": "select 1"}
    seed(repository, files)
    bench = make_bench(tmp_path)
    settings = bench.host.settings.model_copy(
        update={
            "repositories": (RepositorySettings(name="r", url=f"{git_server.url}/own.git"),),
            "environments": (EnvironmentSettings(name="prod", repository="r"),),
        }
    )
    store = fresh_store(settings.database_url, durability="off")
    sync = SyncService(store, Catalogue(store), settings)
    sync.ensure_declared()
    sync.reconcile_repository("r", actor="test")
    bench.host = replace(
        bench.host,
        settings=settings,
        store=store,
        files=sync.file_reader(),
        file_writer=sync.file_writer(),
        flow_writer=sync.flow_writer(),
    )
    bench.environment = "prod"
    yield Server(bench, sync, store, repository)
    sync.close()
    store.close()
