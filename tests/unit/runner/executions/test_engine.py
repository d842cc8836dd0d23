"""The engine over a real store, with nobody listening to its rings: what stands in the store has to be enough."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from runner.errors import ConflictError, StoreError
from runner.executions import flowables, settling
from runner.executions.creation import NewExecution
from runner.executions.models import OUTBOX_FLOW_EVENT, OUTBOX_REPORT, Execution, OutboxRow, TaskRun
from runner.states import State
from runner.store import Session, Store
from runner.store.claims import Claims
from runner.sweeper import Sweeper
from tests.servers.busy_secrets import BusySecrets

if TYPE_CHECKING:
    from tests.unit.runner.executions.conftest import Hand

SLEEP = "{id: s, type: core.flow.Sleep, duration: PT10S}"
NAMESPACE = "company.team"
CALL = f"tasks: [{{id: c, type: core.flow.Subflow, namespace: {NAMESPACE}, flowId: child}}]"


def test_a_killed_run_that_nobody_claimed_leaves_no_ring(hand: Hand) -> None:
    hand.deploy("tasks: [{id: a, type: core.storage.Size, uri: x}]")
    execution = hand.create()
    hand.turn()
    (run,) = hand.runs(execution)

    hand.engine.kill(execution.id)
    hand.turn()
    hand.worker.work(run.id, run.epoch)

    assert (hand.states(execution), hand.rows()) == ("KILLED", [])


def test_a_ring_for_an_older_claim_leaves_the_newer_one_alone(hand: Hand) -> None:
    hand.deploy("tasks: [{id: a, type: core.storage.Size, uri: x}]")
    execution = hand.create()
    hand.turn()
    (run,) = hand.runs(execution)

    hand.worker.work(run.id, run.epoch + 7)

    assert [row.key for row in hand.rows("run")] == [run.id]


def test_an_execution_that_cannot_be_decided_fails_and_holds_up_nobody(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand.deploy("tasks: [{id: a, type: core.debug.Return}]")
    hand.deploy("tasks: [{id: broken, type: core.debug.Return}]", "other")
    good, bad, late = hand.create(), hand.create("other"), hand.create()
    original = flowables.next_main

    def break_one(tree: Any, node: Any) -> Any:
        if tree.flow.id == "other":
            raise RecursionError("too deep")
        return original(tree, node)

    monkeypatch.setattr(settling, "next_main", break_one)

    hand.engine.advancer.advance([good.id, bad.id, late.id])

    assert hand.states(good, bad, late) == "SUCCESS FAILED SUCCESS"
    assert hand.get(bad).error == "internal error: RecursionError: too deep"
    hand.turn()
    assert hand.rows() == []


def test_a_commit_that_the_store_refuses_is_left_for_later(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    hand.deploy("tasks: [{id: a, type: core.debug.Return}]")
    first, second = hand.create(), hand.create()
    original = type(hand.store).submit
    refused: list[Any] = []

    def refuse_once(store: Store, unit: Callable[[Session], Any]) -> Any:
        if not refused:
            refused.append(unit)

            def full(_db: Session) -> Any:
                raise StoreError("store.disk.full", "the database cannot grow")

            return original(store, full)
        return original(store, unit)

    monkeypatch.setattr(type(hand.store), "submit", refuse_once)

    hand.engine.advancer.advance([first.id, second.id])

    assert hand.states(first, second) == "CREATED SUCCESS"
    hand.turn()
    assert hand.states(first) == "SUCCESS"


def test_a_follow_up_that_nobody_expected_holds_up_no_other(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    hand.deploy("tasks: [{id: f, type: core.debug.Return}]", "child")
    hand.deploy(CALL)
    parent = hand.create()
    hand.start(parent)
    (child,) = hand.children(parent)
    hand.store.write(lambda db: db.outbox.add([OutboxRow(OUTBOX_FLOW_EVENT, child.id, {"state": "NO STATE"})]))

    hand.turn()

    assert hand.states(parent, child) == "SUCCESS SUCCESS"


def test_a_follow_up_that_meets_a_store_that_is_away_is_done_later(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    hand.deploy("tasks: [{id: f, type: core.debug.Return}]", "child")
    hand.deploy(CALL)
    parent = hand.create()
    hand.start(parent)
    hand.start(*hand.children(parent))

    def away(*_: Any) -> Any:
        raise StoreError("store.busy", "another process holds the database")

    with monkeypatch.context() as patch:
        patch.setattr(hand.store, "write", away)
        with pytest.raises(StoreError):
            hand.effects.run_once()
    hand.turn()

    assert hand.states(parent) == "SUCCESS"


def test_an_execution_whose_flow_was_deleted_goes_on_with_its_revision(hand: Hand) -> None:
    hand.deploy(f"tasks: [{SLEEP}, {{id: a, type: core.debug.Return}}]")
    execution = hand.create()
    hand.turn()

    hand.store.write(lambda db: db.flows.remove(NAMESPACE, "flow", hand.now, None))
    hand.wait(10)

    assert hand.states(execution) == "SUCCESS"


def test_an_execution_whose_flow_cannot_be_read_fails_and_frees_its_place(hand: Hand) -> None:
    hand.deploy(f"concurrency: {{limit: 1}}\ntasks: [{SLEEP}]")
    first, second = hand.create(), hand.create()
    hand.turn()
    hand.store.write(lambda db: db.connection.driver.execute("UPDATE flows SET source = 'tasks: 1', blob = 'x'"))
    hand.engine.catalogue.invalidate()
    hand.engine.catalogue._versions.clear()

    hand.wait(10)

    assert hand.states(first, second) == "FAILED FAILED"
    assert "not valid any more" in str(hand.get(first).error)
    assert hand.rows() == []


def test_a_run_that_ends_under_a_workers_hands_ends_its_attempt_too(hand: Hand) -> None:
    leaving = "[{id: s, type: core.flow.Sleep, duration: PT1S}, {id: x, type: core.execution.Exit, state: CANCELLED}]"
    working = "{id: w, type: core.storage.Size, uri: x}"
    branch = f"{{id: q, type: core.flow.Sequential, tasks: {leaving}}}"
    hand.deploy(f"tasks: [{{id: p, type: core.flow.Parallel, tasks: [{working}, {branch}]}}]")
    execution = hand.create()
    hand.turn()
    run = next(each for each in hand.runs(execution) if each.task_id == "w")
    hand.store.write(lambda db: db.claims.claim(run.id, run.epoch, "elsewhere", hand.now))

    hand.wait(1)

    (attempt,) = hand.store.read(lambda db: db.executions.attempts(execution.id))
    assert hand.states(execution) == "CANCELLED"
    assert (attempt.state, attempt.failure_reason, attempt.histories[-1][0]) == (
        State.CANCELLED,
        "CANCELLED",
        State.CANCELLED,
    )
    assert attempt.ended_at is not None


# ---------------------------------------------------------------- verbs


def test_events_of_verbs_reach_the_flows_that_listen(hand: Hand) -> None:
    hand.deploy(f"tasks: [{SLEEP}]")
    hand.deploy("tasks: [{id: a, type: core.debug.Return}]\ntriggers: [{id: t, type: core.trigger.Flow}]", "listener")
    running, created = hand.create(), hand.create()
    hand.start(running)

    hand.engine.pause(running.id)
    hand.engine.resume(running.id)
    hand.engine.kill(created.id)

    events = [(row.key == created.id, row.payload["state"]) for row in hand.rows(OUTBOX_FLOW_EVENT)]
    expected = [(False, "RUNNING"), (False, "PAUSED"), (False, "RESTARTED"), (False, "RUNNING"), (True, "KILLED")]
    assert events == expected


def test_a_killed_execution_is_reported_also_when_it_never_began(hand: Hand) -> None:
    hand.deploy(f"tasks: [{SLEEP}]")
    execution = hand.create()

    hand.engine.kill(execution.id)

    assert [row.key for row in hand.rows(OUTBOX_REPORT)] == [execution.id]


@pytest.mark.parametrize("verb", ["kill", "pause", "resume"])
def test_verbs_refuse_an_execution_that_has_ended(hand: Hand, verb: str) -> None:
    hand.deploy("tasks: [{id: a, type: core.debug.Return}]")
    execution = hand.create()
    hand.turn()

    with pytest.raises(ConflictError, match="SUCCESS"):
        getattr(hand.engine, verb)(execution.id)


def test_a_kill_and_the_end_of_a_body_meet_in_either_order(hand: Hand) -> None:
    hand.deploy("tasks: [{id: a, type: core.storage.Size, uri: x}, {id: b, type: core.debug.Return}]")
    many = [hand.create() for _ in range(20)]
    hand.turn()
    runs = [hand.runs(each)[0] for each in many]

    threads = [threading.Thread(target=hand.worker.work, args=(run.id, run.epoch)) for run in runs]
    threads += [threading.Thread(target=_kill, args=(hand, each)) for each in many]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hand.turn()

    assert {hand.get(each).state for each in many} <= {State.KILLED, State.FAILED}
    assert all(run.state.is_terminal for each in many for run in hand.runs(each))


def _kill(hand: Hand, execution: Execution) -> None:
    try:
        hand.engine.kill(execution.id)
    except ConflictError:
        return


def test_a_sweep_finds_what_no_ring_reached(hand: Hand) -> None:
    hand.deploy("tasks: [{id: a, type: core.debug.Return}]")
    execution = hand.create()
    sweeper = Sweeper(hand.engine, hand.effects, own_worker=lambda: hand.worker.id)

    at_once, later = sweeper.ring_again(5), 0
    hand.now += timedelta(seconds=6)
    later = sweeper.ring_again(5)

    assert (at_once, later) == (0, 1)
    hand.turn()
    assert (hand.states(execution), sweeper.ring_again(5)) == ("SUCCESS", 0)


def test_while_a_queue_is_long_each_row_is_rung_for_once_a_minute(hand: Hand) -> None:
    hand.deploy("tasks: [{id: a, type: core.debug.Return}]")
    execution = hand.create()
    sweeper = Sweeper(hand.engine, hand.effects, own_worker=lambda: hand.worker.id)
    hand.now += timedelta(seconds=60)

    first, again = sweeper.ring_again(60, is_busy=True), sweeper.ring_again(60, is_busy=True)
    lost = sweeper.ring_again(5)  # the queue is empty: what was in it is gone
    hand.now += timedelta(seconds=60)
    next_minute = sweeper.ring_again(60, is_busy=True)

    assert (first, again, lost, next_minute) == (1, 0, 1, 1)
    hand.turn()
    assert hand.states(execution) == "SUCCESS"


def test_a_caller_that_goes_away_does_not_keep_an_execution_from_being_created(hand: Hand) -> None:
    hand.deploy("tasks: [{id: a, type: core.debug.Return}]")
    future = hand.engine.submit(NewExecution(NAMESPACE, "flow"))

    gone = future.cancel()
    hand.store.flush()
    hand.turn()

    assert not gone
    assert hand.states(future.result(5)) == "SUCCESS"


def test_a_cancelled_write_does_not_end_the_writer(hand: Hand) -> None:
    futures = [hand.store.submit(lambda db: db.flows.generation()) for _ in range(50)]

    for future in futures:
        future.cancel()

    hand.store.flush()
    assert all(future.done() for future in futures)


def test_a_run_is_taken_back_after_it_was_claimed(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    hand.deploy("tasks: [{id: a, type: core.kv.Set, key: k, value: x}]")
    execution = hand.create()
    hand.turn()
    run = hand.runs(execution)[0]
    sweeper = Sweeper(hand.engine, hand.effects, own_worker=lambda: hand.worker.id)
    owned_by = Claims.owned_by

    def claimed_meanwhile(self: Claims, worker_id: str) -> list[TaskRun]:
        hand.now += timedelta(seconds=1)
        hand.store.write(lambda db: db.claims.claim(run.id, run.epoch, worker_id, hand.now))
        return hand.store.read(lambda db: owned_by(db.claims, worker_id))

    monkeypatch.setattr(Claims, "owned_by", claimed_meanwhile)
    taken = sweeper.take_back("slow", "lost")

    histories = hand.runs(execution)[0].histories
    assert taken == 1
    assert [state.value for state, _ in histories[-2:]] == ["RUNNING", "SUBMITTED"]
    assert histories[-2][1] <= histories[-1][1]


def test_a_flow_trigger_that_asks_for_a_secret_waits_for_the_store(hand: Hand) -> None:
    hand.engine.host.secrets._backends = (BusySecrets(),)
    asking = """{id: t, type: core.trigger.Flow, inputs: {x: "{{ secret('KEY') }}"}}"""
    hand.deploy(f"tasks: [{{id: a, type: core.debug.Return}}]\ntriggers: [{asking}]", "listener")
    hand.deploy("tasks: [{id: a, type: core.debug.Return}]")
    hand.start(hand.create())

    with pytest.raises(StoreError):
        hand.effects.run_once()
    hand.turn()

    assert len(hand.store.read(lambda db: db.executions.last_of_flow(NAMESPACE, "listener", 9))) == 1


def test_a_flow_trigger_is_not_lost_to_a_store_that_is_away(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    hand.deploy("tasks: [{id: a, type: core.debug.Return}]\ntriggers: [{id: t, type: core.trigger.Flow}]", "listener")
    hand.deploy("tasks: [{id: a, type: core.debug.Return}]")
    hand.start(hand.create())

    def away(_new: NewExecution) -> Execution:
        raise StoreError("store.unreachable", "the database does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(hand.engine, "make", away)
        with pytest.raises(StoreError):
            hand.effects.run_once()
    hand.turn()

    assert len(hand.store.read(lambda db: db.executions.last_of_flow(NAMESPACE, "listener", 9))) == 1
