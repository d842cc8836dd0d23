"""One thread of a process at a time moves an execution forward, and no ring for it meanwhile is forgotten."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import pytest

from runner.errors import StoreError
from runner.executions.turns import Turns
from runner.states import State
from runner.store.executions import ExecutionRows

if TYPE_CHECKING:
    from tests.unit.runner.executions.conftest import Hand

TWO = """
tasks:
  - id: both
    type: core.flow.Parallel
    tasks: [{id: a, type: core.kv.Set, key: a, value: x}, {id: b, type: core.kv.Set, key: b, value: x}]
"""


def test_what_somebody_has_is_noted_and_looked_at_once_more() -> None:
    turns = Turns()
    first, second = turns.take(["a", "b"]), turns.take(["b", "c"])

    left = turns.leave(["a", "b"])
    again = turns.leave(["b"])

    assert (first, second) == (["a", "b"], ["c"])
    assert (left, again) == (["b"], [])
    assert turns.take(["a", "b"]) == ["a", "b"]


def test_what_is_dropped_with_a_note_is_told() -> None:
    turns = Turns()
    turns.take(["a", "b"])
    turns.take(["b"])

    dropped = turns.drop(["a", "b"])

    assert dropped == ["b"]
    assert turns.take(["a", "b"]) == ["a", "b"]


def test_a_result_that_comes_while_another_is_decided_on_is_not_left_lying(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand.deploy(TWO)
    execution = hand.create()
    hand.turn()
    first, second = [run for run in hand.runs(execution) if run.state is State.SUBMITTED]
    load_many = ExecutionRows.load_many

    def loading(self: ExecutionRows, ids: Any) -> Any:
        found = load_many(self, ids)
        if threading.current_thread() is not other:
            monkeypatch.setattr(ExecutionRows, "load_many", load_many)
            other.start()
            other.join(60)
        return found

    other = threading.Thread(target=lambda: hand.worker.work(second.id, second.epoch))
    monkeypatch.setattr(ExecutionRows, "load_many", loading)
    hand.worker.work(first.id, first.epoch)

    assert not other.is_alive()
    assert hand.states(execution) == "SUCCESS"
    assert hand.rows("advance") == []


def test_a_thread_whose_store_is_away_passes_on_what_it_was_told(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    hand.deploy(TWO)
    execution = hand.create()
    rung: list[str] = []
    ring: Callable[[Iterable[str]], None] = rung.extend

    def away(_self: ExecutionRows, ids: Any) -> Any:
        hand.engine.advancer.advance(ids)  # as another thread would
        raise StoreError("store.unreachable", "the database does not answer")

    monkeypatch.setattr(hand.engine.doorbell, "ring_executions", ring)
    monkeypatch.setattr(ExecutionRows, "load_many", away)

    with pytest.raises(StoreError):
        hand.engine.advancer.advance([execution.id])

    assert rung == [execution.id]
