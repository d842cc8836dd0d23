"""Long executions: deciding on the part of their runs that still matters comes to what deciding on all of them does."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from runner.executions import tree
from runner.executions.models import LEDGER, Execution, Loaded, TaskRun
from runner.executions.reruns import Reruns
from runner.states import State
from runner.store import executions
from runner.store.executions import ExecutionRows

if TYPE_CHECKING:
    from tests.unit.runner.executions.conftest import Hand

LOOP = """
tasks:
  - id: loop
    type: core.flow.ForEach
    values: "{{ range(1, 12) }}"
    concurrencyLimit: %d
    tasks:
      - {id: first, type: core.debug.Return, format: "{{ taskrun.value }}"}
      - id: inner
        type: core.flow.If
        condition: "{{ taskrun.iteration %% 2 == 0 }}"
        then: [{id: even, type: core.debug.Return, format: "{{ outputs.first[parents[0].taskrun.value].value }}"}]
        else: [{id: odd, type: core.debug.Return, format: "{{ taskrun.id | length }}"}]
      - {id: last, type: core.debug.Return, format: "{{ outputs.first[taskrun.value].value }}"}
  - {id: after, type: core.debug.Return, format: "{{ outputs.last | length }} {{ outputs.even | length }}"}
"""

WORK = """
tasks:
  - id: loop
    type: core.flow.ForEach
    values: "{{ range(1, 6) }}"
    concurrencyLimit: 3
    tasks:
      - {id: first, type: core.kv.Set, key: k, value: "{{ taskrun.value }}"}
      - {id: second, type: core.kv.Set, key: k, value: "{{ BROKEN }}"}
    errors: [{id: told, type: core.debug.Return, format: "{{ error.taskId }}"}]
"""

UNTIL = """
tasks:
  - id: until
    type: core.flow.LoopUntil
    condition: "{{ outputs.until.iterationCount >= 3 }}"
    checkFrequency: {interval: PT1S}
    tasks:
      - id: loop
        type: core.flow.ForEach
        values: [x, y]
        tasks: [{id: each, type: core.debug.Return, format: "{{ taskrun.value }}"}]
"""

ITEMS = """
tasks:
  - id: loop
    type: core.flow.Loop
    values: [x, y]
    outputs: [{id: seen, type: STRING, value: "{{ outputs.deep.value }}"}]
    tasks:
      - id: inner
        type: core.flow.If
        condition: "true"
        then: [{id: deep, type: core.debug.Return, format: "{{ item.value }}"}]
      - {id: set, type: core.kv.Set, key: k, value: "{{ outputs.deep.value }}"}
  - {id: after, type: core.debug.Return, format: "{{ outputs.loop.outputs | jq('.[].outputs') | toJson }}"}
"""


KINDS = {
    "Loop": """
tasks:
  - id: loop
    type: core.flow.Loop
    values: "{{ range(1, 12) }}"
    concurrencyLimit: 3
    outputs: [{id: seen, type: STRING, value: "{{ outputs.said.value }}{{ outputs.deep.x.value }}"}]
    tasks:
      - {id: first, type: core.debug.Return, format: "{{ item.value }}"}
      - id: each
        type: core.flow.ForEach
        values: [x, y]
        tasks: [{id: deep, type: core.debug.Return, format: "{{ outputs.first.value }}{{ taskrun.value }}"}]
      - {id: said, type: core.debug.Return, format: "{{ outputs.deep.y.value }}{{ outputs contains 'after' }}"}
  - {id: after, type: core.debug.Return, format: "{{ outputs.loop.outputs | jq('.[].outputs.seen') }}"}
""",
    "EachParallel": """
tasks:
  - id: loop
    type: core.flow.EachParallel
    value: "{{ range(1, 12) }}"
    concurrent: 3
    tasks:
      - {id: first, type: core.debug.Return, format: "{{ taskrun.value }}"}
      - {id: last, type: core.debug.Return, format: "{{ outputs.first[taskrun.value].value ?? '' }}"}
  - {id: after, type: core.debug.Return, format: "{{ outputs.first | keys }} {{ outputs.first['7'].value }}"}
""",
    "EachSequential": """
tasks:
  - id: loop
    type: core.flow.EachSequential
    value: "{{ range(1, 6) }}"
    tasks:
      - id: inner
        type: core.flow.EachSequential
        value: [x, y]
        tasks: [{id: deep, type: core.debug.Return, format: "{{ parent.taskrun.value }}{{ taskrun.value }}"}]
      - {id: seen, type: core.debug.Return, format: "{{ outputs.deep[taskrun.value].y.value }}"}
  - {id: after, type: core.debug.Return, format: "{{ outputs.deep['4'] }}{{ outputs.seen['6'].value }}"}
""",
}

STEADY = """
tasks:
  - id: loop
    type: core.flow.{kind}
    {values}: "{{{{ range(1, 40) }}}}"
    {limit}: 1
    tasks:
      - {{id: first, type: core.kv.GetKeys, prefix: "{{{{ outputs.missing ?? 'none' }}}}"}}
      - {{id: second, type: core.debug.Return, format: "{{{{ outputs.first{own}.keys }}}}"}}
"""


WIDE = """
tasks:
  - {id: before, type: core.debug.Return, format: "b"}
  - id: loop
    type: core.flow.ForEach
    values: "{{ range(1, 30) }}"
    concurrencyLimit: 0
    tasks:
      - id: inner
        type: core.flow.Sequential
        tasks:
          - {id: said, type: core.debug.Return, format: "{{ parent.taskrun.value }}"}
          - id: work
            type: core.kv.Set
            key: "k{{ outputs.said[parent.taskrun.value].value }}"
            value: "{{ outputs.before.value }}{{ outputs.said['3'].value }}"
  - {id: after, type: core.debug.Return, format: "{{ outputs.said | length }}"}
"""


def outputs_of(hand: Hand, execution: Execution, task_id: str) -> list[dict[str, Any]]:
    found = hand.store.read(lambda db: db.executions.outputs(execution.id))
    return [found[run.id] for run in hand.runs(execution) if run.task_id == task_id and run.id in found]


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No execution is short enough to be read as a whole."""
    monkeypatch.setattr(executions, "MOST_WHOLE", 0)


def pace(hand: Hand, per_look: float) -> None:
    """Let that many seconds pass for a burst each time it looks at the clock."""
    looks = itertools.count()
    advancer = hand.engine.advancer
    advancer._host = replace(advancer._host, monotonic=lambda: next(looks) * per_look)


def ended(hand: Hand, execution: Execution) -> list[tuple[str, str | None, State]]:
    return sorted((run.task_id, run.value or "", run.state) for run in hand.runs(execution))


def work(hand: Hand, execution: Execution) -> None:
    """Let a worker carry out what was submitted, in order, until nothing is."""
    hand.turn()
    while submitted := [run for run in hand.runs(execution) if run.state is State.SUBMITTED]:
        hand.worker.work(submitted[0].id, submitted[0].epoch)
        hand.turn()


def loop_of(hand: Hand, execution: Execution) -> TaskRun:
    return next(run for run in hand.runs(execution) if run.task_id == "loop")


@pytest.mark.parametrize("limit", [1, 3, 0])
def test_a_loop_whose_bursts_are_cut_short_ends_as_one_that_is_read_whole(
    hand: Hand, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand.deploy(LOOP % limit)
    pace(hand, 0)
    whole = hand.create()
    hand.turn()
    monkeypatch.setattr(executions, "MOST_WHOLE", 0)
    pace(hand, 0.005)

    parts = hand.create()
    hand.turn()

    outputs = hand.store.read(lambda db: db.executions.outputs(parts.id))
    after = next(run for run in hand.runs(parts) if run.task_id == "after")
    assert hand.states(whole, parts) == "SUCCESS SUCCESS"
    assert hand.get(parts).version > hand.get(whole).version, "no burst was cut short"
    assert ended(hand, parts) == ended(hand, whole)
    assert len({run.seq for run in hand.runs(parts)}) == len(hand.runs(parts))
    assert outputs[after.id] == {"value": "12 6"}


@pytest.mark.parametrize("kind", ["Loop", "EachParallel", "EachSequential"])
def test_every_kind_of_loop_ends_in_parts_as_it_does_whole(
    hand: Hand, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand.deploy(KINDS[kind])
    pace(hand, 0)
    whole = hand.create()
    hand.turn()
    monkeypatch.setattr(executions, "MOST_WHOLE", 0)
    pace(hand, 0.005)

    parts = hand.create()
    hand.turn()

    assert hand.states(whole, parts) == "SUCCESS SUCCESS"
    assert hand.get(parts).version > hand.get(whole).version, "no burst was cut short"
    assert ended(hand, parts) == ended(hand, whole)
    assert outputs_of(hand, parts, "after") == outputs_of(hand, whole, "after")
    assert outputs_of(hand, parts, "loop") == outputs_of(hand, whole, "loop")


@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize("kind", ["ForEach", "Loop", "EachParallel"])
def test_what_a_transition_reads_does_not_grow_with_the_loop(
    hand: Hand, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    load_many, outputs = ExecutionRows.load_many, ExecutionRows.outputs

    def loading(self: ExecutionRows, ids: Collection[str]) -> list[Loaded]:
        found = load_many(self, ids)
        read.extend(len(each.runs) for each in found)
        return found

    def putting(self: ExecutionRows, execution: str, runs: Collection[str] | None = None) -> dict[str, Any]:
        read.append(10_000 if runs is None else len(runs))
        return outputs(self, execution, runs)

    def whole(self: ExecutionRows, _execution: str) -> list[TaskRun]:
        raise AssertionError("all runs are read")

    names = ("value", "concurrent") if kind == "EachParallel" else ("values", "concurrencyLimit")
    own = "" if kind == "Loop" else "[taskrun.value]"
    hand.deploy(STEADY.format(kind=kind, values=names[0], limit=names[1], own=own))
    execution = hand.create()
    hand.turn()
    monkeypatch.setattr(ExecutionRows, "load_many", loading)
    monkeypatch.setattr(ExecutionRows, "outputs", putting)
    monkeypatch.setattr(ExecutionRows, "runs", whole)

    for _ in range(24):
        run = hand.store.read(lambda db: db.executions.load_many([execution.id]))[0].runs[-1]
        hand.worker.work(run.id, run.epoch)
        hand.turn()

    assert max(read) <= 6
    assert hand.get(execution).state is State.RUNNING


@pytest.mark.usefixtures("in_parts")
def test_a_worker_reads_no_more_than_its_run_and_what_is_around_it(hand: Hand) -> None:
    hand.deploy(WIDE)
    execution = hand.create()
    hand.turn()
    inner = next(run for run in hand.runs(execution) if run.value == "17")
    run = next(run for run in hand.runs(execution) if run.task_id == "work" and run.parent_id == inner.id)

    loaded = hand.store.read(lambda db: db.executions.load_for(run))
    work(hand, execution)

    assert loaded is not None
    assert sorted((each.task_id, each.value or "") for each in loaded.runs) == [
        ("before", ""),
        ("inner", "17"),
        ("loop", ""),
        ("said", ""),
        ("work", ""),
    ]
    assert hand.states(execution) == "SUCCESS"
    outputs = hand.store.read(lambda db: db.executions.outputs(execution.id))
    assert [outputs[each.id] for each in hand.runs(execution) if each.task_id == "after"] == [{"value": "30"}]


@pytest.mark.usefixtures("in_parts")
def test_values_whose_next_task_may_not_start_yet_are_found_again(hand: Hand) -> None:
    hand.deploy(WORK.replace("BROKEN", "taskrun.value"))
    execution = hand.create()
    hand.turn()
    hand.engine.pause(execution.id)
    for run in [run for run in hand.runs(execution) if run.state is State.SUBMITTED]:
        hand.worker.work(run.id, run.epoch)
    hand.turn()
    held = loop_of(hand, execution).memory[LEDGER]

    hand.engine.resume(execution.id)
    work(hand, execution)

    assert held == {"behind": [0, 1, 2], "limit": 3, "states": []}
    assert hand.states(execution) == "SUCCESS"
    assert len(ended(hand, execution)) == 1 + 6 * 2


@pytest.mark.usefixtures("in_parts")
def test_a_failed_value_is_remembered_when_it_is_not_read_again(hand: Hand) -> None:
    hand.deploy(WORK)
    execution = hand.create()

    work(hand, execution)

    told = next(run for run in hand.runs(execution) if run.task_id == "told")
    outputs = hand.store.read(lambda db: db.executions.outputs(execution.id))
    assert hand.states(execution) == "FAILED"
    assert loop_of(hand, execution).memory[LEDGER]["states"] == ["FAILED"]
    assert outputs[told.id] == {"value": "second"}


@pytest.mark.usefixtures("in_parts")
def test_a_restarted_loop_goes_on_with_the_values_it_left(hand: Hand) -> None:
    hand.deploy(WORK.replace("BROKEN", "kv('missing' ~ taskrun.value)"))
    execution = hand.create()
    work(hand, execution)
    for value in range(1, 7):
        hand.engine.host.kv.put("company.team", f"missing{value}", "here")

    Reruns(hand.engine).restart(execution.id)
    work(hand, execution)

    assert hand.states(execution) == "SUCCESS"
    assert [each for each in ended(hand, execution) if each[0] == "second"] == [
        ("second", str(value), State.SUCCESS) for value in range(1, 7)
    ]


@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_a_replayed_loop_finds_what_it_kept_of_later_values(
    hand: Hand, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(tree, "VALUES_AT_ONCE", chunk)
    hand.deploy(WORK.replace("BROKEN", "taskrun.value").replace("Limit: 3", "Limit: 1"))
    source = hand.create()
    work(hand, source)
    begin = next(run for run in hand.runs(source) if (run.task_id, run.value) == ("second", "2"))

    replayed = Reruns(hand.engine).replay(source.id, begin.id)
    kept = [(run.task_id, run.value) for run in hand.runs(replayed) if run.value is not None]
    work(hand, replayed)

    assert kept == [("first", "1"), ("second", "1"), ("first", "2"), ("second", "2")] + [
        ("first", str(value)) for value in range(3, 7)
    ]
    assert hand.states(replayed) == "SUCCESS"
    assert ended(hand, replayed) == ended(hand, source)
    assert "again" not in loop_of(hand, replayed).memory[LEDGER]


@pytest.mark.usefixtures("in_parts")
def test_an_iteration_of_a_loop_with_outputs_finds_what_is_inside_its_ended_containers(hand: Hand) -> None:
    hand.deploy(ITEMS)
    execution = hand.create()

    work(hand, execution)

    outputs = hand.store.read(lambda db: db.executions.outputs(execution.id))
    after = next(run for run in hand.runs(execution) if run.task_id == "after")
    assert hand.states(execution) == "SUCCESS"
    assert outputs[after.id] == {"value": '[{"seen":"x"},{"seen":"y"}]'}


@pytest.mark.usefixtures("in_parts")
def test_what_was_not_read_is_taken_out_with_its_container(hand: Hand) -> None:
    hand.deploy(UNTIL)
    execution = hand.create()
    hand.turn()

    hand.wait(1)
    hand.wait(1)

    assert hand.states(execution) == "SUCCESS"
    assert [each[:2] for each in ended(hand, execution)] == [("each", "x"), ("each", "y"), ("loop", ""), ("until", "")]
