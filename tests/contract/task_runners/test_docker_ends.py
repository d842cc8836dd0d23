"""Containers that somebody else ends or removes, while a task runner follows them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import docker.errors as docker_errors

from task_runners.base import FailureReason, JobStatus, Phase, TaskRunnerError
from task_runners.docker_end import SETTLING_S, has_ended, status_of
from tests.servers.program import wait_until

if TYPE_CHECKING:
    from tests.contract.task_runners.conftest import Bench

LOST = (Phase.LOST, FailureReason.LOST, "the container was removed by somebody else")


def _told(status: JobStatus) -> tuple[Phase, FailureReason | None, str | None]:
    return status.phase, status.failure_reason, status.message


def _ended(daemon: Any, container: str) -> Mapping[str, Any] | None:
    state: Mapping[str, Any] = daemon.inspect_container(container)
    return state if has_ended(state) else None


def test_a_container_removed_by_somebody_else_is_lost(docker_bench: Bench, daemon: Any) -> None:
    def on_line(_line: object) -> None:
        daemon.remove_container(docker_bench.handles[0].id, force=True)

    spec = docker_bench.spec("sh", "-c", "echo begun; sleep 60")
    result = docker_bench.runner.run(spec, docker_bench.workdir, docker_bench.context(on_line=on_line))

    assert (result.status, result.failure_reason) == (Phase.LOST, FailureReason.LOST)


def test_what_a_daemon_says_in_the_midst_of_a_removal_is_no_end_of_the_body(docker_bench: Bench, daemon: Any) -> None:
    def ends_of_one() -> list[Mapping[str, Any]]:
        """Return how a container looked between its end and its removal; nobody may have looked in that moment."""
        runner, ctx = docker_bench.runner, docker_bench.context()
        handle = runner.submit(docker_bench.spec("sleep", "60"), docker_bench.workdir, ctx)
        seen: list[Mapping[str, Any]] = []

        def look() -> None:
            with suppress(docker_errors.NotFound):
                while True:
                    seen.append(daemon.inspect_container(handle.id))

        looking = threading.Thread(target=look)
        looking.start()
        wait_until(lambda: seen, "the first look")
        runner.cleanup(handle, ctx)
        looking.join()
        return [state for state in seen if has_ended(state)]

    ends = wait_until(ends_of_one, "a look in the midst of a removal")

    assert {state["State"]["ExitCode"] for state in ends} == {137}
    assert {_told(status_of(state, {})) for state in ends} == {LOST}


def test_a_container_that_is_killed_and_then_removed_is_lost(docker_bench: Bench, daemon: Any) -> None:
    runner, ctx = docker_bench.runner, docker_bench.context(clock=lambda: 0.0)
    handle = runner.submit(docker_bench.spec("sleep", "60"), docker_bench.workdir, ctx)
    daemon.kill(handle.id)
    wait_until(lambda: _ended(daemon, handle.id), "the end of the container")

    between = runner.poll(handle, ctx)
    daemon.remove_container(handle.id)
    after = runner.poll(handle, ctx)
    runner.cleanup(handle, ctx)

    assert between.phase is Phase.RUNNING
    assert _told(after) == LOST


def test_a_container_that_is_killed_and_stays_has_failed_by_a_signal(docker_bench: Bench, daemon: Any) -> None:
    now = [0.0]
    runner, ctx = docker_bench.runner, docker_bench.context(clock=lambda: now[0])
    handle = runner.submit(docker_bench.spec("sleep", "60"), docker_bench.workdir, ctx)
    daemon.kill(handle.id)
    wait_until(lambda: _ended(daemon, handle.id), "the end of the container")

    between = runner.poll(handle, ctx)
    now[0] = SETTLING_S
    after = runner.poll(handle, ctx)
    runner.cleanup(handle, ctx)

    assert between.phase is Phase.RUNNING
    assert (after.exit_code, _told(after)) == (
        137,
        (
            Phase.FAILED,
            FailureReason.APP_EXIT,
            "command failed with exit code 137: signal 9, which was not sent from here",
        ),
    )


def test_whoever_removes_a_container_at_the_same_moment_is_in_nobodys_way(docker_bench: Bench, daemon: Any) -> None:
    runner, ctx, faults = docker_bench.runner, docker_bench.context(), []
    handle = runner.submit(docker_bench.spec("sleep", "60"), docker_bench.workdir, ctx)
    together = threading.Barrier(4)

    def clean_up() -> None:
        together.wait()
        try:
            runner.cleanup(handle, ctx)
        except TaskRunnerError as error:
            faults.append(error.message)

    threads = [threading.Thread(target=clean_up) for _ in range(together.parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert faults == []
    wait_until(lambda: not daemon.containers(all=True, filters={"id": handle.id}), "the removal")


def test_a_name_that_a_removal_still_holds_is_waited_for(docker_bench: Bench, daemon: Any) -> None:
    runner, ctx = docker_bench.runner, docker_bench.context()
    spec = docker_bench.spec("sleep", "60")
    handle = runner.submit(spec, docker_bench.workdir, ctx)
    removal = threading.Thread(target=daemon.remove_container, args=[handle.id], kwargs={"force": True})
    removal.start()
    with suppress(docker_errors.NotFound):  # it was quicker than we are
        while not has_ended(daemon.inspect_container(handle.id)):
            pass

    again = runner.submit(spec, docker_bench.workdir, ctx)

    removal.join()
    phase = runner.poll(again, ctx).phase
    runner.cleanup(again, ctx)
    runner.cleanup(handle, ctx)
    assert (phase, again.id != handle.id) == (Phase.RUNNING, True)
