from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runner.errors import TaskError
from runner.tasks.templating import TemplatedTask

if TYPE_CHECKING:
    from tests.unit.runner.tasks.conftest import Bench


def build(spec: str) -> TemplatedTask:
    return TemplatedTask(id="t", type="x", spec=spec)


def test_the_task_of_the_rendered_template_runs(bench: Bench) -> None:
    spec = "type: io.kestra.plugin.core.{{ vars.kind }}\nformat: It's alive in {{ flow.id }}!\n"

    outputs = bench.outputs(build(spec), flow_variables={"kind": "debug.Return"})

    assert outputs == {"value": "It's alive in flow!"}


@pytest.mark.parametrize(
    ("spec", "code"),
    [
        ("type: core.no.Such", "task.type.unknown"),
        ("type: core.flow.Sequential\ntasks: []", "task.type.refused"),
        ("type: core.templating.TemplatedTask\nspec: x", "task.type.refused"),
        ("type: core.debug.Return\nwrong: 1", "task.property.invalid"),
        ("- a list", "task.property.invalid"),
        ("a: [", "yaml.syntax.invalid"),
    ],
)
def test_a_template_that_is_no_plain_task_is_refused(bench: Bench, spec: str, code: str) -> None:
    with pytest.raises(TaskError) as caught:
        bench.run(build(spec))

    assert caught.value.code.split(".")[0] == code.split(".", maxsplit=1)[0]
