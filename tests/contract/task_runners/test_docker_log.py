"""The log of a container whose connection was lost: with the worker that held it, or while it runs on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from task_runners.base import FailureReason, JobHandle, Phase
from task_runners.docker import Docker
from tests.servers.line import line_to

if TYPE_CHECKING:
    from tests.contract.task_runners.conftest import Bench


def _left(bench: Bench, script: str) -> JobHandle:
    """Start a container and forget it, as a worker does that is killed."""
    handle = bench.runner.submit(bench.spec("sh", "-c", script), bench.workdir, bench.context())
    assert isinstance(bench.runner, Docker)
    bench.runner._jobs.pop(handle.id).detach()
    bench.runner.close()
    return handle


def test_long_lines_and_carriage_returns_of_a_container_found_again_are_whole(docker_bench: Bench) -> None:
    marker = "::" + json.dumps({"outputs": {"large": "y" * 40_000}}) + "::"
    script = (
        "printf '10%%\\r20%% done\\n'; head -c 40000 /dev/zero | tr '\\0' x; echo; "
        """printf '::{"outputs": {"large": "'; head -c 40000 /dev/zero | tr '\\0' y; echo '"}}::'"""
    )
    handle = _left(docker_bench, script)

    result = docker_bench.runner.run(
        docker_bench.spec("true"), docker_bench.workdir, docker_bench.context(stored_handle=handle)
    )

    assert docker_bench.texts() == ["10%\r20% done", "x" * 40_000, marker]
    assert result.vars == {"large": "y" * 40_000}


def test_a_container_found_again_and_removed_by_somebody_else_is_lost(docker_bench: Bench, daemon: Any) -> None:
    handle = _left(docker_bench, "echo begun; sleep 60")

    def on_line(_line: object) -> None:
        daemon.remove_container(handle.id, force=True)

    ctx = docker_bench.context(stored_handle=handle, on_line=on_line)
    result = docker_bench.runner.run(docker_bench.spec("true"), docker_bench.workdir, ctx)

    assert (result.status, result.failure_reason) == (Phase.LOST, FailureReason.LOST)


def test_a_container_whose_connection_is_cut_is_told_line_by_line(docker_bench: Bench, docker_host: str) -> None:
    if not docker_host.startswith("unix://"):
        pytest.fail("the daemon of the tests listens on a socket of this machine")
    with line_to(docker_host.removeprefix("unix://")) as line:
        docker_bench.environment["DOCKER_HOST"] = line.address

        def on_line(found: Any) -> None:
            docker_bench.lines.append(found)
            if found.text == "begun":
                line.cut()

        spec = docker_bench.spec("sh", "-c", "printf 'begun\\nha'; sleep 3; echo lf; for i in 1 2 3; do echo $i; done")
        result = docker_bench.runner.run(spec, docker_bench.workdir, docker_bench.context(on_line=on_line))
        docker_bench.runner.close()
        docker_bench.environment["DOCKER_HOST"] = docker_host

    assert docker_bench.texts() == ["begun", "half", "1", "2", "3"]
    assert (result.status, result.exit_code, result.stdout_lines) == (Phase.SUCCEEDED, 0, 5)
