"""Promises about executions: time limits and assertions, and what happens when one is broken."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from runner.states import State

if TYPE_CHECKING:
    from tests.unit.runner.executions.conftest import Play

Start = Callable[..., "Play"]

WORK = "{id: a, type: core.storage.Size, uri: x}"
AFTER = "afterExecution: [{id: z, type: core.debug.Return, format: x}]"


def limited(behavior: str) -> str:
    sla = f"{{id: quick, type: MAX_DURATION, duration: PT1M, behavior: {behavior}, labels: {{late: yes}}}}"
    return f"sla: [{sla}]\ntasks: [{WORK}]\n{AFTER}"


@pytest.mark.parametrize(("behavior", "state"), [("FAIL", State.FAILED), ("CANCEL", State.CANCELLED)])
def test_an_execution_that_takes_too_long_ends_and_its_work_is_stopped(
    play: Start, behavior: str, state: State
) -> None:
    it = play(limited(behavior)).claim("a")

    it.wait(59)
    before = it.state
    it.wait(1)

    assert (before, it.state, it.run("a").state) == (State.RUNNING, state, state)
    assert it.stopped == [it.run("a").id]
    assert it.execution.labels["late"] == "yes"
    assert it.run("z").state is State.SUCCESS


def test_the_time_limit_is_a_timer_of_the_execution(play: Start) -> None:
    it = play(limited("FAIL"))

    assert it.execution.started_at is not None
    assert it.execution.due_at == it.execution.started_at + timedelta(minutes=1)
    assert it.end("a").execution.state is State.SUCCESS


def test_a_promise_that_only_labels_is_broken_once(play: Start) -> None:
    it = play(limited("NONE")).wait(61)

    commits = len(it.commits)
    it.wait(61)

    assert (it.state, it.execution.labels["late"], it.execution.due_at) == (State.RUNNING, "yes", None)
    assert len(it.commits) == commits
    assert it.end("a").state is State.SUCCESS


def test_an_assertion_is_looked_at_whenever_the_execution_moves(play: Start) -> None:
    promise = "{id: small, type: EXECUTION_ASSERTION, assert: '{{ (outputs.a.size ?? 0) < 10 }}', behavior: FAIL}"
    it = play(f"sla: [{promise}]\ntasks: [{WORK}, {{id: b, type: core.storage.Size, uri: x}}]")

    it.end("a", outputs={"size": 11})

    assert (it.state, it.started) == (State.FAILED, ["a", "b"])
    assert ("ERROR", "the execution broke its SLA 'small'") in it.messages
