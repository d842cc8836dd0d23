"""Killing in every state, pausing and resuming, sleeping, and workers that are lost meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from runner.states import State

if TYPE_CHECKING:
    from tests.unit.runner.executions.conftest import Play

Start = Callable[..., "Play"]

WORK = "{id: %s, type: core.storage.Size, uri: x}"
OK = "{id: %s, type: core.debug.Return, format: ''}"


def alone(task: str) -> str:
    return f"tasks: [{task}]\nerrors: [{OK % 'e'}]\nfinally: [{OK % 'f'}]"


# ---------------------------------------------------------------- killing


@pytest.mark.parametrize(
    ("task", "before"),
    [
        (WORK % "a", "a SUBMITTED"),
        ("{id: a, type: core.flow.Pause}", "a PAUSED"),
        ("{id: a, type: core.flow.Pause, delay: PT1H}", "a PAUSED"),
        ("{id: a, type: core.flow.Sleep, duration: PT1H}", "a RUNNING"),
        (
            "{id: a, type: core.execution.Fail, retry: {type: constant, interval: PT1H, maxAttempts: 9}}",
            "a RETRYING",
        ),
        (
            "{id: a, type: core.flow.LoopUntil, condition: 'false', tasks: [{id: b, type: core.debug.Return}]}",
            "a PAUSED",
        ),
    ],
)
def test_what_waits_is_killed_at_once(play: Start, task: str, before: str) -> None:
    running = play(alone(task))
    assert running.states[0] == before

    killed = running.kill()

    assert killed.states[0] == "a KILLED"
    assert (killed.state, killed.open) == (State.KILLED, [])
    assert killed.history()[-2:] == ["KILLING", "KILLED"]
    assert "e" not in killed.started
    assert killed.run("a").due_at is None


def test_a_running_body_is_stopped_and_its_end_awaited(play: Start) -> None:
    running = play(alone(WORK % "a")).claim("a")

    assert running.kill().states == ["a RUNNING"]
    assert running.stopped == [running.run("a").id]
    assert running.end("a", State.KILLED).states == ["a KILLED"]
    assert running.history() == ["CREATED", "RUNNING", "KILLING", "KILLED"]


@pytest.mark.parametrize("result", [State.SUCCESS, State.FAILED, State.WARNING])
def test_a_result_that_comes_with_the_kill_is_kept(play: Start, result: State) -> None:
    retried = WORK.replace("}", ", retry: {type: constant, interval: PT1S, maxAttempts: 3}}") % "a"
    running = play(alone(retried)).claim("a").kill()

    killed = running.end("a", result)

    assert (killed.state, killed.states) == (State.KILLED, [f"a {result.value}"])


def test_containers_are_killed_after_what_is_in_them(play: Start) -> None:
    inner = f"{{id: s, type: core.flow.Sequential, tasks: [{WORK % 'b'}, {WORK % 'c'}]}}"
    running = play(f"tasks: [{{id: p, type: core.flow.Parallel, tasks: [{WORK % 'a'}, {inner}]}}]").claim("b")

    assert running.kill().states == ["p KILLING", "a KILLED", "s KILLING", "b RUNNING"]
    assert running.end("b", State.KILLED).states == ["p KILLED", "a KILLED", "s KILLED", "b KILLED"]
    assert running.state is State.KILLED


def test_a_retry_whose_time_has_come_does_not_start_in_a_killed_execution(play: Start) -> None:
    failing = "{id: a, type: core.execution.Fail, retry: {type: constant, interval: PT1S, maxAttempts: 9}}"
    running = play(f"tasks: [{{id: p, type: core.flow.Parallel, tasks: [{failing}, {WORK % 'b'}]}}]").claim("b")
    assert running.run("a").attempts == 1
    running.enter(State.KILLING)

    running.wait(60)

    assert running.run("a").attempts == 1
    assert running.history("a")[-1] == "KILLED"


def test_a_pause_whose_time_has_come_does_not_go_on_in_a_killed_execution(play: Start) -> None:
    running = play(f"tasks: [{{id: p, type: core.flow.Pause, delay: PT1S, tasks: [{OK % 'a'}]}}]").enter(State.KILLING)

    assert running.wait(60).states == ["p KILLED"]


def test_a_killed_execution_is_killed_even_when_its_worker_is_lost(play: Start) -> None:
    running = play(alone(WORK % "a")).claim("a").kill()

    assert running.lose("a").advance().states == ["a KILLED"]
    assert running.state is State.KILLED


def test_what_a_killed_execution_runs_afterwards_sees_that_it_was_killed(play: Start) -> None:
    telling = '{id: x, type: core.debug.Return, format: "{{ execution.state }}"}'

    killed = play(f"tasks: [{WORK % 'a'}]\nafterExecution: [{telling}]").kill()

    assert (killed.state, killed.output("x")) == (State.KILLED, {"value": "KILLED"})


def test_a_second_kill_changes_nothing(play: Start) -> None:
    running = play(alone(WORK % "a")).claim("a").kill()
    before = running.loaded

    assert running.advance().loaded == before


# ---------------------------------------------------------------- Pause and Sleep


def test_a_pause_waits_for_somebody_and_then_runs_what_is_in_it(play: Start) -> None:
    running = play(f"tasks: [{{id: p, type: core.flow.Pause, tasks: [{OK % 'a'}]}}, {OK % 'b'}]")

    assert (running.state, running.states) == (State.PAUSED, ["p PAUSED"])
    assert running.wait(10**7).state is State.PAUSED
    assert running.resume().states == ["p SUCCESS", "a SUCCESS", "b SUCCESS"]
    assert running.history() == ["CREATED", "RUNNING", "PAUSED", "RESTARTED", "RUNNING", "SUCCESS"]
    assert running.history("p") == ["CREATED", "RUNNING", "PAUSED", "RUNNING", "SUCCESS"]


@pytest.mark.parametrize(
    ("options", "pause", "execution"),
    [
        ("delay: PT5S", "SUCCESS", "SUCCESS"),
        ("pauseDuration: PT5S", "SUCCESS", "SUCCESS"),
        ('delay: "PT{{ 2 + 3 }}S"', "SUCCESS", "SUCCESS"),
        ("pauseDuration: PT5S, behavior: RESUME", "SUCCESS", "SUCCESS"),
        ("pauseDuration: PT5S, behavior: WARN", "WARNING", "WARNING"),
        ("pauseDuration: PT5S, behavior: FAIL", "FAILED", "FAILED"),
        ("pauseDuration: PT5S, behavior: CANCEL", "CANCELLED", "CANCELLED"),
        ("timeout: PT5S", "FAILED", "FAILED"),
        ("timeout: PT5S, behavior: WARN", "WARNING", "WARNING"),
    ],
)
def test_a_pause_with_a_time_ends_as_it_says(play: Start, options: str, pause: str, execution: str) -> None:
    running = play(f"tasks: [{{id: p, type: core.flow.Pause, {options}}}, {OK % 'b'}]")

    assert running.wait(4.9).states == ["p PAUSED"]
    assert running.wait(0.1).states[0] == f"p {pause}"
    assert running.state is State(execution)
    assert ("b" in running.started) is (pause in {"SUCCESS", "WARNING"})


def test_a_pause_that_was_resumed_in_time_does_not_end_again(play: Start) -> None:
    running = play(
        f"tasks: [{{id: p, type: core.flow.Pause, pauseDuration: PT5S, behavior: FAIL, tasks: [{WORK % 'a'}]}}]"
    )

    running.resume().wait(60)

    assert (running.state, running.states) == (State.RUNNING, ["p RUNNING", "a SUBMITTED"])


def test_the_execution_runs_again_when_none_of_its_tasks_is_paused(play: Start) -> None:
    first, second = "{id: p, type: core.flow.Pause, delay: PT1S}", "{id: q, type: core.flow.Pause, delay: PT2S}"
    running = play(f"tasks: [{{id: c, type: core.flow.Parallel, tasks: [{first}, {second}, {WORK % 'a'}]}}]")

    assert running.wait(1).state is State.PAUSED
    assert running.wait(1).state is State.RUNNING
    assert running.end("a").state is State.SUCCESS


def test_a_duration_that_is_none_fails_the_pause(play: Start) -> None:
    failed = play('tasks: [{id: p, type: core.flow.Pause, delay: "{{ 1 + 1 }}"}]')

    assert failed.states == ["p FAILED"]
    assert "'2'" in str(failed.run("p").error)


def test_sleep_lets_time_pass_without_a_worker(play: Start) -> None:
    running = play(f"tasks: [{{id: s, type: core.flow.Sleep, duration: PT5S}}, {OK % 'a'}]")

    assert (running.state, running.states, running.submitted) == (State.RUNNING, ["s RUNNING"], [])
    assert running.wait(5).states == ["s SUCCESS", "a SUCCESS"]


# ---------------------------------------------------------------- an execution that somebody paused


def test_a_paused_execution_starts_nothing_new_until_it_is_resumed(play: Start) -> None:
    running = play(f"tasks: [{WORK % 'a'}, {OK % 'b'}]").claim("a").enter(State.PAUSED)

    assert (running.end("a").states, running.state) == (["a SUCCESS"], State.PAUSED)
    assert (running.resume().states, running.state) == (["a SUCCESS", "b SUCCESS"], State.SUCCESS)


def test_a_paused_execution_tries_nothing_again_until_it_is_resumed(play: Start) -> None:
    failing = "{id: a, type: core.execution.Fail, retry: {type: constant, interval: PT1S, maxAttempts: 2}}"
    running = play(f"tasks: [{{id: p, type: core.flow.Parallel, tasks: [{failing}, {WORK % 'b'}]}}]")
    running.enter(State.PAUSED)

    assert (running.wait(60).run("a").state, running.run("a").attempts) == (State.CREATED, 1)
    assert running.resume().run("a").state is State.FAILED


def test_a_paused_execution_can_be_killed(play: Start) -> None:
    running = play(f"tasks: [{WORK % 'a'}, {OK % 'b'}]").enter(State.PAUSED).advance()

    assert running.kill().states == ["a KILLED"]
    assert running.state is State.KILLED


def test_a_sleep_longer_than_its_timeout_fails_when_that_is_over(play: Start) -> None:
    it = play("tasks: [{id: s, type: core.flow.Sleep, duration: PT1H, timeout: PT0.5S}]").wait(1)

    assert (it.state, it.run("s").error) == (State.FAILED, "Timeout: the task ran longer than 0.5 s")
    assert ("ERROR", "Timeout: the task ran longer than 0.5 s") in it.messages


def test_an_errors_branch_sees_the_errors_of_the_same_burst(play: Start) -> None:
    template = "{% for entry in errorLogs() %}{{ entry.taskId }}: {{ entry.message }}{% endfor %}"
    it = play(
        f"tasks: [{{id: a, type: core.execution.Fail, errorMessage: no stock}}]\n"
        f"errors: [{{id: e, type: core.debug.Return, format: '{template}'}}]"
    )

    assert it.output("e") == {"value": "a: no stock"}


def test_a_pause_runs_its_task_while_it_waits_and_is_not_decided_by_it(play: Start) -> None:
    told = "{id: tell, type: core.storage.Size, uri: x}"
    it = play(f"tasks: [{{id: p, type: core.flow.Pause, onPause: {told}}}, {OK % 'a'}]")

    assert (it.state, it.states) == (State.PAUSED, ["p PAUSED", "tell SUBMITTED"])
    it.fail("tell")
    assert (it.state, it.states) == (State.PAUSED, ["p PAUSED", "tell FAILED"])
    assert it.resume().states == ["p SUCCESS", "tell FAILED", "a SUCCESS"]
    assert it.state is State.SUCCESS


def test_a_pause_that_is_resumed_waits_for_its_own_task(play: Start) -> None:
    told = "{id: tell, type: core.storage.Size, uri: x}"
    it = play(f"tasks: [{{id: p, type: core.flow.Pause, onPause: {told}}}]").resume()

    assert it.states == ["p RUNNING", "tell SUBMITTED"]
    assert it.end("tell").state is State.SUCCESS


def test_a_killed_pause_ends_its_own_task_too(play: Start) -> None:
    told = "{id: tell, type: core.storage.Size, uri: x}"
    it = play(f"tasks: [{{id: p, type: core.flow.Pause, onPause: {told}}}]").kill()

    assert (it.state, it.states) == (State.KILLED, ["p KILLED", "tell KILLED"])
