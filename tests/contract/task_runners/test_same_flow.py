"""One flow, whose input says where its task runs, gives the same everywhere: outputs, files, logs, failures."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner.executions.creation import NewExecution
from runner.key_values import MemoryKeyValues
from runner.local import LocalEngine
from runner.services import Host
from runner.settings import Settings
from runner.states import State
from runner.store import LogQuery, Store
from runner.store.records import FlowDraft
from tests.contract.task_runners.conftest import CLOUDS, IMAGE

if TYPE_CHECKING:
    from tests.contract.task_runners.conftest import Bench

BODY = """\
cat in/words.txt | tr a-z A-Z > out.txt
echo "$GREETING from the task"
echo '::{"outputs": {"lines": 2}, "metrics": [{"name": "rows", "type": "counter", "value": 2}]}::'
test {{ inputs.code }} = 0 || exit {{ inputs.code }}
"""


def flow_for(bench: Bench) -> dict[str, Any]:
    """Return the flow; what a place needs stands in its `pluginDefaults`, and the task names none."""
    values = bench.runner.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"type"})
    task = {
        "id": "body",
        "type": "scripts.shell.Commands",
        "containerImage": IMAGE,
        "taskRunner": {"type": "{{ inputs.where }}"},
        "inputFiles": {"in/words.txt": "one\ntwo\n"},
        "outputFiles": ["*.txt"],
        "env": {"GREETING": "hello"},
        "commands": [BODY],
    }
    return {
        "id": "anywhere",
        "namespace": "company.team",
        "inputs": [{"id": "where", "type": "STRING"}, {"id": "code", "type": "INT", "defaults": 0}],
        "pluginDefaults": [{"type": bench.runner.type, "values": values}] if values else [],
        "tasks": [task],
    }


@pytest.mark.parametrize("place", ["process", "docker", "kubernetes", *CLOUDS])
def test_the_same_flow_gives_the_same_everywhere(request: pytest.FixtureRequest, tmp_path: Path, place: str) -> None:
    bench: Bench = request.getfixturevalue(f"{place}_bench")
    settings = Settings(home=tmp_path / "home", work=bench.workdir.path)
    settings.home.mkdir()
    store = Store.open(settings.database_url)
    source = json.dumps(flow_for(bench))
    digest = hashlib.sha1(source.encode()).hexdigest()
    store.write(lambda db: db.flows.put(FlowDraft("company.team", "anywhere", digest, source, datetime.now(UTC))))
    host = Host.open(
        settings,
        MemoryKeyValues(),
        environment=bench.environment,
        store=store,
        log=lambda entry: store.logs.append([entry]),
    )
    with LocalEngine(store, host) as local:
        done = [
            local.engine.wait(
                local.engine.create(
                    NewExecution("company.team", "anywhere", inputs={"where": bench.runner.type, "code": code})
                ).id,
                90,
            )
            for code in (0, 4)
        ]
    found = [(execution, *facts(store, host, execution.id)) for execution in done if execution is not None]
    store.close()

    assert [execution.state for execution, *_ in found] == [State.SUCCESS, State.FAILED]
    for execution, outputs, content, lines in found:
        assert outputs["exitCode"] == (0 if execution.state is State.SUCCESS else 4)
        assert outputs["vars"] == {"lines": 2}
        assert content == b"ONE\nTWO\n"
        assert "hello from the task" in lines
        assert not [line for line in lines if re.search("mainstem-end|::", line)]


def facts(store: Store, host: Host, execution_id: str) -> tuple[dict[str, Any], bytes, list[str]]:
    """Return outputs, content of the one output file and log lines of the task."""
    [run] = store.read(lambda db: db.executions.runs(execution_id))
    outputs = store.read(lambda db: db.executions.outputs(execution_id))[run.id]
    with host.storage.open(outputs["outputFiles"]["out.txt"]) as file:
        content = file.read()
    store.logs.flush()
    rows = store.logs.search(LogQuery(execution_id=execution_id)).items
    return outputs, content, [row.message for row in rows]
