"""A `Loop` whose tasks a worker runs: they see the rows of a file and the outputs of their own iteration."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path

from runner.executions.creation import NewExecution
from runner.key_values import MemoryKeyValues
from runner.local import LocalEngine
from runner.services import Host
from runner.settings import Settings
from runner.states import State
from runner.store.records import FlowDraft
from tests.servers.store import fresh_store

FLOW = """\
id: rows
namespace: team
tasks:
  - {id: make, type: core.storage.Write, content: "{\\"n\\": 1}\\n{\\"n\\": 2}\\n", extension: .jsonl}
  - id: loop
    type: core.flow.Loop
    values: "{{ outputs.make.uri }}"
    concurrencyLimit: 2
    outputs: [{id: sum, type: INT, value: "{{ outputs.inner.vars.n }}"}]
    tasks:
      - id: twice
        type: scripts.shell.Commands
        taskRunner: {type: core.runner.Process}
        commands: ["echo '::{\\"outputs\\":{\\"n\\":'$(( 2 * {{ fromJson(item.value).n }} ))'}}::'"]
      - id: directory
        type: core.flow.WorkingDirectory
        tasks:
          - id: inner
            type: scripts.shell.Commands
            taskRunner: {type: core.runner.Process}
            commands: ["echo '::{\\"outputs\\":{\\"n\\":'$(( {{ outputs.twice.vars.n }} + {{ item.index }} ))'}}::'"]
outputs:
  - {id: sums, type: JSON, value: "{{ loopOutputs(outputs.loop.outputs, 'sum') }}"}
"""


def test_bodies_of_a_loop_over_a_file_see_their_own_iteration(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", work=tmp_path / "work")
    store = fresh_store(f"sqlite:///{tmp_path / 'state.db'}", durability="off")
    host = Host.open(settings, MemoryKeyValues(), environment={"PATH": os.environ["PATH"]})
    blob = hashlib.sha1(FLOW.encode()).hexdigest()
    draft = FlowDraft("team", "rows", blob, FLOW, datetime.now(UTC), "default", "c" * 40, "flows/x.yaml")
    store.write(lambda db: db.flows.put(draft))

    with LocalEngine(store, host) as local:
        ended = local.engine.wait(local.engine.create(NewExecution("team", "rows")).id, 30)

    store.close()
    assert ended is not None
    assert (ended.state, ended.outputs) == (State.SUCCESS, {"sums": [2, 5]})
