"""kill -9 of the server at each stage of a task on each task runner: the task ends, its log is whole, nothing stays."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest

from runner.ids import new_id
from task_runners.aws_batch import Batch
from tests.contract.task_runners.conftest import IMAGE, docker_host, image_of, kubernetes  # noqa: F401 - fixtures
from tests.crash.points import RUNNERS
from tests.servers.aws import Account, account
from tests.servers.embedded import Server
from tests.servers.kubernetes.server import KubernetesServer
from tests.servers.locks import only_one
from tests.servers.object_stores import moto_server  # noqa: F401 - a fixture
from tests.servers.program import processes_with, wait_until
from tests.servers.registry import holding_back

WHOLE = ["line 1", "line 2", "line 3"]
ONCE = frozenset(
    {
        *("process.recorded", "docker.begun", "docker.ended", "docker.collected", "docker.recorded", "docker.cleaned"),
        *("kubernetes.pod.made", "kubernetes.brought", "kubernetes.ended", "kubernetes.collected"),
        *("kubernetes.recorded", "kubernetes.secret.deleted", "kubernetes.cleaned"),
        *("aws.begun", "aws.ended", "aws.collected", "aws.recorded", "aws.discarded"),
    }
)
"""The points from which on a job is followed further, or was recorded: its body must not run a second time."""

OFTEN = (
    *("process.begun", "process.recorded", "docker.staged", "docker.begun", "docker.recorded"),
    *("kubernetes.secret.made", "kubernetes.pod.made", "kubernetes.secret.deleted"),
    *("aws.queue.made", "aws.begun", "aws.recorded"),
)
RARELY = [pytest.mark.slow, pytest.mark.long]

# The server kills itself where it is told, and looks soon and often for what nobody owns.
CODE = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
import runner.runtime
from tests.crash.points import kill_when_told
runner.runtime.JANITOR_FIRST_S = runner.runtime.JANITOR_S = 0.5
kill_when_told(Path({order!r}), {prefix!r})
"""


@dataclass
class Stand:
    """A server whose tasks run on one task runner, and what is there of them besides."""

    name: str
    server: Server
    properties: dict[str, Any]
    left_there: Callable[[str], list[str]]
    image: str | None = IMAGE
    flow_id: str = field(default_factory=lambda: f"stages-{new_id()[-12:].lower()}")

    def start(self) -> None:
        code = CODE.format(root=str(Path(__file__).parents[2]), order=str(self.order), prefix=self.name)
        self.server.start(code=code)

    @property
    def order(self) -> Path:
        return self.server.folder / "kill-at"

    def deploy(self, flow_id: str, **more: Any) -> None:
        task = {
            "id": "body",
            "type": "scripts.shell.Commands",
            "taskRunner": self.properties,
            "inputFiles": {"in.txt": "travelled"},
            "outputFiles": ["out.txt"],
            "commands": ["echo line 1; echo line 2", "cat in.txt > out.txt; echo line 3"],
            **({"containerImage": self.image} if self.image else {}),
            **more,
        }
        self.server.api.deploy(json.dumps({"id": flow_id, "namespace": "crash", "tasks": [task]}))

    def killed_at(self, point: str, flow_id: str) -> Any:
        """Start an execution, have the server killed at `point`, start it anew and return the execution's end."""
        self.order.write_text(point)
        (execution_id,) = self.server.api.execute([flow_id])
        wait_until(lambda: self.server.process.poll() is not None, f"the server comes to {point}", 60)
        self.start()
        return self.ended(execution_id)

    def ended(self, execution_id: str) -> Any:
        def ended() -> Any:
            found = self.server.api.get(f"/executions/{execution_id}")
            return found if found["state"]["current"] in {"SUCCESS", "FAILED", "KILLED", "WARNING"} else None

        return wait_until(ended, "the end of the execution", 60)

    def lines(self, execution: Any) -> dict[int, list[str]]:
        """Return the lines of the body by attempt."""
        found: dict[int, list[str]] = defaultdict(list)
        for entry in self.server.api.get(f"/logs/{execution['id']}"):
            if entry["message"].startswith("line "):
                found[entry["attemptNumber"]].append(entry["message"])
        return found

    def told(self, execution: Any) -> str:
        """Return what somebody has to see who looks for the reason of a failure."""
        entries = self.server.api.get(f"/logs/{execution['id']}")
        return "\n".join([*(f"{entry['attemptNumber']} {entry['message']}" for entry in entries), self.server.log])

    def left(self) -> list[str]:
        """Return what is left of tasks: here, in the storage, and where they ran."""
        here = [str(path) for path in self.server.work.rglob("*")]
        archives = [str(path) for path in self.server.home.rglob("*.tar")]
        return [*here, *archives, *self.left_there(self.flow_id)]

    def see_nothing_left(self) -> None:
        left = self.left()
        deadline = time.monotonic() + 20
        while left and time.monotonic() < deadline:
            time.sleep(0.1)
            left = self.left()
        assert left == []


@pytest.fixture(autouse=True)
def alone_at_the_engine() -> Iterator[None]:
    """Keep others away meanwhile: they look for all that is ours at the engine, and remove it."""
    with only_one("docker"):
        yield


@pytest.fixture(scope="module")
def place() -> Iterator[Callable[[str], Path]]:
    """Give folders that bodies of another user may pass through; pytest's own are closed to them."""
    with tempfile.TemporaryDirectory(prefix="mainstem-stages-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)

        def make(name: str) -> Path:
            folder = Path(directory) / name
            folder.mkdir(mode=0o755)
            return folder

        yield make


@pytest.fixture(scope="module")
def process_stand(place: Callable[[str], Path]) -> Iterator[Stand]:
    server = Server(place("process"))
    runner = {"type": "process"}
    yield from running(Stand("process", server, runner, lambda _: _bodies(server), image=None))


def _bodies(server: Server) -> list[str]:
    return [command for command in processes_with(str(server.work)).values() if " up --port" not in command]


@pytest.fixture(scope="module")
def docker_stand(place: Callable[[str], Path], docker_host: str) -> Iterator[Stand]:  # noqa: F811 - a fixture
    server = Server(place("docker"), DOCKER_HOST=docker_host)
    yield from _docker_stand(server, docker_host, {})


@pytest.fixture
def distant_stand(place: Callable[[str], Path], docker_host: str) -> Iterator[Stand]:  # noqa: F811 - a fixture
    """Give a server that only a property of its flows leads to a daemon."""
    folder = place("distant")
    rules = json.dumps([{"dockerHosts": [docker_host]}])
    server = Server(folder, DOCKER_HOST=f"unix://{folder}/nobody.sock", MAINSTEM_RUNNER_POLICIES=rules)
    yield from _docker_stand(server, docker_host, {"host": docker_host})


def _docker_stand(server: Server, address: str, more: dict[str, Any]) -> Iterator[Stand]:
    client: Any = docker.APIClient(base_url=address, timeout=60)

    def left(flow_id: str) -> list[str]:
        found = client.containers(all=True, filters={"label": ["mainstem.io/flow-id"]})
        return [each["Id"] for each in found if each["Labels"]["mainstem.io/flow-id"].startswith(flow_id)]

    with closing(client):
        yield from running(Stand("docker", server, {"type": "docker", "networkMode": "none", **more}, left))


@pytest.fixture(scope="module")
def kubernetes_stand(
    place: Callable[[str], Path],
    kubernetes: KubernetesServer,  # noqa: F811 - the fixture
) -> Iterator[Stand]:
    def left(_: str) -> list[str]:
        kinds = ("pods", "secrets")
        return [
            f"{kind}/{each['metadata']['name']}" for kind in kinds for each in kubernetes.objects.list(kind, None)[1]
        ]

    folder = place("kubernetes")
    server = Server(folder, KUBECONFIG=str(kubernetes.kubeconfig(folder / "kubeconfig")))
    runner = {
        "type": "kubernetes",
        "pullPolicy": "IF_NOT_PRESENT",
        "fileSidecar": {"image": IMAGE},
        "credentials": {"username": "u", "password": "p"},
    }
    yield from running(Stand("kubernetes", server, runner, left))


@pytest.fixture(scope="module")
def aws_stand(place: Callable[[str], Path], moto_server: str, docker_host: str) -> Iterator[Stand]:  # noqa: F811 - a fixture
    there = account(moto_server, f"stages-{new_id()[-12:].lower()}")
    given = {key: value for key, value in there.properties.items() if key != "job_queue_arn"}
    runner = Batch(**given, completion_check_interval="PT0.3S", wait_for_logs="PT5S")
    properties = runner.model_dump(mode="json", by_alias=True, exclude_defaults=True) | {"type": runner.type}
    yield from running(Stand("aws", Server(place("aws")), properties, lambda _: _left_at_aws(there)))


def _left_at_aws(there: Account) -> list[str]:
    batch = there.client("batch")
    definitions = batch.describe_job_definitions(status="ACTIVE")["jobDefinitions"]
    queues = [each["jobQueueName"] for each in batch.describe_job_queues()["jobQueues"]]
    files = there.client("s3").list_objects_v2(Bucket=there.bucket).get("Contents", [])
    return [
        *(name for each in definitions if "stages" in (name := each["jobDefinitionName"])),
        *(name for name in queues if name != there.bucket and "stages" in name),
        *(file["Key"] for file in files),
    ]


def running(stand: Stand) -> Iterator[Stand]:
    stand.start()
    stand.deploy(stand.flow_id)
    yield stand
    stand.server.end()


@pytest.fixture
def stand_of(request: pytest.FixtureRequest) -> Callable[[str], Stand]:
    def give(point: str) -> Stand:
        found: Stand = request.getfixturevalue(f"{point.partition('.')[0]}_stand")
        if found.server.process.poll() is not None:
            found.start()  # a test before failed
        return found

    return give


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "point", [*OFTEN, *(pytest.param(each, marks=RARELY) for each in RUNNERS if each not in OFTEN)]
)
def test_a_task_whose_server_is_killed_on_its_way_ends_and_leaves_nothing(
    stand_of: Callable[[str], Stand], point: str
) -> None:
    stand = stand_of(point)

    execution = stand.killed_at(point, stand.flow_id)

    (run,) = execution["taskRunList"]
    last = len(run["attempts"])
    lines = stand.lines(execution)
    assert (run["state"]["current"], last) == ("SUCCESS", 1 if point in ONCE else 2), stand.told(execution)
    assert lines[last] == WHOLE
    assert [WHOLE[: len(earlier)] for earlier in lines.values()] == list(lines.values())
    assert list(run["outputs"]["outputFiles"]) == ["out.txt"]
    stand.see_nothing_left()


@pytest.mark.timeout(180)
def test_a_server_that_is_killed_while_an_image_is_fetched_has_it_fetched_again(docker_stand: Stand) -> None:
    stand, flow_id = docker_stand, f"{docker_stand.flow_id}-pull"
    busybox = shutil.which("busybox")
    assert busybox is not None  # the test image was made of it
    with holding_back(image_of(Path(busybox), flow_id)) as registry:
        stand.deploy(flow_id, containerImage=registry.image)
        (execution_id,) = stand.server.api.execute([flow_id])
        wait_until(lambda: registry.pulls, "the pull")

        stand.server.kill()
        stand.start()
        wait_until(lambda: registry.pulls > 1, "the second pull")
        registry.gate.set()
        execution = stand.ended(execution_id)

    (run,) = execution["taskRunList"]
    assert (run["state"]["current"], len(run["attempts"])) == ("SUCCESS", 2)
    assert stand.lines(execution) == {2: WHOLE}
    stand.see_nothing_left()


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "point", ["docker.begun", *(pytest.param(each, marks=RARELY) for each in ("process.begun", "kubernetes.pod.made"))]
)
def test_a_task_that_must_not_begin_twice_fails_and_leaves_nothing(
    stand_of: Callable[[str], Stand], point: str
) -> None:
    stand = stand_of(point)
    flow_id = f"{stand.flow_id}-once"
    stand.deploy(flow_id, onWorkerLoss="FAIL", commands=["echo line 1; sleep 60"])

    execution = stand.killed_at(point, flow_id)

    (run,) = execution["taskRunList"]
    assert (execution["state"]["current"], run["state"]["current"]) == ("FAILED", "FAILED")
    assert sum(len(lines) for lines in stand.lines(execution).values()) <= 1
    stand.see_nothing_left()


@pytest.mark.timeout(180)
def test_what_a_killed_server_left_at_an_engine_that_only_a_property_names_is_removed(distant_stand: Stand) -> None:
    stand, flow_id = distant_stand, f"{distant_stand.flow_id}-once"
    stand.deploy(flow_id, onWorkerLoss="FAIL", commands=["echo line 1; sleep 60"])

    execution = stand.killed_at("docker.begun", flow_id)

    assert execution["state"]["current"] == "FAILED"
    stand.see_nothing_left()
