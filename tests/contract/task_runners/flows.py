"""A flow on an engine of its own, whose tasks run on the task runner of a bench."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.executions.creation import NewExecution
from runner.executions.models import Attempt, Execution
from runner.key_values import MemoryKeyValues
from runner.local import LocalEngine
from runner.services import Host
from runner.settings import Settings
from runner.store import LogQuery, Store
from runner.store.records import FlowDraft

if TYPE_CHECKING:
    from tests.contract.task_runners.conftest import Bench


@dataclass(frozen=True)
class FlowEngine:
    """An engine with one flow."""

    store: Store
    host: Host
    local: LocalEngine
    flow: Mapping[str, Any]

    def start(self, **inputs: Any) -> str:
        """Start an execution and return its id."""
        flow = self.flow
        return self.local.engine.create(NewExecution(flow["namespace"], flow["id"], inputs=inputs)).id

    def ended(self, execution_id: str) -> Execution:
        """Return an execution once it has ended, within a minute and a half."""
        execution = self.local.engine.wait(execution_id, 90)
        assert execution is not None, "it has not ended"
        return execution

    def attempts(self, execution_id: str) -> list[Attempt]:
        """Return the attempts of its tasks."""
        return self.store.read(lambda db: db.executions.attempts(execution_id))

    def lines(self, execution_id: str) -> list[str]:
        """Return its log."""
        self.store.logs.flush()
        return [row.message for row in self.store.logs.search(LogQuery(execution_id=execution_id)).items]


@contextlib.contextmanager
def engine_of(bench: Bench, flow: Mapping[str, Any], home: Path) -> Iterator[FlowEngine]:
    """Give an engine with one active flow."""
    settings = Settings(home=home, work=bench.workdir.path)
    settings.home.mkdir()
    store = Store.open(settings.database_url)
    source = json.dumps(flow)
    digest = hashlib.sha1(source.encode()).hexdigest()
    draft = FlowDraft(flow["namespace"], flow["id"], digest, source, datetime.now(UTC))
    store.write(lambda db: db.flows.put(draft))
    host = Host.open(
        settings,
        MemoryKeyValues(),
        environment=bench.environment,
        store=store,
        log=lambda entry: store.logs.append([entry]),
    )
    with LocalEngine(store, host) as local:
        yield FlowEngine(store, host, local, flow)
    store.close()


def runner_values(bench: Bench) -> dict[str, Any]:
    """Return the properties of the task runner as YAML has them, without its type."""
    return bench.runner.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"type"})
