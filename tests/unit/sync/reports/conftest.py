"""Servers without an engine: runs are put into the store as the engine leaves them, and real git holds the rest."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from posixpath import dirname, join, normpath
from typing import Any

import pytest

from runner.executions.models import OUTBOX_REPORT, Commit, Execution, LogEntry, OutboxRow, TaskRun
from runner.flows.catalogue import Catalogue
from runner.ids import new_id
from runner.services import Host
from runner.settings import EnvironmentSettings, ReportSettings, RepositorySettings, Settings
from runner.states import State
from runner.store import Store
from runner.stored_key_values import StoredKeyValues
from sync.reports.writer import ReportWriter
from sync.service import SyncService
from tests.servers.store import fresh_store

NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
BRANCH = "mainstem-reports"
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)]+)\)")
FLOW = """\
id: {flow}
namespace: {namespace}
inputs:
  - id: token
    type: SECRET
    required: false
tasks:
  - id: say
    type: core.log.Log
    message: {message}
"""


def git(folder: Path, *arguments: str, code: int | None = 0) -> str:
    identity = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert code is None or done.returncode == code, done.stderr
    return done.stdout


@dataclass
class Branch:
    """The reports branch of a bare repository on this machine, read by git itself."""

    path: Path
    name: str = BRANCH

    def exists(self) -> bool:
        return git(self.path, "rev-parse", "--verify", "--quiet", f"refs/heads/{self.name}", code=None) != ""

    def head(self) -> str:
        return git(self.path, "rev-parse", f"refs/heads/{self.name}").strip()

    def commits(self) -> list[str]:
        return git(self.path, "log", "--format=%s", f"refs/heads/{self.name}").splitlines() if self.exists() else []

    def files(self) -> dict[str, str]:
        names = git(self.path, "ls-tree", "-r", "-z", "--name-only", f"refs/heads/{self.name}").split("\0")
        return {name: git(self.path, "show", f"refs/heads/{self.name}:{name}") for name in names if name}

    def lines(self) -> list[dict[str, Any]]:
        """All lines of all files of rows."""
        files = self.files()
        return [
            json.loads(line) for name in sorted(files) if name.endswith(".jsonl") for line in files[name].splitlines()
        ]

    def runs(self) -> list[str]:
        """The ids of all runs that have a line, in order of id, each as often as it has one."""
        return sorted(line["id"] for line in self.lines() if "id" in line)

    def dead_links(self) -> list[tuple[str, str]]:
        """Links between pages that lead nowhere."""
        files = self.files()
        return [
            (name, target)
            for name, text in files.items()
            if name.endswith(".md")
            for target in _LINK.findall(text)
            if "://" not in target and normpath(join(dirname(name), target)) not in files
        ]


@dataclass
class Server:
    """A store, repositories and a report writer whose clock is turned by hand."""

    settings: Settings
    store: Store
    service: SyncService
    host: Host
    catalogue: Catalogue
    now: datetime = NOW
    writer: ReportWriter = field(init=False)

    def __post_init__(self) -> None:
        self.writer = self.restarted()

    def restarted(self, store: Store | None = None, **options: Any) -> ReportWriter:
        """A writer as a new process would make it."""
        self.writer = ReportWriter(
            self.settings, store or self.store, self.catalogue, self.service, self.host, **options
        )
        return self.writer

    @property
    def branch(self) -> Branch:
        return Branch(self.settings.home.absolute() / "git" / "flows.git", self.settings.reports.branch)

    def deploy(self, *keys: str, message: str = "hello") -> None:
        """Commit flows `namespace.flow` to the repository of their environment."""
        flows = [key.rpartition(".") for key in keys]
        self.service.write_flows(
            [FLOW.format(namespace=namespace, flow=flow, message=message) for namespace, _, flow in flows], actor="ann"
        )

    def ended(self, key: str = "weather.report", state: State = State.SUCCESS, **fields: Any) -> Execution:
        """Put a run that ended just now into the store, as the engine leaves it behind."""
        namespace, _, flow = key.rpartition(".")
        version = self.store.read(lambda db: db.flows.active(namespace, flow))
        values: dict[str, Any] = {
            "id": new_id(),
            "namespace": namespace,
            "flow_id": flow,
            "flow_revision": version.revision if version else 1,
            "state": state,
            "created_at": self.now - timedelta(seconds=2),
            "started_at": self.now - timedelta(seconds=2),
            "ended_at": self.now,
            "environment": version.environment if version else "default",
            "commit": version.commit if version else None,
            "histories": ((State.CREATED, self.now - timedelta(seconds=2)), (state, self.now)),
        }
        execution = Execution(**(values | fields))

        def write(db: Any) -> None:
            db.executions.insert(execution)
            db.outbox.add([OutboxRow(OUTBOX_REPORT, execution.id, {"environment": execution.environment})])

        self.store.write(write)
        return execution

    def with_task(self, execution: Execution, message: str = "no rows", **fields: Any) -> TaskRun:
        """Give a run its one task, with a line of log."""
        values: dict[str, Any] = {
            "id": new_id(),
            "execution_id": execution.id,
            "task_id": "say",
            "state": execution.state,
            "created_at": self.now,
            "started_at": self.now,
            "ended_at": self.now,
            "error": message,
        }
        task = TaskRun(**(values | fields))
        later = replace(execution, version=execution.version + 1)
        outputs = {task.id: {"text": message}}
        commit = Commit(later, execution.version, new_runs=(task,), task_outputs=outputs)
        assert self.store.write(lambda db: db.executions.commit(commit))
        entry = LogEntry(
            execution.id, execution.namespace, execution.flow_id, self.now, "ERROR", message, "say", task.id
        )
        self.store.logs.append([entry])
        return task

    def write(self, **later: float) -> int:
        """Turn the clock on and write what the outbox holds; give how many rows left it."""
        self.now += timedelta(**(later or {"seconds": 10}))
        return self.writer.run_once()

    def counts(self) -> dict[str, dict[str, int]]:
        """The counts of runs by flow and state that the writer remembers."""
        found: dict[str, dict[str, int]] = {}
        names = [environment.name for environment in self.service.status()]
        for texts in self.store.read(lambda db: [db.reports.texts(name) for name in names]):
            for key, text in [each for each in texts if each[0].startswith("flow:")]:
                for counts in json.loads(text)["days"].values():
                    for state, count in counts.items():
                        here = found.setdefault(key.removeprefix("flow:"), {})
                        here[state] = here.get(state, 0) + count
        return found


Start = Callable[..., Server]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers; each has a home of its own."""
    opened: list[Server] = []

    def make(
        *environments: EnvironmentSettings,
        repositories: tuple[RepositorySettings, ...] = (),
        **reports: Any,
    ) -> Server:
        home = tmp_path / f"home{len(opened)}"
        home.mkdir(mode=0o700)
        settings = Settings(
            home=home, environments=environments, repositories=repositories, reports=ReportSettings(**reports)
        )
        store = fresh_store(settings.database_url, durability="off")
        catalogue = Catalogue(store)
        service = SyncService(store, catalogue, settings)
        service.ensure_declared()
        server: Server

        def clock() -> datetime:
            return server.now

        host = Host.open(settings, StoredKeyValues(store, clock), environment={}, clock=clock, store=store)
        server = Server(settings, store, service, host, catalogue)
        opened.append(server)
        return server

    yield make
    for server in opened:
        server.service.close()
        server.store.close()


@pytest.fixture
def server(start: Start) -> Server:
    """A server with the hosted repository and one flow."""
    found = start()
    found.deploy("weather.report")
    return found


@pytest.fixture
def run_git() -> Callable[..., str]:
    """Run git in a folder; give what it prints."""
    return git


@pytest.fixture
def branch_of() -> type[Branch]:
    """Read a branch of a bare repository."""
    return Branch
