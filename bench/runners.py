"""What runners add: Docker to `docker run`, Process to `subprocess`, remote tasks to their server while they wait."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from bench.server import Server
from bench.small import runner, seconds
from tests.servers.kubernetes.server import KubernetesServer
from tests.servers.locks import only_one

IMAGE = "mainstem-test/busybox:1"
ROUNDS = 25
WAITING = 200
WARM = 20
DOCKER_HOST = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
_REST_S = 3.0
_LONGEST_S = 120.0
_FLOWS = {
    # No node has the label: the pods wait, as they do in a full cluster.
    "far.yaml": f"""\
id: far
namespace: bench
tasks:
  - id: body
    type: scripts.shell.Commands
    containerImage: {IMAGE}
    taskRunner: {{type: kubernetes, nodeSelector: {{gpu: "yes"}}, waitUntilRunning: PT1H}}
    commands: ["echo hi"]
""",
    "near.yaml": """\
id: near
namespace: bench
tasks:
  - id: body
    type: scripts.shell.Commands
    taskRunner: {type: process}
    commands: ["echo hi"]
""",
}


def run(*, quick: bool = False) -> dict[str, Any]:
    """Milliseconds of one body at each local runner, and MB and threads of a server for remote tasks that wait.

    Needs a Docker daemon with the image of the tests, which any test of `tests/contract/task_runners` makes.
    """
    process = runner()
    return {
        "bench": "runners",
        "process_added_p50_ms": process["added_p50_ms"],
        **_docker(ROUNDS // 5 if quick else ROUNDS),
        **_waiting(WAITING // 10 if quick else WAITING),
    }


def _docker(rounds: int) -> dict[str, Any]:
    """Run the same body by both ways in turns, so that both meet the same machine."""
    from task_runners.base import RunnerContext, TaskSpec, WorkDir
    from task_runners.docker import Docker

    docker = Docker(network_mode="none")
    numbers = iter(range(10_000))

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            spec = TaskSpec(("sh", "-c", "echo hi"), f"bench-{os.getpid()}-{next(numbers)}", 1, image=IMAGE)
            result = docker.run(
                spec,
                WorkDir(Path(folder)),
                RunnerContext(on_line=lambda _line: None, environment={"DOCKER_HOST": DOCKER_HOST}),
            )
            assert result.exit_code == 0, result.message

    def bare() -> None:
        command = [
            "docker",
            "-H",
            DOCKER_HOST,
            "run",
            "--rm",
            "--init",
            "--network",
            "none",
            IMAGE,
            "sh",
            "-c",
            "echo hi",
        ]
        subprocess.run(command, check=True, capture_output=True)

    with only_one("docker"):  # tests remove what is not theirs
        taken = [(seconds(bare), seconds(ours)) for _ in range(rounds + 1)][1:]
    docker.close()
    bare_s, ours_s = (statistics.median(column) for column in zip(*taken, strict=True))
    return {
        "docker_run_p50_ms": round(bare_s * 1e3, 1),
        "docker_p50_ms": round(ours_s * 1e3, 1),
        "docker_ratio": round(ours_s / bare_s, 2),
    }


def _waiting(count: int) -> dict[str, Any]:
    """Have pods wait, and look what that costs their server beyond what the first of them cost."""
    with _cluster() as cluster, Server(_settings(cluster)) as server, server.client() as client:
        server.push(_FLOWS)
        _start(client, "near", wait="true")
        _add_waiting(client, cluster, WARM)
        before = server.resident_mb(), _threads(server)
        _add_waiting(client, cluster, count)
        after = server.resident_mb(), _threads(server)
        beside = _start(client, "near", wait="true")
    return {
        "waiting_tasks": count,
        "waiting_added_mb": round(after[0] - before[0], 1),
        "waiting_added_threads": after[1] - before[1],
        "beside_state": beside["state"]["current"],
        "beside_ms": round(float(beside["state"]["duration"].removeprefix("PT").removesuffix("S")) * 1e3),
    }


@contextlib.contextmanager
def _cluster() -> Iterator[KubernetesServer]:
    cluster = KubernetesServer(DOCKER_HOST).start()
    try:
        yield cluster
    finally:
        cluster.stop()


def _settings(cluster: KubernetesServer) -> dict[str, str]:
    """Return those of a server with fewer threads for tasks than tasks wait."""
    config = cluster.kubeconfig(cluster.node.folder.with_suffix(".kubeconfig"))
    return {"KUBECONFIG": str(config), "MAINSTEM_WORKERS": "4"}


def _start(client: httpx.Client, flow_id: str, **parameters: str) -> dict[str, Any]:
    answer = client.post(f"/executions/bench/{flow_id}", params=parameters)
    answer.raise_for_status()
    execution: dict[str, Any] = answer.json()
    return execution


def _add_waiting(client: httpx.Client, cluster: KubernetesServer, count: int) -> None:
    """Return when so many pods more wait and the server has come to rest."""
    wanted = len(cluster.pods()) + count
    for _ in range(count):
        _start(client, "far")
    deadline = time.monotonic() + _LONGEST_S
    while len(cluster.pods()) < wanted:
        if time.monotonic() > deadline:
            raise SystemExit(f"{len(cluster.pods())} of {wanted} pods after {_LONGEST_S:g} s")
        time.sleep(0.1)
    time.sleep(_REST_S)


def _threads(server: Server) -> int:
    """Return how many threads the server and all its descendants have."""
    return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in server.processes())
