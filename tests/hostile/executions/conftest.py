"""A whole engine with real workers and real processes, in one process of ours."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runner.executions.creation import NewExecution
from runner.executions.models import Execution, LogEntry, TaskRun
from runner.executions.outputs import restored
from runner.key_values import MemoryKeyValues
from runner.local import LocalEngine
from runner.services import Host
from runner.settings import Settings
from runner.store import LogQuery, Store
from runner.store.records import FlowDraft
from tests.servers.store import fresh_store

SECRET = "hunter2-rules-the-world"
NAMESPACE = "company.team"


@dataclass
class Lab:
    """Runs flows to their end and looks at what is left of them."""

    store: Store
    host: Host
    local: LocalEngine
    root: Path

    def deploy(self, source: str, flow_id: str = "flow") -> None:
        text = f"id: {flow_id}\nnamespace: {NAMESPACE}\n{source}"
        draft = FlowDraft(NAMESPACE, flow_id, hashlib.sha1(text.encode()).hexdigest(), text, datetime.now(UTC))
        self.store.write(lambda db: db.flows.put(draft))

    def start(self, source: str, **fields: Any) -> Execution:
        self.deploy(source)
        return self.local.engine.create(NewExecution(NAMESPACE, "flow", **fields))

    def run(self, source: str, *, within_s: float = 30, **fields: Any) -> Execution:
        return self.end(self.start(source, **fields), within_s=within_s)

    def end(self, execution: Execution, *, within_s: float = 30) -> Execution:
        ended = self.local.engine.wait(execution.id, within_s)
        assert ended is not None, self.runs(execution)
        return ended

    def runs(self, execution: Execution) -> list[TaskRun]:
        return self.store.read(lambda db: db.executions.runs(execution.id))

    def run_of(self, execution: Execution, task_id: str) -> TaskRun:
        return next(run for run in self.runs(execution) if run.task_id == task_id)

    def rows(self, execution: Execution) -> dict[str, dict[str, Any]]:
        """The outputs as they stand in the store, by task."""
        found = self.store.read(lambda db: db.executions.outputs(execution.id))
        return {run.task_id: found[run.id] for run in self.runs(execution) if run.id in found}

    def outputs(self, execution: Execution) -> dict[str, dict[str, Any]]:
        return restored(self.host.storage, self.rows(execution))

    def logs(self, execution: Execution, count: int = 1000) -> list[LogEntry]:
        self.store.flush()
        return self.store.logs.last(LogQuery(execution_id=execution.id), count)

    def messages(self, execution: Execution) -> list[str]:
        return [entry.message for entry in self.logs(execution)]

    def left_processes(self, mark: str) -> list[str]:
        """The processes of this machine whose command line holds `mark`."""
        found = []
        for place in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = place.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # it has ended
            if mark in line and int(place.parent.name) != os.getpid():
                found.append(line)
        return found


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    settings = Settings(home=tmp_path / "home", work=tmp_path / "work", default_task_runner="process")
    settings.home.mkdir()
    store = fresh_store(settings.database_url, durability="off")
    environment = {"PATH": os.environ["PATH"], "SECRET_PASSWORD": base64.b64encode(SECRET.encode()).decode()}
    host = Host.open(
        settings, MemoryKeyValues(), environment=environment, log=lambda entry: store.logs.append([entry]), store=store
    )
    with ExitStack() as stack:
        stack.callback(store.close)
        yield Lab(store, host, stack.enter_context(LocalEngine(store, host)), tmp_path)


@pytest.fixture
def shell() -> Callable[..., str]:
    """Write a flow of one shell script; `options` are further properties of the task."""

    def flow(script: str, *, options: str = "", after: str = "") -> str:
        lines = "".join(f"      {line}\n" for line in script.splitlines())
        extra = "".join(f"    {line}\n" for line in options.splitlines())
        return f"tasks:\n  - id: s\n    type: scripts.shell.Script\n{extra}    script: |\n{lines}{after}"

    return flow
