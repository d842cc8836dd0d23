"""When a failed task is tried again, how often, and what its states and attempts say about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from runner.executions.models import Loaded
from runner.executions.retries import next_try, wait_before
from runner.flows.models import Retry
from runner.states import State

if TYPE_CHECKING:
    from tests.unit.runner.executions.conftest import Play

Start = Callable[..., "Play"]

SECOND = timedelta(seconds=1)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def retry(**fields: Any) -> Retry:
    return Retry.model_validate(fields)


@pytest.mark.parametrize(
    ("fields", "waits"),
    [
        ({"type": "constant", "interval": "PT5S"}, [5, 5, 5, 5]),
        ({"type": "exponential", "interval": "PT1S", "maxInterval": "PT6S"}, [1, 2, 4, 6]),
        ({"type": "exponential", "interval": "PT1S", "maxInterval": "PT1H", "delayFactor": 3}, [1, 3, 9, 27]),
        ({"type": "exponential", "interval": "PT1S", "maxInterval": "PT1H", "delayFactor": 0.5}, [1, 0.5, 0.25, 0.125]),
        ({"type": "random", "minInterval": "PT2S", "maxInterval": "PT4S"}, [3, 3, 3, 3]),
    ],
)
def test_the_wait_depends_on_the_number_of_failed_attempts(fields: dict[str, Any], waits: list[float]) -> None:
    assert [wait_before(retry(**fields), tried, 0.5) / SECOND for tried in (1, 2, 3, 4)] == waits


def test_a_wait_beyond_all_dates_is_the_longest_allowed() -> None:
    rule = retry(type="exponential", interval="P1D", maxInterval="P2D", delayFactor=1e300)

    assert wait_before(rule, 50, 0.5) == timedelta(days=2)


def test_a_random_wait_stays_within_its_interval() -> None:
    rule = retry(type="random", minInterval="PT2S", maxInterval="PT4S")

    assert [wait_before(rule, 1, fraction) / SECOND for fraction in (0.0, 0.25, 0.999)] == [2, 2.5, 3.998]


@pytest.mark.parametrize(
    ("fields", "tried", "ended_s", "at_s"),
    [
        ({"maxAttempts": 3}, 2, 10, 15),
        ({"maxAttempts": 3}, 3, 10, None),
        ({"maxAttempts": 1}, 1, 10, None),
        ({}, 1_000_000, 10, 15),
        ({"maxDuration": "PT15S"}, 1, 10, 15),
        ({"maxDuration": "PT14S"}, 1, 10, None),
        ({"maxDuration": "PT1H", "maxAttempts": 2}, 2, 10, None),
    ],
)
def test_a_retry_ends_with_its_attempts_or_its_time(
    fields: dict[str, Any], tried: int, ended_s: int, at_s: int | None
) -> None:
    rule = retry(type="constant", interval="PT5S", **fields)

    found = next_try(rule, tried, first_started=NOW, ended=NOW + ended_s * SECOND, fraction=0.5)

    assert found == (None if at_s is None else NOW + at_s * SECOND)


def flaky(options: str = "maxAttempts: 3", *, on_flow: str = "", kind: str = "core.storage.Size, uri: x") -> str:
    own = f", retry: {{type: constant, interval: PT5S, {options}}}" if options else ""
    return f"{on_flow}\ntasks: [{{id: a, type: {kind}{own}}}]"


def test_a_failed_task_waits_and_is_submitted_again(play: Start) -> None:
    running = play(flaky()).fail("a")

    assert (running.state, running.states, running.submitted) == (State.RETRYING, ["a RETRYING"], ["a"])
    assert running.wait(4.999).states == ["a RETRYING"]
    assert running.wait(0.001).states == ["a SUBMITTED"]
    assert (running.state, running.submitted) == (State.RUNNING, ["a", "a"])
    assert running.end("a").state is State.SUCCESS
    assert running.history("a") == ["CREATED", "RUNNING", "RETRYING", "CREATED", "RUNNING", "SUCCESS"]
    assert running.history() == ["CREATED", "RUNNING", "RETRYING", "RUNNING", "SUCCESS"]


def test_a_task_fails_when_its_attempts_are_used_up(play: Start) -> None:
    failed = play(flaky()).fail("a").wait(5).fail("a").wait(5).fail("a")

    assert (failed.state, failed.states, failed.run("a").attempts) == (State.FAILED, ["a FAILED"], 3)


def test_no_attempt_begins_after_the_longest_duration(play: Start) -> None:
    running = play(flaky("maxDuration: PT12S"))

    assert running.fail("a").wait(5).fail("a").wait(5).fail("a").states == ["a FAILED"]
    assert running.run("a").attempts == 3


def test_success_after_a_retry_can_be_a_warning(play: Start) -> None:
    running = play(flaky("maxAttempts: 3, warningOnRetry: true"))

    assert running.fail("a").wait(5).end("a").state is State.WARNING


def test_success_at_the_first_attempt_is_no_warning(play: Start) -> None:
    assert play(flaky("maxAttempts: 3, warningOnRetry: true")).end("a").state is State.SUCCESS


def test_an_allowed_failure_is_retried_first(play: Start) -> None:
    running = play(flaky("maxAttempts: 2").replace("uri: x", "uri: x, allowFailure: true"))

    assert running.fail("a").states == ["a RETRYING"]
    assert running.wait(5).fail("a").state is State.WARNING


def test_instant_tasks_are_retried_and_keep_each_attempt(play: Start) -> None:
    ended = play(flaky("maxAttempts: 2", kind="core.execution.Fail")).wait(5)

    attempts = [attempt for commit in ended.commits for attempt in commit.attempts]
    assert [(attempt.number, attempt.state) for attempt in attempts] == [(1, State.FAILED), (2, State.FAILED)]
    assert ended.state is State.FAILED


@pytest.mark.parametrize("where", ["task", "container", "flow"])
def test_the_nearest_retry_counts(play: Start, where: str) -> None:
    rules = {
        place: f"retry: {{type: constant, interval: PT{seconds}S, maxAttempts: 2}}"
        for place, seconds in (("task", 1), ("container", 10), ("flow", 100))
    }
    wanted = list(rules)[list(rules).index(where) :]
    own = f", {rules['task']}" if "task" in wanted else ""
    around = f", {rules['container']}" if "container" in wanted else ""
    inner = f"{{id: a, type: core.storage.Size, uri: x{own}}}"

    running = play(f"{rules['flow']}\ntasks: [{{id: c, type: core.flow.Sequential{around}, tasks: [{inner}]}}]").fail(
        "a"
    )

    assert running.run("a").due_at == NOW + {"task": 1, "container": 10, "flow": 100}[where] * SECOND


def test_containers_are_not_retried(play: Start) -> None:
    inner = "{id: a, type: core.execution.Fail}"
    rule = "retry: {type: constant, interval: PT1S, maxAttempts: 2}"

    failed = play(f"tasks: [{{id: c, type: core.flow.Switch, {rule}, value: z, cases: {{a: [{inner}]}}}}]")

    assert failed.states == ["c FAILED"]


def test_what_waits_for_its_retry_keeps_the_errors_branch_waiting(play: Start) -> None:
    running = play(flaky("maxAttempts: 2") + "\nerrors: [{id: e, type: core.debug.Return}]")

    assert running.fail("a").started == ["a"]
    assert running.wait(5).fail("a").started == ["a", "e"]


def test_a_lost_worker_is_no_failed_attempt(play: Start) -> None:
    running = play(flaky("maxAttempts: 2")).claim("a").lose("a").advance()

    assert (running.states, running.submitted) == (["a SUBMITTED"], ["a"])
    assert running.claim("a").end("a").history("a") == ["CREATED", "RUNNING", "SUBMITTED", "RUNNING", "SUCCESS"]


def test_a_lost_worker_uses_up_no_retry(play: Start) -> None:
    running = play(flaky("maxAttempts: 2")).claim("a").lose("a").fail("a")

    assert running.states == ["a RETRYING"]


def test_a_lost_worker_is_no_reason_for_a_warning(play: Start) -> None:
    running = play(flaky("maxAttempts: 2, warningOnRetry: true")).claim("a").lose("a")

    assert running.end("a").state is State.SUCCESS


# ---------------------------------------------------------------- a new execution


NEW = "retry: {type: constant, interval: PT5S, maxAttempts: 2, behavior: CREATE_NEW_EXECUTION}"


def test_a_retry_can_be_a_new_execution(play: Start) -> None:
    inner = "[{id: a, type: core.storage.Size, uri: x}, {id: b, type: core.storage.Size, uri: x}]"
    running = play(f"{NEW}\ntasks: [{{id: p, type: core.flow.Parallel, tasks: {inner}}}]").claim("b")

    ended = running.fail("a")

    assert ended.state is State.RETRIED
    assert ended.states == ["p RETRIED", "a RETRIED", "b RETRIED"]
    assert ended.stopped == [ended.run("b").id]
    (again,) = ended.children
    assert (again.state, again.attempt_number, again.due_at) == (State.CREATED, 2, NOW + 5 * SECOND)
    assert again.original_id == ended.execution.id
    assert again.histories == ((State.CREATED, NOW),)


def test_new_executions_end_with_their_attempts(play: Start) -> None:
    first = play(flaky("", on_flow=NEW)).fail("a")
    again = play(flaky("", on_flow=NEW), advance=False)
    again.loaded = type(again.loaded)(first.children[0], ())

    failed = again.advance().fail("a")

    assert (failed.state, failed.children) == (State.FAILED, [])


def test_a_retried_execution_runs_nothing_after_its_end(play: Start) -> None:
    ended = play(flaky("", on_flow=f"{NEW}\nafterExecution: [{{id: x, type: core.debug.Return}}]")).fail("a")

    assert (ended.state, ended.started) == (State.RETRIED, ["a"])


def test_the_duration_of_retries_in_new_executions_counts_from_the_first_of_them(play: Start) -> None:
    retry = "{type: constant, interval: PT10S, maxDuration: PT25S, behavior: CREATE_NEW_EXECUTION}"
    source = f"retry: {retry}\ntasks: [{{id: a, type: core.execution.Fail}}]"
    it = play(source)
    states = [it.state]

    while it.children:
        child = it.children[-1]
        it = type(it)(it.index, it.host, Loaded(child, ()), now=child.due_at or NOW).advance()
        states.append(it.state)

    assert states == [State.RETRIED, State.RETRIED, State.FAILED]


def test_a_failed_job_can_be_retried_as_a_new_execution(play: Start) -> None:
    inner = "{id: a, type: core.storage.Size, uri: x}"
    running = play(f"{NEW}\ntasks: [{{id: w, type: core.flow.WorkingDirectory, tasks: [{inner}]}}]")

    assert running.fail("w").state is State.RETRIED
    assert len(running.children) == 1


def test_the_execution_runs_again_for_each_retry(play: Start) -> None:
    it = play("tasks: [{id: a, type: core.execution.Fail, retry: {type: constant, interval: PT1S, maxAttempts: 3}}]")

    it.wait(1).wait(1)

    assert it.history() == ["CREATED", "RUNNING", "RETRYING", "RUNNING", "RETRYING", "RUNNING", "FAILED"]
