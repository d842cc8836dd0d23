"""Stores of both kinds, and rows to put into them."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest

from runner.executions.models import Commit, Execution, OutboxRow, TaskRun
from runner.ids import new_id
from runner.states import State
from runner.store import Store

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def _postgres_programs() -> Path | None:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    found = shutil.which("initdb")
    return folders[-1] if folders else Path(found).parent if found else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgres_server(optional: Callable[[str, str], NoReturn]) -> Iterator[str]:
    """The URL of a server that may be filled with databases: the one that is named, or one of our own."""
    named = os.environ.get("MAINSTEM_TEST_POSTGRES")
    if named:
        yield named.rstrip("/").rsplit("/", 1)[0]
        return
    programs = _postgres_programs()
    if programs is None:
        optional("postgres", "no PostgreSQL in /usr/lib/postgresql and no MAINSTEM_TEST_POSTGRES")
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to run as root
    if user and user not in {entry.pw_name for entry in pwd.getpwall()}:
        optional("postgres", "running as root, and there is no user 'postgres' to run the server")
    folder = Path(tempfile.mkdtemp(prefix="mainstem-pg-"))
    if user:
        shutil.chown(folder, user)
    data, port = folder / "data", _free_port()

    def run(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(programs / program), "-D", str(data), *arguments],
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            cwd=folder,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode != 0:
            optional("postgres", f"{program} ended with {done.returncode}")

    run("initdb", "-A", "trust", "-U", "mainstem", "-N", "-E", "UTF8")
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=200"
    run("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
    try:
        yield f"postgresql+psycopg://mainstem@127.0.0.1:{port}"
    finally:
        run("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> str:
    """The name of a database that has our tables and nothing in them; copying it is faster than migrating again."""
    name = f"template_{new_id()}"
    _administrate(postgres_server, f"CREATE DATABASE {name}")
    Store.migrate(f"{postgres_server}/{name}")
    return name


def _administrate(server: str, statement: str) -> None:
    import psycopg

    with psycopg.connect(f"{server}/postgres".replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(statement)


@pytest.fixture
def postgres_url(postgres_server: str, postgres_template: str) -> Iterator[str]:
    """The URL of a fresh database."""
    name = f"test_{new_id()}"
    _administrate(postgres_server, f"CREATE DATABASE {name} TEMPLATE {postgres_template}")
    yield f"{postgres_server}/{name}"
    _administrate(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def postgres_empty_url(postgres_server: str) -> Iterator[str]:
    """The URL of a database without tables."""
    name = f"empty_{new_id()}"
    _administrate(postgres_server, f"CREATE DATABASE {name}")
    yield f"{postgres_server}/{name}"
    _administrate(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The URL of a file that is not there yet."""
    return f"sqlite:///{tmp_path}/state.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty store, once of each kind."""
    name = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    url: str = request.getfixturevalue(name)
    return url


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """An empty store, once of each kind, whose clock stands still; it must be sound at the end."""
    opened = Store.open(store_url, durability="normal", clock=lambda: NOW)
    yield opened
    findings = opened.check()
    opened.close()
    assert findings == []


class Rows:
    """Makes rows with ids of their own, and puts them into a store."""

    now = NOW

    def execution(self, **fields: Any) -> Execution:
        """A fresh execution of `team.data.etl`."""
        values: dict[str, Any] = {
            "id": new_id(),
            "namespace": "team.data",
            "flow_id": "etl",
            "flow_revision": 1,
            "state": State.CREATED,
            "created_at": NOW,
            "histories": ((State.CREATED, NOW),),
        }
        return Execution(**(values | fields))

    def run(self, execution: Execution, **fields: Any) -> TaskRun:
        """A submitted run of the task `work`."""
        values: dict[str, Any] = {
            "id": new_id(),
            "execution_id": execution.id,
            "task_id": "work",
            "state": State.SUBMITTED,
            "created_at": NOW,
            "histories": ((State.SUBMITTED, NOW),),
        }
        return TaskRun(**(values | fields))

    def insert(self, store: Store, execution: Execution) -> None:
        """Put an execution into a store."""
        store.write(lambda session: session.executions.insert(execution))

    def commit(self, store: Store, commit: Commit) -> None:
        """Commit what has to succeed."""
        assert store.write(lambda session: session.executions.commit(commit))

    def started(self, store: Store, **fields: Any) -> Execution:
        """An execution that is RUNNING at version 1 and has no runs."""
        execution = self.execution(**fields)
        store.write(lambda session: session.executions.insert(execution))
        running = execution.enter(State.RUNNING, NOW)
        assert store.write(lambda session: session.executions.commit(Commit(running, 0)))
        return replace(running, version=1)

    def submitted(self, store: Store, **fields: Any) -> TaskRun:
        """A submitted run of an execution that is at version 1, with the row that rings for it."""
        execution = self.execution()
        run = self.run(execution, **fields)
        store.write(lambda session: session.executions.insert(execution))
        bell = OutboxRow("run", run.id, {"epoch": run.epoch})
        commit = Commit(execution.enter(State.RUNNING, NOW), 0, new_runs=(run,), outbox=(bell,))
        assert store.write(lambda session: session.executions.commit(commit))
        return run


@pytest.fixture
def rows() -> Rows:
    """Makes rows."""
    return Rows()


@pytest.fixture
def at_once() -> Callable[[list[Callable[[], Any]]], list[Any]]:
    """Run functions in threads of their own, all at once; give their results in order."""

    def run(functions: list[Callable[[], Any]]) -> list[Any]:
        with ThreadPoolExecutor(len(functions)) as threads:
            return [future.result(60) for future in [threads.submit(function) for function in functions]]

    return run
