"""A flow with a limit: who gets a place, who waits for one, who is next, whatever happens to the others."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from runner.executions.creation import NewExecution
from runner.executions.models import OUTBOX_REPORT
from runner.executions.reruns import Reruns
from runner.states import State

if TYPE_CHECKING:
    from tests.unit.runner.executions.conftest import Hand

SLEEP = "{id: s, type: core.flow.Sleep, duration: PT10S}"
NAMESPACE = "company.team"


def test_two_places_that_become_free_at_once_are_both_taken(hand: Hand) -> None:
    hand.deploy(f"concurrency: {{limit: 2}}\ntasks: [{SLEEP}]")
    many = [hand.create() for _ in range(5)]
    hand.turn()
    assert hand.states(*many) == "RUNNING RUNNING QUEUED QUEUED QUEUED"

    hand.wait(10)

    assert hand.states(*many) == "SUCCESS SUCCESS RUNNING RUNNING QUEUED"


def test_who_waited_longest_is_next(hand: Hand) -> None:
    hand.deploy(f"concurrency: {{limit: 1}}\ntasks: [{SLEEP}]")
    many = [hand.create() for _ in range(4)]
    hand.start(many[0])
    hand.start(*reversed(many[1:]))

    order = []
    for _ in many:
        running = [each for each in many if hand.get(each).state is State.RUNNING]
        order += [many.index(each) for each in running]
        hand.wait(10)

    assert order == [0, 1, 2, 3]


def test_a_newcomer_does_not_overtake_those_that_wait(hand: Hand) -> None:
    hand.deploy(f"concurrency: {{limit: 1}}\ntasks: [{SLEEP}]")
    first, second = hand.create(), hand.create()
    hand.turn()
    hand.now += timedelta(seconds=10)
    third = hand.create()

    hand.start(first)
    hand.start(third)

    assert hand.states(first, second, third) == "SUCCESS QUEUED QUEUED"
    hand.turn()
    assert hand.states(second, third) == "RUNNING QUEUED"


def test_the_place_of_a_killed_execution_is_taken(hand: Hand) -> None:
    hand.deploy(f"concurrency: {{limit: 1}}\ntasks: [{SLEEP}]")
    first, second, third = (hand.create() for _ in range(3))
    hand.turn()

    hand.engine.kill(first.id)
    hand.turn()

    assert hand.states(first, second, third) == "KILLED RUNNING QUEUED"


def test_who_waits_behind_a_killed_one_moves_up(hand: Hand) -> None:
    hand.deploy(f"concurrency: {{limit: 1}}\ntasks: [{SLEEP}]")
    first, second, third = (hand.create() for _ in range(3))
    hand.turn()
    hand.now += timedelta(seconds=10)
    hand.start(first)  # its place is free, and second's ring stands in the store

    hand.engine.kill(second.id)
    hand.turn()

    assert hand.states(first, second, third) == "SUCCESS KILLED RUNNING"


@pytest.mark.parametrize("behavior", ["QUEUE", "CANCEL", "FAIL"])
def test_a_restarted_execution_waits_for_a_place(hand: Hand, behavior: str) -> None:
    hand.deploy(
        f"concurrency: {{limit: 1, behavior: {behavior}}}\ntasks: [{SLEEP}, {{id: f, type: core.execution.Fail}}]"
    )
    failed = hand.create()
    hand.turn()
    hand.wait(10)
    second = hand.create()
    hand.turn()
    states = hand.states(failed, second)

    Reruns(hand.engine).restart(failed.id)
    hand.turn()

    assert states == "FAILED RUNNING"
    assert hand.states(failed, second) == "QUEUED RUNNING"
    hand.wait(10)
    assert hand.states(failed, second) == "FAILED FAILED"


@pytest.mark.parametrize(("behavior", "state"), [("CANCEL", State.CANCELLED), ("FAIL", State.FAILED)])
def test_one_too_many_is_refused_as_the_flow_says(hand: Hand, behavior: str, state: State) -> None:
    hand.deploy(f"concurrency: {{limit: 1, behavior: {behavior}}}\ntasks: [{SLEEP}]")
    first, second = hand.create(), hand.create()

    hand.turn()

    assert (hand.get(first).state, hand.get(second).state) == (State.RUNNING, state)
    assert [name.value for name, _ in hand.get(second).histories] == ["CREATED", state.value]
    assert [row.key for row in hand.rows(OUTBOX_REPORT)] == [second.id]


def test_a_paused_execution_keeps_its_place(hand: Hand) -> None:
    hand.deploy("concurrency: {limit: 1}\ntasks: [{id: p, type: core.flow.Pause}]")
    first, second = hand.create(), hand.create()
    hand.turn()
    assert hand.states(first, second) == "PAUSED QUEUED"

    hand.engine.resume(first.id)
    hand.turn()

    assert hand.states(first, second) == "SUCCESS PAUSED"


def test_who_was_paused_before_it_began_waits_for_a_place_once_resumed(hand: Hand) -> None:
    hand.deploy(f"concurrency: {{limit: 1}}\ntasks: [{SLEEP}]")
    first = hand.create()
    hand.turn()
    second = hand.create()
    hand.engine.pause(second.id)
    hand.turn()

    hand.engine.resume(second.id)
    hand.turn()

    assert hand.states(first, second) == "RUNNING QUEUED"
    hand.wait(10)
    assert hand.states(first, second) == "SUCCESS RUNNING"


def test_two_thousand_executions_pass_one_by_one(hand: Hand) -> None:
    hand.deploy("concurrency: {limit: 1}\ntasks: [{id: a, type: core.debug.Return}]")
    many = [future.result() for future in [hand.engine.submit(NewExecution(NAMESPACE, "flow")) for _ in range(2000)]]

    for _ in range(4100):
        rung = list(dict.fromkeys(row.key for row in hand.rows("advance")))
        if not rung:
            break
        hand.engine.advancer.advance(rung)

    assert hand.store.read(lambda db: db.executions.count_by_state()) == {State.SUCCESS: len(many)}
    assert hand.rows() == []
