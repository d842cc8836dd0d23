"""A Parallel with many tasks: a decision reads the one that something happened to, and forgets none of the others."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import pytest

from runner.executions.models import Execution, Loaded, TaskRun
from runner.executions.reruns import Reruns
from runner.states import State
from runner.store import executions
from runner.store.executions import ExecutionRows

if TYPE_CHECKING:
    from tests.unit.runner.executions.conftest import Hand

WIDTH = 12
GET = "{id: get, type: core.kv.Get, key: missing, errorOnMissing: true}"
SET = "[{id: %s, type: core.kv.Set, key: k, value: x}]"
TOLD = f", errors: {SET % 'told'}, finally: {SET % 'last'}"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs each load for a decision, or for carrying out a run, read."""
    load_many, load_for, counted = ExecutionRows.load_many, ExecutionRows.load_for, list[int]()

    def loading(self: ExecutionRows, ids: Collection[str]) -> list[Loaded]:
        found = load_many(self, ids)
        counted.extend(len(each.runs) for each in found)
        return found

    def loading_for(self: ExecutionRows, run: TaskRun) -> Loaded | None:
        found = load_for(self, run)
        counted.append(len(found.runs) if found is not None else 0)
        return found

    monkeypatch.setattr(ExecutionRows, "load_many", loading)
    monkeypatch.setattr(ExecutionRows, "load_for", loading_for)
    return counted


@pytest.fixture(autouse=True)
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No execution is short enough to be read as a whole."""
    monkeypatch.setattr(executions, "MOST_WHOLE", 0)


def wide(*more: str, width: int = WIDTH, around: str = "") -> str:
    """Return a flow with a Parallel of `width` tasks and `more`, and a task after it."""
    tasks = [f"{{id: t{number}, type: core.kv.Set, key: k{number}, value: x}}" for number in range(width)]
    inside = ", ".join([*more, *tasks])
    after = "  - {id: after, type: core.kv.Set, key: k, value: x}\n"
    return f"tasks:\n  - {{id: all, type: core.flow.Parallel, tasks: [{inside}]{around}}}\n{after}"


def begun(hand: Hand, source: str) -> Execution:
    hand.deploy(source)
    execution = hand.create()
    hand.turn()
    return execution


def waiting(hand: Hand, execution: Execution) -> list[TaskRun]:
    return [run for run in hand.runs(execution) if run.state is State.SUBMITTED]


def work(hand: Hand, run: TaskRun) -> None:
    hand.worker.work(run.id, run.epoch)
    hand.turn()


def finish(hand: Hand, execution: Execution) -> int:
    """Carry out all runs one by one; return the largest number of those that were open together."""
    most = 0
    while submitted := waiting(hand, execution):
        most = max(most, len(submitted))
        work(hand, submitted[0])
    return most


def states(hand: Hand, execution: Execution, *wanted: str) -> dict[str, str]:
    return {run.task_id: run.state.value for run in hand.runs(execution) if run.task_id in wanted}


@pytest.mark.parametrize("width", [10, 40])
def test_what_the_end_of_a_task_reads_does_not_grow_with_the_tasks_beside_it(
    hand: Hand, read: list[int], width: int
) -> None:
    execution = begun(hand, wide(width=width))
    read.clear()

    most = finish(hand, execution)

    assert most == width
    assert max(read) <= 3
    assert hand.states(execution) == "SUCCESS"
    assert len(hand.runs(execution)) == width + 2


def test_a_limit_counts_the_tasks_that_are_not_read(hand: Hand) -> None:
    execution = begun(hand, wide(around=", concurrent: 3"))

    most = finish(hand, execution)

    assert most == 3
    assert hand.states(execution) == "SUCCESS"
    assert len(hand.runs(execution)) == WIDTH + 2


def test_a_failure_that_is_not_read_any_more_fails_the_container_after_its_errors_and_finally(hand: Hand) -> None:
    execution = begun(hand, wide(GET, around=TOLD))
    work(hand, next(run for run in waiting(hand, execution) if run.task_id == "get"))

    finish(hand, execution)

    assert hand.states(execution) == "FAILED"
    assert states(hand, execution, "get", "told", "last", "all") == {
        "get": "FAILED",
        "told": "SUCCESS",
        "last": "SUCCESS",
        "all": "FAILED",
    }
    assert len(hand.runs(execution)) == WIDTH + 4


def test_a_restart_runs_again_what_failed_and_nothing_else(hand: Hand) -> None:
    execution = begun(hand, wide(GET))
    finish(hand, execution)
    failed = hand.states(execution)
    hand.engine.host.kv.put("company.team", "missing", "x")

    Reruns(hand.engine).restart(execution.id)
    hand.turn()
    again = [run.task_id for run in waiting(hand, execution)]
    finish(hand, execution)

    assert failed == "FAILED"
    assert again == ["get"]
    assert hand.states(execution) == "SUCCESS"
    assert states(hand, execution, "all", "after") == {"all": "SUCCESS", "after": "SUCCESS"}


def test_killing_ends_the_tasks_that_are_not_read_too(hand: Hand) -> None:
    execution = begun(hand, wide())
    work(hand, waiting(hand, execution)[5])

    hand.engine.kill(execution.id)
    hand.turn()

    assert hand.states(execution) == "KILLED"
    assert [run.state.value for run in hand.runs(execution)].count("KILLED") == WIDTH


@pytest.mark.parametrize("named", ["outputs.give.value", "tasks.give.state"])
def test_a_task_finds_one_beside_it_that_is_not_read_any_more(hand: Hand, named: str) -> None:
    give = "{id: give, type: core.debug.Return, format: SUCCESS}"
    body = "{id: first, type: core.kv.Set, key: k, value: x}"
    show = f'{{id: show, type: core.debug.Return, format: "{{{{ {named} }}}}"}}'
    two = f"{{id: two, type: core.flow.Sequential, tasks: [{body}, {show}]}}"
    execution = begun(hand, wide(give, two))

    finish(hand, execution)

    shown = next(run for run in hand.runs(execution) if run.task_id == "show")
    outputs = hand.store.read(lambda db: db.executions.outputs(execution.id, [shown.id]))
    assert outputs[shown.id]["value"] == "SUCCESS"
    assert hand.states(execution) == "SUCCESS"


def test_one_that_stands_in_a_loop_is_as_wide_for_each_value(hand: Hand) -> None:
    body = ", ".join(f"{{id: t{number}, type: core.kv.Set, key: k, value: x}}" for number in range(3))
    inside = f"{{id: all, type: core.flow.Parallel, tasks: [{body}]}}"
    execution = begun(hand, f"tasks:\n  - {{id: loop, type: core.flow.ForEach, values: [a, b], tasks: [{inside}]}}\n")

    finish(hand, execution)

    assert hand.states(execution) == "SUCCESS"
    assert [run.task_id for run in hand.runs(execution)].count("t2") == 2
