"""ForEachItem on a real engine: the file is cut, the flow runs for each piece, the outputs are joined."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runner.executions.creation import NewExecution
from runner.executions.engine import Engine
from runner.key_values import MemoryKeyValues
from runner.local import LocalEngine
from runner.services import Host
from runner.settings import Settings
from runner.states import State
from runner.store.records import FlowDraft
from tests.servers.store import fresh_store

ORDERS = """
id: orders
namespace: shop
tasks:
  - {id: file, type: core.storage.Write, content: "1\\n2\\n3\\n4\\n5\\n", extension: .txt}
  - id: each
    type: core.flow.ForEachItem
    items: "{{ outputs.file.uri }}"
    batch: {rows: 2}
    namespace: shop
    flowId: order
    inputs: {rows: "{{ taskrun.items }}"}
  - {id: joined, type: core.debug.Return, format: "{{ read(outputs.each_merge.subflowOutputs) }}"}
"""
ORDER = """
id: order
namespace: shop
inputs: [{id: rows, type: FILE}]
tasks: [{id: count, type: core.debug.Return, format: "{{ read(inputs.rows) | split('\\n') | join('+') }}"}]
outputs: [{id: sum, type: STRING, value: "{{ outputs.count.value }}"}]
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Give an engine with both flows, and workers that carry out what it decides."""
    settings = Settings(home=tmp_path / "home", work=tmp_path / "work")
    settings.home.mkdir()
    store = fresh_store(settings.database_url)
    for flow_id, source in (("orders", ORDERS), ("order", ORDER)):
        draft = FlowDraft("shop", flow_id, hashlib.sha1(source.encode()).hexdigest(), source, datetime.now(UTC))
        store.write(lambda db, draft=draft: db.flows.put(draft))  # type: ignore[misc]  # bound now
    host = Host.open(
        settings,
        MemoryKeyValues(),
        environment={},
        store=store,
        execution_of=lambda execution_id: store.read(lambda db: db.executions.get(execution_id)),
    )
    with LocalEngine(store, host) as local:
        yield local.engine
    store.close()


def test_the_outputs_of_all_batches_stand_in_one_file_in_their_order(engine: Engine) -> None:
    execution = engine.create(NewExecution("shop", "orders"))

    ended = engine.wait(execution.id, 30)

    assert ended is not None
    assert ended.state is State.SUCCESS, ended.error
    runs = {run.task_id: run.id for run in engine.store.read(lambda db: db.executions.runs(execution.id))}
    outputs = engine.store.read(lambda db: db.executions.outputs(execution.id))
    assert outputs[runs["joined"]]["value"] == '{"sum":"1+2"}\n{"sum":"3+4"}\n{"sum":"5"}\n'
    assert outputs[runs["each_items"]] == {
        "numberOfBatches": 3,
        "iterations": {"CREATED": 0, "RUNNING": 0, "SUCCESS": 3},
    }
