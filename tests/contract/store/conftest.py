"""Stores of both kinds, and rows to put into them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runner.executions.models import Commit, Execution, OutboxRow, TaskRun
from runner.ids import new_id
from runner.states import State
from runner.store import Store
from tests.servers.postgres import postgres_empty_url, postgres_server, postgres_template, postgres_url
from tests.servers.store import fresh_store

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


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
    opened = fresh_store(store_url, durability="normal", clock=lambda: NOW)
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
