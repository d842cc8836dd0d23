"""Executions that wait for others hear of each end once, however it came about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runner.errors import ConflictError
from runner.executions.effects import Effects
from runner.executions.models import OUTBOX_CHILD_RESTART, OUTBOX_PURGE, OUTBOX_REPORT, OutboxRow
from runner.executions.reruns import Reruns
from runner.states import State
from runner.storage.local import LocalStorage

if TYPE_CHECKING:
    from runner.executions.models import Execution
    from tests.unit.runner.executions.conftest import Hand

SLEEP = "{id: s, type: core.flow.Sleep, duration: PT10S}"
NAMESPACE = "company.team"

CALL = f"tasks: [{{id: c, type: core.flow.Subflow, namespace: {NAMESPACE}, flowId: child}}]"


def test_killing_the_parent_of_a_queued_child_ends_both(hand: Hand) -> None:
    hand.deploy(f"concurrency: {{limit: 1}}\ntasks: [{SLEEP}]", "child")
    hand.deploy(CALL)
    other, parent = hand.create("child"), hand.create()
    hand.turn()
    (child,) = hand.children(parent)
    assert hand.states(other, parent, child) == "RUNNING RUNNING QUEUED"

    hand.engine.kill(parent.id)
    hand.turn()

    assert hand.states(parent, child) == "KILLED KILLED"


def test_a_child_that_is_killed_alone_tells_its_parent(hand: Hand) -> None:
    hand.deploy(f"concurrency: {{limit: 1}}\ntasks: [{SLEEP}]", "child")
    hand.deploy(CALL)
    hand.create("child")
    hand.turn()
    parent = hand.create()
    hand.turn()

    hand.engine.kill(hand.children(parent)[0].id)
    hand.turn()

    assert hand.states(parent) == "KILLED"


@pytest.mark.parametrize("behavior", ["FAIL", "CANCEL"])
def test_a_child_that_finds_no_place_tells_its_parent(hand: Hand, behavior: str) -> None:
    hand.deploy(f"concurrency: {{limit: 1, behavior: {behavior}}}\ntasks: [{SLEEP}]", "child")
    hand.deploy(CALL)
    hand.create("child")
    hand.turn()

    parent = hand.create()
    hand.turn()

    assert hand.states(parent) == "FAILED"


def test_a_child_that_a_check_fails_tells_its_parent(hand: Hand) -> None:
    hand.deploy(f"checks: [{{when: 'false', message: no, behavior: FAIL_EXECUTION}}]\ntasks: [{SLEEP}]", "child")
    hand.deploy(CALL)
    parent = hand.create()

    hand.turn()

    assert hand.states(parent, *hand.children(parent)) == "FAILED FAILED"
    assert {row.key for row in hand.rows(OUTBOX_REPORT)} == {parent.id, hand.children(parent)[0].id}


def test_a_parent_is_not_ended_by_a_child_of_an_earlier_attempt(hand: Hand) -> None:
    hand.deploy(f"tasks: [{SLEEP}]", "child")
    hand.deploy(CALL.replace("}]", ", retry: {type: constant, interval: PT1S, maxAttempts: 2}}]"))
    parent = hand.create()
    hand.turn()
    (first,) = hand.children(parent)
    hand.engine.kill(first.id)
    hand.turn()
    assert hand.states(parent) == "KILLED"  # a killed child is no failure, and not tried again


def test_a_late_word_of_an_earlier_child_is_ignored(hand: Hand) -> None:
    hand.deploy("tasks: [{id: f, type: core.execution.Fail}]", "child")
    hand.deploy(CALL.replace("}]", ", retry: {type: constant, interval: PT60S, maxAttempts: 2}}]"))
    parent = hand.create()
    hand.turn()
    (first,) = hand.children(parent)
    hand.deploy(f"tasks: [{SLEEP}]", "child")
    hand.wait(60)
    assert hand.states(parent, *hand.children(parent)) == "RUNNING FAILED RUNNING"

    hand.store.write(lambda db: db.outbox.add([OutboxRow("child_ended", first.id)]))
    hand.turn()

    assert hand.states(parent) == "RUNNING"
    hand.wait(10)
    assert hand.states(parent) == "SUCCESS"


def test_a_cycle_of_flows_ends(hand: Hand) -> None:
    hand.deploy(CALL.replace("child", "flow"), "child")
    hand.deploy(CALL)
    first = hand.create()

    hand.turn()

    counts = hand.store.read(lambda db: db.executions.count_by_state())
    assert counts == {State.FAILED: 21}
    assert "levels below" in str(
        hand.runs(hand.store.read(lambda db: db.executions.last_of_flow(NAMESPACE, "flow", 1))[0])[0].error
    )
    assert hand.states(first) == "FAILED"


def test_a_child_whose_outputs_cannot_be_stored_tells_its_parent(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.executions.outputs.MOST_BYTES", 70_000)
    big = "{{ range(1, 20000) | join(',') }}"
    hand.deploy(
        f'tasks: [{{id: r, type: core.debug.Return}}]\noutputs: [{{id: o, type: STRING, value: "{big}"}}]', "child"
    )
    hand.deploy(CALL)
    parent = hand.create()

    hand.turn()

    assert hand.states(parent, *hand.children(parent)) == "FAILED SUCCESS"
    assert "more than 70000" in str(hand.runs(parent)[0].error)


def test_a_restart_of_a_child_that_is_heard_of_again_happens_once(hand: Hand) -> None:
    parent, child = restarted_parent(hand)
    (row,) = hand.rows(OUTBOX_CHILD_RESTART)
    hand.turn()
    ended = hand.get(child)
    assert [state for state, _ in ended.histories].count(State.RESTARTED) == 1

    Effects(hand.engine)._restart_child(row)  # another one that had read the row before it was removed
    hand.turn()

    assert hand.get(child) == ended
    assert hand.states(parent) == "FAILED"


def test_a_restart_of_a_child_that_is_gone_fails_the_task(hand: Hand) -> None:
    parent, child = restarted_parent(hand)
    hand.store.write(lambda db: db.executions.delete(child.id))

    hand.turn()

    assert hand.states(parent) == "FAILED"
    assert child.id in str(hand.runs(parent)[0].error)


def restarted_parent(hand: Hand) -> tuple[Execution, Execution]:
    """A parent that failed with its child and was restarted, as far as it asks for the restart of the child."""
    hand.deploy("tasks: [{id: f, type: core.execution.Fail}]", "child")
    hand.deploy(CALL.replace("}]", ", transmitFailed: true}]"))
    parent = hand.create()
    hand.turn()
    (child,) = hand.children(parent)
    assert hand.states(parent, child) == "FAILED FAILED"
    Reruns(hand.engine).restart(parent.id)
    hand.start(parent)
    return parent, child


def test_a_child_is_not_removed_before_its_parent_has_heard_of_its_end(hand: Hand) -> None:
    hand.deploy("tasks: [{id: f, type: core.debug.Return}]", "child")
    hand.deploy(CALL)
    parent = hand.create()
    hand.start(parent)
    (child,) = hand.children(parent)
    hand.start(child)

    with pytest.raises(ConflictError) as caught:
        hand.engine.delete(child.id)
    hand.turn()
    hand.engine.delete(child.id)

    assert caught.value.code == "execution.state"
    assert (hand.states(parent), hand.children(parent)) == ("SUCCESS", [])


def test_what_a_crash_leaves_of_a_removed_execution_is_asked_for(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    hand.deploy("tasks: [{id: f, type: core.debug.Return}]")
    execution = hand.create()
    hand.turn()

    def crash(*_: object) -> int:
        raise OSError("the process ends here")

    monkeypatch.setattr(LocalStorage, "delete", crash)
    with pytest.raises(OSError, match="ends here"):
        hand.engine.delete(execution.id)

    assert [(row.key, row.payload["storage"]) for row in hand.rows(OUTBOX_PURGE)] == [(execution.id, True)]


def test_a_restart_that_an_older_version_asked_for_is_done(hand: Hand) -> None:
    parent, child = restarted_parent(hand)
    (row,) = hand.rows(OUTBOX_CHILD_RESTART)
    hand.store.write(lambda db: db.outbox.delete([row.id]))
    hand.store.write(lambda db: db.outbox.add([OutboxRow(OUTBOX_CHILD_RESTART, child.id)]))

    hand.turn()

    assert [state for state, _ in hand.get(child).histories].count(State.RESTARTED) == 1
    assert hand.states(parent) == "FAILED"


def test_a_child_is_not_restarted_for_a_parent_that_is_killed_meanwhile(hand: Hand) -> None:
    parent, child = restarted_parent(hand)
    before = len(hand.runs(child)[0].histories)

    hand.engine.kill(parent.id)
    hand.turn()

    assert hand.states(parent, child) == "KILLED KILLED"
    assert State.RUNNING not in [state for state, _ in hand.runs(child)[0].histories[before:]]
