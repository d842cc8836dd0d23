"""Executions with many open runs: a decision reads those that something happened to, and forgets none of the others."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from runner.errors import NotFoundError
from runner.executions.burst import BurstActions
from runner.executions.flow_index import FlowIndex
from runner.executions.models import Execution, Loaded, TaskRun
from runner.flows.catalogue import Catalogue
from runner.states import State
from runner.store import Session, executions, part
from runner.store.executions import ExecutionRows

if TYPE_CHECKING:
    from tests.unit.runner.executions.conftest import Hand

BODY = '{id: %s, type: core.kv.Set, key: "k{{ taskrun.value }}", value: x}'
NESTED = (
    "{id: inner, type: core.flow.%s, "
    "tasks: [{id: first, type: core.%s}, {id: body, type: core.kv.Set, key: k, value: x}]}"
)
ALL = 0
UNTIL = (
    '{id: until, type: core.flow.LoopUntil, condition: "false", checkFrequency: {interval: PT5S, maxIterations: 2}, '
    "tasks: [{id: check, type: core.debug.Return, format: x}]}"
)
PAUSE = (
    "{id: pause, type: core.flow.Pause, pauseDuration: PT5S, onPause: {id: told, type: core.kv.Set, key: k, value: x}}"
)
JOB = (
    "{id: job, type: core.flow.WorkingDirectory, tasks: [{id: inside, type: core.kv.Set, key: k, value: x}], "
    "finally: [{id: pause, type: core.flow.Pause}]}"
)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs each load of an execution read, in the order of the loads."""
    load_many, counted = ExecutionRows.load_many, list[int]()

    def loading(self: ExecutionRows, ids: Collection[str]) -> list[Loaded]:
        found = load_many(self, ids)
        counted.extend(len(each.runs) for each in found)
        return found

    monkeypatch.setattr(ExecutionRows, "load_many", loading)
    return counted


@pytest.fixture(autouse=True)
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No execution is short enough to be read as a whole."""
    monkeypatch.setattr(executions, "MOST_WHOLE", 0)


def loop(*tasks: str, count: int = 20, limit: int = ALL, more: str = "") -> str:
    """Return a flow with a loop over 1 to `count` that has `limit` values open, and what stands beside it."""
    values = f'values: "{{{{ range(1, {count}) }}}}", concurrencyLimit: {limit}'
    return f"tasks:\n  - {{id: loop, type: core.flow.ForEach, {values}, tasks: [{', '.join(tasks)}]}}\n{more}"


def beside_two_bodies(task: str) -> str:
    """Return a flow with a task, and beside it `first` and then `second`."""
    bodies = ", ".join(f"{{id: {name}, type: core.kv.Set, key: k, value: x}}" for name in ("first", "second"))
    two = f"{{id: two, type: core.flow.Sequential, tasks: [{bodies}]}}"
    return f"tasks:\n  - {{id: both, type: core.flow.Parallel, tasks: [{two}, {task}]}}\n"


def run_of(hand: Hand, execution: Execution, task_id: str, value: str | None = None) -> TaskRun:
    return next(run for run in hand.runs(execution) if (run.task_id, run.value) == (task_id, value))


def carry_out(hand: Hand, execution: Execution, task_id: str, value: str | None = None) -> TaskRun:
    """Have a worker carry out one run, and decide what follows."""
    run = run_of(hand, execution, task_id, value)
    hand.worker.work(run.id, run.epoch)
    hand.turn()
    return run_of(hand, execution, task_id, value)


def finish(hand: Hand, execution: Execution) -> None:
    while submitted := [run for run in hand.runs(execution) if run.state is State.SUBMITTED]:
        for run in submitted:
            hand.worker.work(run.id, run.epoch)
        hand.turn()


def _claim(run: TaskRun, db: Session) -> None:
    db.claims.claim(run.id, run.epoch, "other", run.created_at)


def counts(hand: Hand, execution: Execution) -> dict[str, int]:
    states = [run.state.value for run in hand.runs(execution) if run.task_id != "loop"]
    return {state: states.count(state) for state in sorted(set(states))}


@pytest.mark.parametrize(
    "tasks",
    [
        (BODY % "body",),
        (BODY % "body", BODY % "next"),
        (NESTED % ("Sequential", "debug.Return"),),
    ],
)
def test_what_a_result_reads_does_not_grow_with_the_open_runs(
    hand: Hand, read: list[int], tasks: tuple[str, ...]
) -> None:
    hand.deploy(loop(*tasks, more="  - {id: after, type: core.debug.Return, format: ''}"))
    execution = hand.create()
    hand.turn()
    waiting = [run for run in hand.runs(execution) if run.state is State.SUBMITTED]
    read.clear()

    for run in waiting[:10]:
        hand.worker.work(run.id, run.epoch)
    finish(hand, execution)

    assert len(waiting) == 20
    assert max(read[:10]) <= 6
    assert hand.states(execution) == "SUCCESS"
    assert run_of(hand, execution, "after").state is State.SUCCESS


def test_a_limit_counts_the_values_that_are_not_read(hand: Hand) -> None:
    hand.deploy(loop(BODY % "body", BODY % "next", count=9, limit=3))
    execution = hand.create()
    hand.turn()
    most = 0

    while submitted := [run for run in hand.runs(execution) if run.state is State.SUBMITTED]:
        most = max(most, len(submitted))
        hand.worker.work(submitted[-1].id, submitted[-1].epoch)
        hand.turn()

    assert most == 3
    assert counts(hand, execution) == {"SUCCESS": 18}


def test_a_run_that_is_tried_again_is_shown_while_others_end(hand: Hand) -> None:
    retry = "retry: {type: constant, interval: PT10S, maxAttempts: 2}"
    body = f'{{id: body, type: core.kv.Get, key: "k{{{{ taskrun.value }}}}", errorOnMissing: true, {retry}}}'
    hand.deploy(loop(body, count=5))
    execution = hand.create()
    hand.turn()
    for value in ("2", "3", "4", "5"):
        hand.engine.host.kv.put("company.team", f"k{value}", "x")

    carry_out(hand, execution, "body", "1")
    failed = hand.states(execution)
    carry_out(hand, execution, "body", "2")
    other_ended = hand.states(execution)
    hand.wait(11)
    carry_out(hand, execution, "body", "3")
    timer_fired = hand.states(execution)
    hand.engine.host.kv.put("company.team", "k1", "x")
    finish(hand, execution)

    assert (failed, other_ended, timer_fired) == ("RETRYING", "RETRYING", "RUNNING")
    assert hand.states(execution) == "SUCCESS"
    assert [state.value for state, _ in hand.get(execution).histories] == [
        "CREATED",
        "RUNNING",
        "RETRYING",
        "RUNNING",
        "SUCCESS",
    ]


def test_a_pause_that_is_not_read_holds_nothing_else(hand: Hand) -> None:
    hand.deploy(loop(NESTED % ("Parallel", "flow.Pause"), count=2))
    execution = hand.create()
    hand.turn()
    bodies = [run for run in hand.runs(execution) if run.task_id == "body"]

    for run in bodies:
        hand.worker.work(run.id, run.epoch)
        hand.turn()
    paused = hand.states(execution), counts(hand, execution)
    hand.engine.resume(execution.id)
    hand.turn()

    assert paused == ("PAUSED", {"PAUSED": 2, "RUNNING": 2, "SUCCESS": 2})
    assert hand.states(execution) == "SUCCESS"


def test_killing_ends_what_is_not_read_too(hand: Hand) -> None:
    hand.deploy(loop(BODY % "body"))
    execution = hand.create()
    hand.turn()
    carry_out(hand, execution, "body", "7")

    hand.engine.kill(execution.id)
    hand.turn()

    assert hand.states(execution) == "KILLED"
    assert counts(hand, execution) == {"KILLED": 19, "SUCCESS": 1}


def test_a_run_that_is_given_back_while_it_is_killed_waits_for_no_worker(hand: Hand) -> None:
    hand.deploy(loop(BODY % "body", count=3))
    execution = hand.create()
    hand.turn()
    first, second = (run_of(hand, execution, "body", value) for value in ("1", "2"))
    for run in (first, second):
        hand.store.write(partial(_claim, run))
    hand.engine.kill(execution.id)
    hand.turn()
    open_before = counts(hand, execution)

    hand.store.write(lambda db: db.claims.release(first.id, first.epoch + 1, hand.now, "lost"))
    hand.engine.advancer.advance([execution.id])
    open_after = counts(hand, execution)
    hand.store.write(lambda db: db.claims.release(second.id, second.epoch + 1, hand.now, "lost"))
    hand.engine.advancer.advance([execution.id])

    assert open_before == {"KILLED": 1, "RUNNING": 2}
    assert open_after == {"KILLED": 2, "RUNNING": 1}
    assert hand.states(execution) == "KILLED"


def test_an_exit_ends_what_is_not_read_too(hand: Hand) -> None:
    hand.deploy(loop(BODY % "body", "{id: leave, type: core.execution.Exit, state: WARNING}", count=9))
    execution = hand.create()
    hand.turn()

    carry_out(hand, execution, "body", "4")

    assert hand.states(execution) == "WARNING"
    assert counts(hand, execution) == {"SUCCESS": 2, "WARNING": 8}


def test_a_flow_that_is_gone_ends_what_is_not_read_too(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    hand.deploy(loop(BODY % "body", count=9))
    execution = hand.create()
    hand.turn()
    carry_out(hand, execution, "body", "4")
    run = run_of(hand, execution, "body", "5")
    hand.worker.work(run.id, run.epoch)

    def gone(*_: object) -> None:
        raise NotFoundError("flow.missing", "no flow")

    monkeypatch.setattr(Catalogue, "index", gone)
    hand.engine.advancer.advance([execution.id])

    assert hand.states(execution) == "FAILED"
    assert counts(hand, execution) == {"FAILED": 7, "SUCCESS": 2}


def test_containers_that_no_burst_had_time_for_are_looked_at_later(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part, "LATER_AT_ONCE", 2)
    hand.deploy(loop(NESTED % ("Sequential", "debug.Return"), count=12))
    looks = iter(range(1_000_000))
    monkeypatch.setattr(BurstActions, "is_over_budget", lambda _self: next(looks) % 4 == 3)
    execution = hand.create()

    hand.turn()

    assert counts(hand, execution) == {"RUNNING": 12, "SUBMITTED": 12, "SUCCESS": 12}
    finish(hand, execution)
    assert hand.states(execution) == "SUCCESS"


def test_many_timers_that_are_due_at_once_are_all_fired(hand: Hand) -> None:
    hand.deploy(loop("{id: sleep, type: core.flow.Sleep, duration: PT5S}", BODY % "body", count=20))
    execution = hand.create()
    hand.turn()

    hand.wait(6)
    woken = counts(hand, execution)
    finish(hand, execution)

    assert woken == {"SUBMITTED": 20, "SUCCESS": 20}
    assert hand.states(execution) == "SUCCESS"


def test_a_server_that_starts_looks_at_everything_once_more(hand: Hand) -> None:
    hand.deploy(loop(BODY % "body", count=6))
    execution = hand.create()
    hand.turn()
    carry_out(hand, execution, "body", "4")
    before = hand.store.read(lambda db: db.executions.load_many([execution.id]))

    looked_at = hand.store.write(lambda db: db.executions.look_at_all())
    after = hand.store.read(lambda db: db.executions.load_many([execution.id]))

    assert looked_at == 1
    assert ([len(each.runs) for each in before], [len(each.runs) for each in after]) == ([1], [6])


@pytest.mark.parametrize(
    ("named", "shown"),
    [
        ("tasks.before.state", "SUCCESS"),
        ("tasks.body['3'].state", "SUCCESS"),
        ("tasks.body['4'].state ?? 'none'", "none"),
        ("tasks.body | length", "3"),
        ("tasks.never.state ?? 'none'", "none"),
        ("tasks.inner.state", "RUNNING"),
        ("tasks | keys | join(' ')", "before loop body inner after"),
    ],
)
def test_the_states_of_tasks_are_found_whatever_is_read(hand: Hand, named: str, shown: str) -> None:
    nested = "{id: inner, type: core.flow.Sequential, tasks: [{id: after, type: core.debug.Return, format: NAMED}]}"
    tasks = loop(BODY % "body", count=3, more=f"  - {nested}\n").replace("NAMED", f'"{{{{ {named} }}}}"')
    never = "errors: [{id: never, type: core.debug.Return, format: x}]\n"
    hand.deploy(tasks.replace("tasks:\n", "tasks:\n  - {id: before, type: core.debug.Return, format: x}\n", 1) + never)
    execution = hand.create()
    hand.turn()

    finish(hand, execution)

    after = run_of(hand, execution, "after")
    assert after.error is None
    outputs = hand.store.read(lambda db: db.executions.outputs(execution.id, [after.id]))
    assert outputs[after.id]["value"] == shown


@pytest.mark.parametrize("waiting", [UNTIL, PAUSE])
def test_a_timer_that_becomes_due_after_the_load_is_left_to_the_next_one(
    hand: Hand, monkeypatch: pytest.MonkeyPatch, waiting: str
) -> None:
    hand.deploy(beside_two_bodies(waiting))
    execution = hand.create()
    hand.turn()
    load_many, delays = ExecutionRows.load_many, [6]

    def slow(self: ExecutionRows, ids: Collection[str]) -> list[Loaded]:
        found = load_many(self, ids)
        hand.now += timedelta(seconds=delays.pop() if delays else 0)
        return found

    monkeypatch.setattr(ExecutionRows, "load_many", slow)
    carry_out(hand, execution, "first")
    hand.wait(0)
    ended = {run.id for run in hand.runs(execution) if run.state.is_terminal}
    left = [run.task_id for run in hand.runs(execution) if run.id not in ended and run.parent_id in ended]
    finish(hand, execution)

    assert (delays, left) == ([], [])
    assert hand.states(execution) == "SUCCESS"
    assert {run.state for run in hand.runs(execution)} == {State.SUCCESS}


def test_a_pause_that_follows_a_job_is_shown_while_others_end(hand: Hand) -> None:
    hand.deploy(beside_two_bodies(JOB))
    execution = hand.create()
    hand.turn()

    carry_out(hand, execution, "job")
    before = hand.states(execution)
    carry_out(hand, execution, "first")
    after, begun = hand.states(execution), [run.task_id for run in hand.runs(execution)]
    hand.engine.resume(execution.id)
    hand.turn()
    finish(hand, execution)

    assert (before, after) == ("PAUSED", "PAUSED")
    assert "second" in begun
    assert hand.states(execution) == "SUCCESS"


def test_a_decision_in_flight_does_not_undo_that_all_is_looked_at(
    hand: Hand, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    hand.deploy(loop(BODY % "body", count=6))
    execution = hand.create()
    hand.turn()
    index = Catalogue.index

    def started_meanwhile(self: Catalogue, namespace: str, flow_id: str, revision: int | None = None) -> FlowIndex:
        if len(read) == 1:
            hand.store.write(lambda db: db.executions.look_at_all())
        return index(self, namespace, flow_id, revision)

    read.clear()
    monkeypatch.setattr(Catalogue, "index", started_meanwhile)
    carry_out(hand, execution, "body", "4")

    assert read[:2] == [2, 7]


def test_the_states_of_a_task_deep_in_a_loop_take_one_read(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    nested = NESTED % ("Sequential", "debug.Return")
    after = '  - {id: after, type: core.debug.Return, format: "{{ tasks.body.state }}"}'
    hand.deploy(loop(nested, count=9, more=after))
    execution = hand.create()
    hand.turn()
    runs_inside, asked = ExecutionRows.runs_inside, list[str]()

    def noting(self: ExecutionRows, execution_id: str, run_id: str) -> list[TaskRun]:
        asked.append(run_id)
        return runs_inside(self, execution_id, run_id)

    monkeypatch.setattr(ExecutionRows, "runs_inside", noting)
    finish(hand, execution)

    outputs = hand.store.read(lambda db: db.executions.outputs(execution.id, [run_of(hand, execution, "after").id]))
    assert [each["value"] for each in outputs.values()] == ["SUCCESS"]
    assert len(asked) <= 1
