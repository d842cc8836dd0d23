"""One flow, whose input says where its task runs, gives the same everywhere: outputs, files, logs, failures."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner.states import State
from tests.contract.task_runners.conftest import CLOUDS, IMAGE
from tests.contract.task_runners.flows import FlowEngine, engine_of, runner_values

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
    values = runner_values(bench)
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
    with engine_of(bench, flow_for(bench), tmp_path / "home") as engine:
        done = [engine.ended(engine.start(where=bench.runner.type, code=code)) for code in (0, 4)]
        found = [(execution, *facts(engine, execution.id)) for execution in done]

    assert [execution.state for execution, *_ in found] == [State.SUCCESS, State.FAILED]
    for execution, outputs, content, lines in found:
        assert outputs["exitCode"] == (0 if execution.state is State.SUCCESS else 4)
        assert outputs["vars"] == {"lines": 2}
        assert content == b"ONE\nTWO\n"
        assert "hello from the task" in lines
        assert not [line for line in lines if re.search("mainstem-end|::", line)]


def facts(engine: FlowEngine, execution_id: str) -> tuple[dict[str, Any], bytes, list[str]]:
    """Return outputs, content of the one output file and log lines of the task."""
    [run] = engine.store.read(lambda db: db.executions.runs(execution_id))
    outputs = engine.store.read(lambda db: db.executions.outputs(execution_id))[run.id]
    with engine.host.storage.open(outputs["outputFiles"]["out.txt"]) as file:
        content = file.read()
    return outputs, content, engine.lines(execution_id)
