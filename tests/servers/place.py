"""Engines that share one store, each as if it were a process of its own."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.executions.models import Execution, TaskRun
from runner.local import LocalEngine
from runner.services import Host
from runner.store import Store
from runner.store.records import FlowDraft

FLOW = """\
id: {id}
namespace: team
tasks:
  - id: body
    type: scripts.shell.Commands
    commands:
      - {command}
"""


def wait_until(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.01)
    return found


@dataclass
class Place:
    """Engines that share one store, each as if it were a process of its own."""

    store: Store
    host: Host
    folder: Path
    opened: list[LocalEngine]

    @property
    def ledger(self) -> Path:
        return self.folder / "ledger"

    def engine(self) -> LocalEngine:
        local = LocalEngine(self.store, self.host)
        self.opened.append(local)
        return local

    def flow(self, command: str, flow_id: str = "work") -> str:
        return self.deploy(FLOW.format(id=flow_id, command=command), flow_id)

    def deploy(self, source: str, flow_id: str) -> str:
        blob = hashlib.sha1(source.encode()).hexdigest()
        draft = FlowDraft("team", flow_id, blob, source, datetime.now(UTC), "default", "c" * 40, "flows/x.yaml")
        self.store.write(lambda db: db.flows.put(draft))
        return flow_id

    def says(self, word: str) -> str:
        return f'echo "$MAINSTEM_EPOCH {word}" >> {self.ledger}'

    def said(self) -> list[str]:
        return self.ledger.read_text().splitlines() if self.ledger.exists() else []

    def runs_of(self, execution: Execution) -> list[TaskRun]:
        return self.store.read(lambda db: db.executions.runs(execution.id))

    def run_of(self, execution: Execution) -> TaskRun:
        (run,) = self.runs_of(execution)
        return run
