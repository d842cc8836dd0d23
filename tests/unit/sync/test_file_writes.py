"""Namespace tasks against real repositories: what they write are commits."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.context import TaskContext
from runner.errors import MainstemError
from runner.executions.models import Execution, TaskRun
from runner.flows.catalogue import Catalogue
from runner.flows.models import Flow
from runner.key_values import MemoryKeyValues
from runner.services import Host
from runner.settings import EnvironmentSettings, RepositorySettings, Settings
from runner.states import State
from runner.tasks.namespace import DeleteFiles, UploadFiles
from sync.service import SyncService
from tests.servers.git import git
from tests.servers.store import fresh_store

FLOW = """\
id: a
namespace: company.team
tasks:
  - id: say
    type: core.log.Log
    message: hello
"""


class Place:
    """A server's parts over one repository, with tasks that run in an execution of its environment."""

    def __init__(self, home: Path, url: str, **environment: Any) -> None:
        self.settings = Settings(
            home=home,
            work=home / "work",
            repositories=(RepositorySettings(name="r", url=url),),
            environments=(EnvironmentSettings(name="prod", repository="r", **environment),),
        )
        home.mkdir()
        self.store = fresh_store(self.settings.database_url, durability="off")
        self.sync = SyncService(self.store, Catalogue(self.store), self.settings)
        self.sync.ensure_declared()
        self.sync.reconcile_repository("r", actor="test")
        self.host = replace(
            Host.open(self.settings, MemoryKeyValues(), environment=dict(os.environ)),
            files=self.sync.file_reader(),
            file_writer=self.sync.file_writer(),
        )

    def run(self, kind: Any, staged: dict[str, str] | None = None, **fields: Any) -> Any:
        """Run a task with `staged` in its working directory; return its outputs."""
        task = kind.model_validate({"id": "t", "type": "x", **fields})
        flow = Flow(id="a", namespace="company.team", tasks=(task,))
        now = self.host.clock()
        execution = Execution("e", flow.namespace, flow.id, 1, State.RUNNING, now)
        execution = replace(execution, environment="prod", commit=self.head)
        run = TaskRun(f"run{threading.get_ident()}", "e", "t", State.RUNNING, now, attempts=1)
        variables = {"flow": {"id": flow.id, "namespace": flow.namespace}}
        with TaskContext(self.host, flow, execution, run, variables) as ctx:
            for name, text in (staged or {}).items():
                path = ctx.work_dir() / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return task.run(ctx)

    @property
    def head(self) -> str:
        active = self.sync.environment("prod").active
        assert active is not None
        return active

    def read(self) -> dict[str, str]:
        """Return the namespace files at the active commit."""
        paths = self.host.files.list("prod", self.head, "company.team")
        return {path: self.host.files.read("prod", self.head, "company.team", path).decode() for path in paths}

    def close(self) -> None:
        self.sync.close()
        self.store.close()


Open = Callable[..., Place]


@pytest.fixture
def served(git_server: Any, work_tree: Any) -> Callable[[dict[str, str]], Path]:
    def push(files: dict[str, str]) -> Path:
        repository: Path = git_server.repository("flows.git")
        work_tree.write(files)
        work_tree.push(repository)
        return repository

    return push


@pytest.fixture
def place(tmp_path: Path, git_server: Any) -> Iterator[Open]:
    opened: list[Place] = []

    def make(**environment: Any) -> Place:
        opened.append(Place(tmp_path / f"home{len(opened)}", f"{git_server.url}/flows.git", **environment))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def tree(repository: Path) -> list[str]:
    return git(repository, "ls-tree", "-r", "--name-only", "main").splitlines()


@pytest.mark.parametrize(
    ("files", "stands"),
    [
        ({"flows/company.team/a.yaml": FLOW}, "flows/company.team/out/x.txt"),
        ({"flows/company/team/a.yaml": FLOW, "flows/company/team/y": "y"}, "flows/company/team/out/x.txt"),
        (
            {"flows/company.team/flows/a.yaml": FLOW, "flows/company.team/files/y": ""},
            "flows/company.team/files/out/x.txt",
        ),
        ({"flows/_flows/a.yaml": FLOW, "flows/_files/y": "y"}, "flows/_files/out/x.txt"),
        ({"flows/a.yaml": FLOW, "flows/b.yaml": FLOW.replace("team", "two")}, "flows/company.team/_files/out/x.txt"),
        ({".mainstem.yaml": "flows: flows\nfiles: data\n", "flows/a.yaml": FLOW}, "data/company.team/out/x.txt"),
    ],
)
def test_an_uploaded_file_stands_where_the_layout_of_the_repository_has_it(
    served: Any, place: Open, files: dict[str, str], stands: str
) -> None:
    repository = served(files)
    server = place()

    outputs = server.run(UploadFiles, {"x.txt": "one"}, files="*.txt", destination="/out")

    assert sorted(tree(repository)) == sorted([*files, stands])
    assert server.read()["out/x.txt"] == "one"
    assert list(outputs["files"]) == ["/out/x.txt"]
    assert git(repository, "log", "-1", "--format=%an: %s", "main") == "company.team.a: Write 1 file of company.team"


def test_a_yaml_file_that_would_be_a_flow_goes_among_the_files(served: Any, place: Open) -> None:
    repository = served({"flows/company.team/a.yaml": FLOW})
    server = place()

    server.run(UploadFiles, {"conf.yaml": "x: 1", "b.txt": "b"}, files=["*"])

    assert "flows/company.team/_files/conf.yaml" in tree(repository)
    assert "flows/company.team/b.txt" in tree(repository)
    assert server.read() == {"b.txt": "b", "conf.yaml": "x: 1"}


def test_the_same_upload_twice_is_one_commit(served: Any, place: Open) -> None:
    repository = served({"flows/company.team/a.yaml": FLOW})
    server = place()

    outputs = [server.run(UploadFiles, {"x": "1"}, files="x", conflict="ERROR") for _ in range(2)]

    assert outputs[0] == outputs[1]
    assert git(repository, "rev-list", "--count", "main") == "2"


@pytest.mark.parametrize(("conflict", "content"), [("OVERWRITE", "new"), ("SKIP", "old"), ("ERROR", "old")])
def test_a_conflict_ends_as_the_task_says(served: Any, place: Open, conflict: str, content: str) -> None:
    served({"flows/company.team/a.yaml": FLOW, "flows/company.team/x": "old"})
    server = place()
    codes = []

    try:
        server.run(UploadFiles, {"x": "new"}, files="x", conflict=conflict)
    except MainstemError as error:
        codes.append(error.code)

    assert server.read() == {"x": content}
    assert codes == (["namespace.file.exists"] if conflict == "ERROR" else [])


def test_deleted_files_are_gone_with_one_commit_and_flows_stay(served: Any, place: Open) -> None:
    files = {"flows/company.team/a.yaml": FLOW, "flows/company.team/d/x": "1", "flows/company.team/d/y": "2"}
    repository = served({**files, "flows/company.team/z": "3"})
    server = place()

    server.run(DeleteFiles, files="**/*", namespace="company.team.below")
    server.run(DeleteFiles, files=["d/**", "a.yaml"])

    assert tree(repository) == ["flows/company.team/a.yaml", "flows/company.team/z"]
    assert git(repository, "rev-list", "--count", "main") == "2"


@pytest.mark.parametrize(
    ("environment", "code"),
    [
        ({"writes": "refuse"}, "environment.writes.refused"),
        ({"writes": "propose"}, "environment.writes.elsewhere"),
        ({"namespaces": ("other",)}, "namespace.files.foreign"),
    ],
)
def test_an_environment_that_takes_no_such_commit_refuses(
    served: Any, place: Open, environment: dict[str, Any], code: str
) -> None:
    flow = FLOW.replace("company.team", "other") if "namespaces" in environment else FLOW
    repository = served({"flows/a.yaml": flow})
    server = place(**environment)

    with pytest.raises(MainstemError) as caught:
        server.run(UploadFiles, {"x": "1"}, files="x")

    assert caught.value.code == code
    assert git(repository, "rev-list", "--count", "main") == "1"


def test_uploads_of_two_servers_at_once_all_arrive(served: Any, place: Open) -> None:
    repository = served({"flows/company.team/a.yaml": FLOW})
    servers = [place(), place()]
    failures: list[MainstemError] = []

    def upload(server: Place, name: str) -> None:
        try:
            server.run(UploadFiles, {name: name}, files=name)
        except MainstemError as error:
            failures.append(error)

    threads = [threading.Thread(target=upload, args=(servers[number % 2], f"f{number}")) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert {f"flows/company.team/f{number}" for number in range(6)} <= set(tree(repository))
