"""The places a contract test runs in, and the one way it runs something there."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest

from runner.ids import new_id
from task_runners.aws_batch import Batch
from task_runners.azure_batch import Batch as AzureBatch
from task_runners.base import (
    JobHandle,
    LogLine,
    RunnerContext,
    TaskResult,
    TaskRunner,
    TaskRunnerError,
    TaskSpec,
    WorkDir,
)
from task_runners.cloud import forget
from task_runners.cloud_run import CloudRun
from task_runners.docker import Docker
from task_runners.google_batch import Batch as GoogleBatch
from task_runners.kubernetes.cluster import forget_clusters
from task_runners.kubernetes.runner import Kubernetes
from task_runners.process import Process
from task_runners.staging.folder import FolderStage
from task_runners.staging.port import NoStage
from task_runners.supervisor import Supervisor
from tests.servers.aws import Account, account
from tests.servers.clouds.azure import ACCOUNT, KEY, Azure
from tests.servers.clouds.google import Google
from tests.servers.kubernetes.server import KubernetesServer
from tests.servers.locks import only_one
from tests.servers.object_stores import azurite_server, gcs_server, make_bucket, moto_server, options_for
from tests.servers.program import wait_until
from tests.servers.stand_in import serving

IMAGE = "mainstem-test/busybox:1"
KUBERNETES = {"pullPolicy": "IF_NOT_PRESENT", "fileSidecar": {"image": IMAGE}}

CLOUDS = ("aws", "google_batch", "cloud_run", "azure")
QUICK: dict[str, Any] = {"completion_check_interval": "PT0.3S", "wait_for_logs": "PT2S"}


@dataclass
class Bench:
    """One task runner, one working directory, and what came out of it."""

    runner: TaskRunner
    workdir: WorkDir
    environment: dict[str, str]
    lines: list[LogLine] = field(default_factory=list)
    handles: list[JobHandle] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)
    stage: Any = field(default_factory=NoStage)
    is_moto: bool = False
    """Moto gives a log at the end only, slowly, with stamps inside long lines, and forgets codes of killed jobs."""

    def context(self, **options: Any) -> RunnerContext:
        options = {"on_line": self.lines.append, "save_handle": self.handles.append, "stage": self.stage} | options
        return RunnerContext(cancelled=self.cancelled, environment=self.environment, **options)

    def spec(self, *command: str, **options: Any) -> TaskSpec:
        return TaskSpec(command=command, task_run_id=f"run-{self.workdir.path.name}", image=IMAGE, **options)

    def run(self, script: str, **options: Any) -> TaskResult:
        return self.runner.run(self.spec("sh", "-c", script, **options), self.workdir, self.context())

    def texts(self, stream: str | None = None) -> list[str]:
        return [line.text for line in self.lines if stream in {None, line.stream}]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let tests wait for the engine of containers, which one that uses all task runners may have for minutes."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent) and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(400))


@pytest.fixture(scope="session")
def supervisor() -> Iterator[Supervisor]:
    with Supervisor() as running:
        yield running


@pytest.fixture(scope="session")
def docker_host(optional: Callable[[str, str], NoReturn]) -> str:
    """Give the address of a daemon that has the test image: DOCKER_HOST, or the usual socket."""
    import docker
    import docker.errors

    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    busybox = shutil.which("busybox")
    runner = Docker(host=host)
    try:
        list(runner.list_owned(RunnerContext(on_line=print)))
    except TaskRunnerError as error:
        optional("docker", error.message)
    finally:
        runner.close()
    client: Any = docker.APIClient(base_url=host, timeout=30)  # the stubs of docker cover a part of it only
    try:
        client.inspect_image(IMAGE)
    except docker.errors.ImageNotFound:
        if busybox is None:
            optional("docker", "the test image is made of busybox, which is not on PATH (package busybox-static)")
        client.import_image_from_data(
            image_of(Path(busybox)), repository=IMAGE.removesuffix(":1"), tag="1", changes=["ENV PATH=/bin"]
        )
    finally:
        client.close()
    return host


def image_of(busybox: Path, mark: str = "") -> bytes:
    """Return a root directory of one program and its names; with another `mark` it is another one."""
    names = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for directory, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("root", 0o700)):
            member = tarfile.TarInfo(directory)
            member.type, member.mode = tarfile.DIRTYPE, mode
            archive.addfile(member)
        program = tarfile.TarInfo("bin/busybox")
        program.size, program.mode = busybox.stat().st_size, 0o755
        with busybox.open("rb") as file:
            archive.addfile(program, file)
        for name in names:
            if name != "busybox" and "/" not in name:
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                archive.addfile(link)
        for name, text in (("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n"), ("etc/mark", mark.encode())):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    return content.getvalue()


@pytest.fixture
def workdir() -> Iterator[WorkDir]:
    # Not `tmp_path`: its parents are closed to other users, and bodies may run as one.
    with tempfile.TemporaryDirectory(prefix="contract-") as directory:
        # Named by us: a random name may end with a sign that no job of a cloud can have at the end of its name.
        path = Path(directory) / new_id().lower()
        path.mkdir()
        Path(directory).chmod(0o711)
        yield WorkDir(path)


@pytest.fixture
def process_bench(supervisor: Supervisor, workdir: WorkDir) -> Bench:
    return Bench(Process().under(supervisor), workdir, {"PATH": os.environ["PATH"]})


@pytest.fixture
def docker_bench(docker_host: str, workdir: WorkDir) -> Iterator[Bench]:
    runner = Docker(network_mode="none")
    bench = Bench(runner, workdir, {"DOCKER_HOST": docker_host})
    with only_one("docker"):  # what a test leaves behind is all that the engine has of ours
        yield bench
        for handle in list(runner.list_owned(bench.context())):
            runner.cleanup(handle, bench.context())
    runner.close()


@pytest.fixture
def daemon(docker_host: str) -> Iterator[Any]:
    """Give a client of the daemon's API that is not the task runner's."""
    import docker

    client = docker.APIClient(base_url=docker_host)
    yield client
    client.close()


@pytest.fixture(scope="session")
def kubernetes(docker_host: str, optional: Callable[[str, str], NoReturn]) -> Iterator[KubernetesServer]:
    """Give a Kubernetes server that runs for all tests."""
    if importlib.util.find_spec("lightkube") is None:
        optional("kubernetes", "lightkube is not installed")
    server = KubernetesServer(docker_host).start()
    yield server
    forget_clusters()
    server.stop()


@pytest.fixture
def kubernetes_bench(kubernetes: KubernetesServer, workdir: WorkDir, tmp_path: Path) -> Iterator[Bench]:
    runner = Kubernetes.model_validate(KUBERNETES)
    environment = {"KUBECONFIG": str(kubernetes.kubeconfig(tmp_path / "kubeconfig"))}
    bench = Bench(runner, workdir, environment, stage=FolderStage(tmp_path))
    # A pod of the test before that is still within its grace would be met as this test's own.
    wait_until(lambda: kubernetes.pods() == [], "the end of the pods of earlier tests", 30)
    yield bench
    for handle in runner.list_owned(bench.context()):
        runner.cleanup(handle, bench.context())
    forget_clusters()


@pytest.fixture(scope="session")
def aws_account(moto_server: str, docker_host: str) -> Account:
    """Give an account of AWS in which jobs can run."""
    return account(moto_server, f"contract-{new_id().lower()}")


@pytest.fixture
def aws_bench(aws_account: Account, workdir: WorkDir) -> Iterator[Bench]:
    yield from cloud_bench(Batch(**aws_account.properties, **QUICK), workdir, is_moto=True)


@pytest.fixture(scope="session")
def google_cloud(docker_host: str) -> Iterator[Google]:
    """Give a project of Google Cloud."""
    cloud = Google(docker_host)
    yield cloud
    for job in (*cloud.jobs.values(), *cloud.runs.values()):
        cloud.machines.remove(job)
    cloud.machines.close()


@pytest.fixture(scope="session")
def google(gcs_server: str, google_cloud: Google) -> Iterator[dict[str, Any]]:
    """Give the properties of a task runner in that project."""
    options = options_for("gs", gcs_server)
    make_bucket("gs", "contract", options)
    with serving(google_cloud.application, "google") as url:
        yield {
            "projectId": "p",
            "region": "r",
            "bucket": "contract",
            "serviceAccount": options["serviceAccount"],
            "endpointOverride": url,
            "loggingEndpointOverride": url,
            "storageEndpointOverride": gcs_server,
            "waitForLogInterval": "PT0.3S",
        }
    forget()


@pytest.fixture
def google_batch_bench(google: dict[str, Any], workdir: WorkDir) -> Iterator[Bench]:
    yield from cloud_bench(GoogleBatch.model_validate({**google, **QUICK}), workdir)


@pytest.fixture
def cloud_run_bench(google: dict[str, Any], workdir: WorkDir) -> Iterator[Bench]:
    yield from cloud_bench(CloudRun.model_validate({**google, **QUICK}), workdir)


@pytest.fixture(scope="session")
def azure_cloud(docker_host: str) -> Iterator[Azure]:
    """Give an account of Azure Batch."""
    cloud = Azure(docker_host)
    yield cloud
    cloud.close()


@pytest.fixture(scope="session")
def azure(azurite_server: str, azure_cloud: Azure) -> Iterator[dict[str, Any]]:
    """Give the properties of a task runner with that account."""
    options = options_for("az", azurite_server)
    make_bucket("az", "contract", options)
    with serving(azure_cloud.application, "azure") as url:
        yield {
            "account": ACCOUNT,
            "accessKey": KEY,
            "endpoint": url,
            "poolId": "pool",
            "blobStorage": {
                "endpoint": options["endpoint"],
                "sharedKeyAccountName": options["account"],
                "sharedKeyAccountAccessKey": options["accountKey"],
                "containerName": "contract",
            },
        }
    forget()


@pytest.fixture
def azure_bench(azure: dict[str, Any], workdir: WorkDir) -> Iterator[Bench]:
    yield from cloud_bench(AzureBatch.model_validate({**azure, **QUICK}), workdir)


def cloud_bench(runner: TaskRunner, workdir: WorkDir, *, is_moto: bool = False) -> Iterator[Bench]:
    """Give a bench of a cloud, and remove what a test leaves there."""
    bench = Bench(runner, workdir, {}, is_moto=is_moto)
    yield bench
    for handle in list(runner.list_owned(bench.context())):
        runner.cleanup(handle, bench.context())
    runner.close()


@pytest.fixture(params=["process", "docker", "kubernetes", *CLOUDS])
def bench(request: pytest.FixtureRequest) -> Bench:
    found: Bench = request.getfixturevalue(f"{request.param}_bench")
    return found


_MATRIX: dict[str, dict[str, str]] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note how a case of the shared suite went at its task runner."""
    _, _, case = report.nodeid.partition("test_task_runners.py::")
    name, bracket, place = case.partition("[")
    if bracket and (report.when == "call" or report.outcome != "passed"):
        _MATRIX.setdefault(name, {})[place.rstrip("]")] = report.outcome


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print which case holds at which task runner."""
    if not _MATRIX:
        return
    marks = {"passed": "+", "failed": "FAIL", "skipped": "-"}
    places = sorted({place for row in _MATRIX.values() for place in row})
    terminalreporter.write_sep("-", "task runners: " + " ".join(places))
    for name, row in sorted(_MATRIX.items()):
        cells = " ".join(marks[row[place]].center(len(place)) if place in row else " " * len(place) for place in places)
        terminalreporter.write_line(f"{cells}  {name.removeprefix('test_').replace('_', ' ')}")
