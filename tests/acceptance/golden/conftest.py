"""One server in parts for all golden flows: they stand in a git repository beside a namespace file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from runner.executions.creation import NewExecution
from runner.executions.models import Execution, TaskRun
from runner.flows.catalogue import Catalogue
from runner.local import LocalEngine
from runner.services import Host
from runner.settings import EnvironmentSettings, RepositorySettings, Settings
from runner.store import Store
from runner.stored_key_values import StoredKeyValues
from runner.tasks.languages import LANGUAGES
from sync.service import SyncService
from tests.acceptance.golden.golden import CHILD, GREET, NAMESPACE, SLEEPER, Golden, goldens
from tests.servers.git import GitServer, git, serving
from tests.servers.store import fresh_store

_REAL = frozenset({"python3"})  # others may be missing, and need seconds: a program that ends well stands in for them


@dataclass
class Stage:
    """Runs golden flows one after the other."""

    local: LocalEngine
    store: Store

    def run(self, golden: Golden) -> tuple[Execution, list[TaskRun]]:
        """Run a flow to its end; return the execution and its runs in the order of their creation."""
        created = self.local.engine.create(NewExecution(NAMESPACE, golden.flow_id))
        ended = self.local.engine.wait(created.id, 30)
        assert ended is not None, "it does not end"
        return ended, self.store.read(lambda db: db.executions.runs(created.id))


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("golden")
    with serving(folder / "served") as server:
        _seed(server, "own.git", _own_files())
        _seed(server, "elsewhere.git", {"_flows/other.yml": yaml.safe_dump({**CHILD, "id": "other"}), "_files/b": "b"})
        settings = Settings(
            home=folder / "home",
            work=folder / "work",
            globals={"git": server.url},
            repositories=(RepositorySettings(name="r", url=f"{server.url}/own.git"),),
            environments=(EnvironmentSettings(name="prod", repository="r"),),
        )
        settings.home.mkdir()
        with (
            closing(fresh_store(settings.database_url, durability="off")) as store,
            closing(SyncService(store, Catalogue(store), settings)) as sync,
        ):
            sync.ensure_declared()
            sync.reconcile_repository("r", actor="test")
            with LocalEngine(store, _host(settings, store, sync, _path(folder)), threads=1) as local:
                yield Stage(local, store)


def _host(settings: Settings, store: Store, sync: SyncService, path: str) -> Host:
    kv = StoredKeyValues(store, lambda: datetime.now(UTC))
    host = Host.open(settings, kv, environment={"PATH": path}, store=store, files=sync.file_reader())
    return replace(host, file_writer=sync.file_writer(), flow_writer=sync.flow_writer())


def _own_files() -> dict[str, str]:
    flows = {f"flows/{NAMESPACE}/{each.flow_id}.yaml": each.source for each in goldens().values()}
    called = {f"flows/{NAMESPACE}/{each['id']}.yaml": yaml.safe_dump(each) for each in (CHILD, SLEEPER)}
    called[f"flows/{NAMESPACE}/_templates/greet.yaml"] = GREET
    return flows | called | {f"flows/{NAMESPACE}/{name}.sql": "select 1" for name in ("old", "a")}


def _seed(server: GitServer, name: str, files: dict[str, str]) -> None:
    repository = server.repository(name)
    tree = server.root.parent / f"tree-{name}"
    git(server.root, "clone", "-q", str(repository), str(tree))
    for path, text in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "first")
    git(tree, "push", "-q", "origin", "HEAD:refs/heads/main")


def _path(folder: Path) -> str:
    """Return a PATH on which each language has a program, though it does nothing."""
    programs = folder / "bin"
    programs.mkdir()
    named = {language.program for language in LANGUAGES.values()} | {
        language.interpreter[0] for language in LANGUAGES.values() if "/" not in language.interpreter[0]
    }
    for name in (named | {"npm"}) - _REAL - {""}:
        (programs / name).write_text("#!/bin/sh\nexit 0\n")
        (programs / name).chmod(0o755)
    return f"{programs}:{os.environ['PATH']}"
