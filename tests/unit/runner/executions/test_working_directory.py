"""A WorkingDirectory as the engine sees it: one job of a worker, whose tasks the job itself writes down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from runner.executions.models import Loaded, TaskRun
from runner.states import State

if TYPE_CHECKING:
    from tests.unit.runner.executions.conftest import Play

Start = Callable[..., "Play"]

SOURCE = """
tasks:
  - id: w
    type: core.flow.WorkingDirectory
    tasks: [{id: a, type: core.storage.Size, uri: x}, {id: b, type: core.debug.Return}]
    errors: [{id: e, type: core.debug.Return}]
    finally: [{id: f, type: core.debug.Return}]
"""


def begin_inside(running: Play, task: str, state: State = State.RUNNING) -> Play:
    """The job writes the run of one of its tasks."""
    job = running.run("w")
    created = TaskRun(f"run-{task}", running.execution.id, task, State.CREATED, running.now, 50, job.id)
    run = created.enter(State.CREATED, running.now).enter(State.RUNNING, running.now)
    running.loaded = Loaded(running.execution, (*running.runs, run.enter(state, running.now)))
    return running


def test_the_whole_goes_to_one_worker(play: Start) -> None:
    running = play(SOURCE)

    assert (running.states, running.submitted) == (["w SUBMITTED"], ["w"])
    assert running.claim("w").advance().states == ["w RUNNING"]


@pytest.mark.parametrize(
    ("result", "after"), [(State.SUCCESS, ["f SUCCESS"]), (State.FAILED, ["e SUCCESS", "f SUCCESS"])]
)
def test_its_own_branches_follow_the_job(play: Start, result: State, after: list[str]) -> None:
    running = begin_inside(play(SOURCE).claim("w"), "a", result)

    ended = running.end("w", result)

    assert ended.states == [f"w {result.value}", f"a {result.value}", *after]
    assert ended.state is result


def test_the_engine_leaves_the_tasks_of_a_running_job_alone(play: Start) -> None:
    running = begin_inside(play(SOURCE).claim("w"), "b")

    assert running.kill().states == ["w RUNNING", "b RUNNING"]
    assert running.stopped == [running.run("w").id]


def test_a_killed_job_ends_killed_without_its_branches(play: Start) -> None:
    running = begin_inside(play(SOURCE).claim("w"), "a", State.KILLED).kill()

    ended = running.end("w", State.KILLED)

    assert ended.states == ["w KILLED", "a KILLED"]
    assert ended.state is State.KILLED


def test_what_a_lost_job_left_open_is_killed_with_the_execution(play: Start) -> None:
    running = begin_inside(play(SOURCE).claim("w"), "a").kill()

    ended = running.lose("w").advance()

    assert ended.states == ["w KILLED", "a KILLED"]
    assert ended.state is State.KILLED


def test_what_a_job_left_open_ends_with_it(play: Start) -> None:
    running = begin_inside(play(SOURCE).claim("w"), "a")

    ended = running.end("w", State.FAILED)

    assert ended.states == ["w FAILED", "a FAILED", "e SUCCESS", "f SUCCESS"]


def test_a_job_that_comes_back_keeps_its_claim_apart(play: Start) -> None:
    running = play(SOURCE).claim("w").lose("w").advance()

    assert running.states == ["w SUBMITTED"]
    assert replace(running.claim("w").run("w"), histories=()).epoch == 2
