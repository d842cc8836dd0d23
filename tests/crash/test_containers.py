"""Tasks in containers of Docker and in jobs of AWS Batch: killed workers and servers lose none and start none twice."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import repeat
from typing import Any, Protocol

import docker
import pytest

from runner.ids import new_id
from task_runners.aws_batch import Batch
from tests.contract.task_runners.conftest import IMAGE, docker_host  # noqa: F401 - a fixture
from tests.crash.onlookers import Follower, body_lines
from tests.servers.api import Api
from tests.servers.aws import Account, account
from tests.servers.deployment import Deployment
from tests.servers.embedded import Server
from tests.servers.locks import only_one
from tests.servers.object_stores import moto_server  # noqa: F401 - a fixture
from tests.servers.outcome import assert_all_succeeded
from tests.servers.program import wait_until

LINES = 25


class Engine(Protocol):
    """Where the bodies of one flow run, and what is known of them there."""

    properties: dict[str, Any]

    def running(self) -> int:
        """Return how many bodies run now."""

    def made(self) -> int:
        """Return how many bodies were ever started."""

    def left(self) -> list[str]:
        """Return what is left of the jobs."""


class Daemon:
    """A Docker daemon. It forgets what happened after 256 events of anybody, so somebody listens from the beginning."""

    def __init__(self, address: str, flow_id: str) -> None:
        self.properties: dict[str, Any] = {"type": "docker", "networkMode": "none"}
        self._labels = {"label": [f"mainstem.io/flow-id={flow_id}"]}
        self._client: Any = docker.APIClient(base_url=address, timeout=60)
        self._events = self._client.events(filters={**self._labels, "event": "start"}, decode=True)
        self._started: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with contextlib.suppress(Exception):  # the stream is cut at the end
            self._started += (event["id"] for event in self._events)

    def running(self) -> int:
        return len(self._client.containers(filters={**self._labels, "status": "running"}))

    def made(self) -> int:
        return len(self._started)

    def left(self) -> list[str]:
        return [each["Id"] for each in self._client.containers(all=True, filters=self._labels)]

    def close(self) -> None:
        self._events.close()
        for container in self.left():
            self._client.remove_container(container, force=True, v=True)
        self._client.close()


class Cloud:
    """A queue of AWS Batch with its bucket. Jobs stay known there when they have ended."""

    def __init__(self, address: str, name: str) -> None:
        self._account: Account = account(address, name)
        runner = Batch(**self._account.properties, completion_check_interval="PT1S", wait_for_logs="PT5S")
        self.properties = runner.model_dump(mode="json", by_alias=True, exclude_defaults=True) | {"type": runner.type}

    def _jobs(self, state: str) -> list[str]:
        batch = self._account.client("batch")
        found = batch.list_jobs(jobQueue=self._account.queue, jobStatus=state)["jobSummaryList"]
        return [job["jobName"] for job in found]

    def running(self) -> int:
        return len(self._jobs("RUNNING"))

    def made(self) -> int:
        return len(self._jobs("SUCCEEDED")) + len(self._jobs("FAILED")) + self.running()

    def left(self) -> list[str]:
        batch = self._account.client("batch")
        definitions = batch.describe_job_definitions(status="ACTIVE")["jobDefinitions"]
        of_jobs = {each["jobDefinitionName"] for each in definitions} & self._names()
        files = self._account.client("s3").list_objects_v2(Bucket=self._account.bucket).get("Contents", [])
        return [*of_jobs, *(file["Key"] for file in files)]

    def _names(self) -> set[str]:
        return {name for state in ("SUCCEEDED", "FAILED", "RUNNING") for name in self._jobs(state)}


@pytest.fixture
def flow_id() -> str:
    return f"bodies-{new_id()[-12:].lower()}"


@pytest.fixture(params=["docker", "aws"])
def engine(request: pytest.FixtureRequest, docker_host: str, flow_id: str) -> Iterator[Engine]:  # noqa: F811 - a fixture
    if request.param == "aws":
        yield Cloud(request.getfixturevalue("moto_server"), flow_id)
        return
    with only_one("docker"), closing(Daemon(docker_host, flow_id)) as daemon:  # others remove what is not theirs
        yield daemon


def flow_at(engine: Engine, flow_id: str, pause: str) -> str:
    """Return a flow whose body says its lines with a pause after each."""
    task = {
        "id": "body",
        "type": "scripts.shell.Commands",
        "containerImage": IMAGE,
        "taskRunner": engine.properties,
        "inputFiles": {"in.txt": "travelled"},
        "outputFiles": ["out.txt"],
        "commands": [
            f'for i in $(seq 1 {LINES}); do echo "line $i"; sleep {pause}; done',
            "cat in.txt > out.txt",
        ],
    }
    return json.dumps({"id": flow_id, "namespace": "crash", "tasks": [task]})


def assert_each_ran_once(api: Api, engine: Engine, accepted: list[str]) -> None:
    """See that each body ran once, that its log is whole, that its file came back, and that nothing is left of it."""
    whole = [f"line {number}" for number in range(1, LINES + 1)]
    logs = {each: body_lines(api, each) for each in accepted}
    runs = [api.get(f"/executions/{each}")["taskRunList"][0] for each in accepted]
    assert engine.made() == len(accepted)
    assert {each: lines for each, lines in logs.items() if lines != whole} == {}
    assert [list(run["outputs"]["outputFiles"]) for run in runs] == [["out.txt"]] * len(accepted)
    assert [len(run["attempts"]) for run in runs] == [1] * len(accepted)
    wait_until(lambda: engine.left() == [], "the removal of all jobs", 30)


@pytest.mark.timeout(300)
def test_no_body_is_lost_when_the_server_is_killed(
    make_server: Callable[..., Server], engine: Engine, flow_id: str
) -> None:
    count = 3
    server = make_server().start()
    server.api.deploy(flow_at(engine, flow_id, "0.4"))
    accepted = server.api.execute(repeat(flow_id, count))
    wait_until(lambda: engine.running() == count, "a body that runs of each", 60)

    server.kill()
    running = engine.running()
    server.start()
    follower = Follower(server.api, accepted[0])
    server.wait_for_end(count, 120)

    assert running == count  # the kill has to bite
    assert_each_ran_once(server.api, engine, accepted)
    assert follower.count() == LINES
    assert server.stop() == 0
    assert_all_succeeded(server.open_store(), accepted)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_body_of_many_is_lost_when_all_workers_and_a_server_are_killed(
    deployment: Deployment, activate: Callable[..., None], engine: Engine, flow_id: str
) -> None:
    count = 50
    killed = ("serve-1", "worker-1", "worker-2")
    activate(flow_at(engine, flow_id, "4"))
    deployment.start(*killed, "serve-2", MAINSTEM_WORKERS="32")
    api = deployment.api_of("serve-2")
    accepted = deployment.api_of("serve-1").execute(repeat(flow_id, count))
    follower = Follower(api, accepted[0])
    wait_until(lambda: engine.running() == count, "a body that runs of each", 200)

    for name in killed:
        deployment[name].kill()
    running = engine.running()
    deployment.start(*killed, MAINSTEM_WORKERS="32")
    deployment.wait_for_end(count, 600)

    assert running == count
    assert_each_ran_once(api, engine, accepted)
    assert follower.count() == LINES
    assert set(deployment.stop().values()) == {0}
    assert_all_succeeded(deployment.open_store(), accepted)
