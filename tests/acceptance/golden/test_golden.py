"""Each task type has a golden flow, whose execution and runs go through exactly the states that are written down."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runner.executions.models import Histories, TaskRun
from runner.flows.registry import TypeKind, types
from tests.acceptance.golden.golden import Golden, entries, goldens

if TYPE_CHECKING:
    from tests.acceptance.golden.conftest import Stage


@pytest.mark.parametrize("golden", goldens().values(), ids=lambda golden: golden.type)
def test_a_flow_goes_through_exactly_these_states(stage: Stage, golden: Golden) -> None:
    execution, runs = stage.run(golden)

    found = [_line("flow", execution.histories), *(_line(_name(run), run.histories) for run in runs)]
    errors = [f"{run.task_id}: {run.error}" for run in runs if run.error]
    assert found == list(golden.states), errors


def test_every_task_type_has_a_golden_flow() -> None:
    missing = sorted({*types(TypeKind.TASK)} - goldens().keys())

    assert missing == [], (
        "each task type needs a golden flow: add a small flow with a task of that type to the file of its family in "
        "tests/acceptance/golden/flows, and under `states` the states of the execution (flow) and of each run"
    )


def test_every_golden_flow_is_of_a_task_type_and_uses_it() -> None:
    unused = [golden.type for golden in goldens().values() if f'"type": "{golden.type}"' not in golden.source]

    assert sorted(goldens().keys() - {*types(TypeKind.TASK)}) == []
    assert unused == []
    assert [name for name, body in entries().items() if not body.get("states")] == []


def _name(run: TaskRun) -> str:
    return run.task_id if run.value is None else f"{run.task_id}[{run.value}]"


def _line(name: str, histories: Histories) -> str:
    return " ".join([name, *(state.value for state, _ in histories)])
