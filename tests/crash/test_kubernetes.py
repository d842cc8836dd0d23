"""Tasks in pods: workers and servers are killed while they run, and no pod is lost, started twice or cut in its log."""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from pathlib import Path

import pytest

from tests.contract.task_runners.conftest import IMAGE, docker_host, kubernetes  # noqa: F401 - fixtures
from tests.crash.onlookers import Follower, body_lines
from tests.servers.api import Api
from tests.servers.deployment import Deployment
from tests.servers.embedded import Server
from tests.servers.kubernetes.server import KubernetesServer
from tests.servers.outcome import assert_all_succeeded
from tests.servers.program import wait_until

LINES = 25
FLOW = f"""\
id: pods
namespace: crash
tasks:
  - id: body
    type: scripts.shell.Commands
    containerImage: {IMAGE}
    taskRunner:
      type: kubernetes
      pullPolicy: IF_NOT_PRESENT
      fileSidecar: {{image: {IMAGE}}}
    inputFiles:
      in.txt: travelled
    outputFiles: [out.txt]
    commands:
      - for i in $(seq 1 {LINES}); do echo "line $i"; sleep 0.4; done
      - cat in.txt > out.txt
"""


def wait_for_bodies(api: Api, kubernetes: KubernetesServer, accepted: list[str]) -> None:  # noqa: F811 - the fixture
    """Return when each body has spoken, and see that none has ended yet."""
    wait_until(lambda: all(len(body_lines(api, each)) > 2 for each in accepted), "a body that speaks in each pod", 200)
    mains = [pod["status"]["containerStatuses"][0] for pod in kubernetes.pods()]
    assert ["running" in main["state"] for main in mains] == [True] * len(accepted)  # the kill has to bite


def assert_each_ran_once(api: Api, kubernetes: KubernetesServer, accepted: list[str], before: int) -> None:  # noqa: F811 - a fixture
    """See that each body had one pod, that its log is whole, and that its file came back."""
    made = [line for line in kubernetes.gate.requests[before:] if line.startswith("POST") and "/pods?" in line]
    logs = {each: body_lines(api, each) for each in accepted}
    outputs = [api.get(f"/executions/{each}")["taskRunList"][0]["outputs"]["outputFiles"] for each in accepted]
    assert len(made) == len(accepted)
    assert logs == {each: [f"line {number}" for number in range(1, LINES + 1)] for each in accepted}
    assert [list(files) for files in outputs] == [["out.txt"]] * len(accepted)
    wait_until(lambda: kubernetes.pods() == [], "the removal of all pods", 30)


@pytest.mark.timeout(300)
def test_no_pod_is_lost_when_the_server_is_killed(
    make_server: Callable[..., Server],
    kubernetes: KubernetesServer,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    server = make_server(KUBECONFIG=str(kubernetes.kubeconfig(tmp_path / "kubeconfig"))).start()
    server.api.deploy(FLOW)
    before = len(kubernetes.gate.requests)
    accepted = server.api.execute(repeat("pods", 6))
    wait_for_bodies(server.api, kubernetes, accepted)

    server.kill()
    server.start()
    follower = Follower(server.api, accepted[0])
    server.wait_for_end(6, 120)

    assert_each_ran_once(server.api, kubernetes, accepted, before)
    assert follower.count() == LINES
    assert server.stop() == 0
    assert_all_succeeded(server.open_store(), accepted)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_pod_of_fifty_is_lost_when_all_workers_and_a_server_are_killed(
    deployment: Deployment,
    activate: Callable[..., None],
    kubernetes: KubernetesServer,  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    config = str(kubernetes.kubeconfig(tmp_path / "kubeconfig"))
    killed = ("serve-1", "worker-1", "worker-2")
    activate(FLOW.replace("sleep 0.4", "sleep 4"))
    deployment.start(*killed, "serve-2", KUBECONFIG=config)
    before = len(kubernetes.gate.requests)
    api = deployment.api_of("serve-2")
    accepted = deployment.api_of("serve-1").execute(repeat("pods", 50))
    follower = Follower(api, accepted[0])
    wait_for_bodies(api, kubernetes, accepted)

    for name in killed:
        deployment[name].kill()
    deployment.start(*killed, KUBECONFIG=config)
    deployment.wait_for_end(50, 600)

    assert_each_ran_once(api, kubernetes, accepted, before)
    assert follower.count() == LINES
    assert set(deployment.stop().values()) == {0}
    assert_all_succeeded(deployment.open_store(), accepted)
