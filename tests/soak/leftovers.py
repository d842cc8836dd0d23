"""What is left of tasks, asked of every system where they ran: never of our own records."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import docker
import httpx

from task_runners.azure_batch import Batch as AzureBatch
from task_runners.spec import RunnerContext
from task_runners.staging.object_store import open_object_store
from tests.contract.task_runners.conftest import IMAGE
from tests.servers.aws import Account
from tests.servers.kubernetes.server import KubernetesServer
from tests.servers.program import processes_with

Look = Callable[[], list[str]]


class Daemon:
    """The Docker daemon on which, in the end, all containers run; those of this soak are of images of their own.

    One of these declares a volume with a file in it that is named by the token: each container gets such a volume.
    """

    def __init__(self, address: str, token: str) -> None:
        self._client: Any = docker.APIClient(base_url=address, timeout=60)
        self._token = token
        self.plain = f"mainstem-test/soak:{token}"
        self.image = f"mainstem-test/soak-volume:{token}"

    def make_images(self) -> None:
        """Make both images out of that of the other tests: the one with a volume out of the one without."""
        marked = f"RUN mkdir /data && touch /data/{self._token}"
        for image, base, more in ((self.plain, IMAGE, marked), (self.image, self.plain, "VOLUME /data")):
            self._build(image, f"FROM {base}\n{more}\n".encode())

    def _build(self, image: str, dockerfile: bytes) -> None:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            member = tarfile.TarInfo("Dockerfile")
            member.size = len(dockerfile)
            archive.addfile(member, io.BytesIO(dockerfile))
        content.seek(0)
        options: dict[str, Any] = {"custom_context": True, "network_mode": "none", "rm": True, "decode": True}
        said = list(self._client.build(fileobj=content, tag=image, **options))
        assert not any("error" in line for line in said), said

    def containers(self) -> list[str]:
        """Return the containers of both images, running or not."""
        found = self._client.containers(all=True, filters={"ancestor": self.plain})
        return [f"{each['Names']} {each['Status']}" for each in found]

    def volumes(self) -> list[str]:
        """Return the volumes that were made for containers."""
        found = self._client.volumes()["Volumes"] or []
        return [each["Name"] for each in found if (Path(each["Mountpoint"]) / self._token).exists()]

    def close(self) -> None:
        """Remove the images."""
        for image in (self.image, self.plain):
            self._client.remove_image(image, force=True)
        self._client.close()


def processes(token: str) -> list[str]:
    """Return the processes that have the token in their environment, those in containers too."""
    return list(processes_with(token).values())


def objects_of(cluster: KubernetesServer) -> list[str]:
    """Return pods, secrets and config maps."""
    kinds = ("pods", "secrets", "configmaps")
    return [f"{kind}/{each['metadata']['name']}" for kind in kinds for each in cluster.objects.list(kind, None)[1]]


def jobs_of_aws(account: Account) -> list[str]:
    """Return jobs that have not ended, job definitions, and queues that are not the operator's."""
    batch = account.client("batch")
    states = ("SUBMITTED", "PENDING", "RUNNABLE", "STARTING", "RUNNING")
    jobs = [batch.list_jobs(jobQueue=account.queue, jobStatus=state)["jobSummaryList"] for state in states]
    definitions = batch.describe_job_definitions(status="ACTIVE")["jobDefinitions"]
    queues = [each["jobQueueArn"] for each in batch.describe_job_queues()["jobQueues"]]
    return [
        *(job["jobName"] for found in jobs for job in found),
        *(each["jobDefinitionName"] for each in definitions if each["jobDefinitionName"].startswith("soak-")),
        *(queue for queue in queues if queue != account.queue),
    ]


def jobs_of_google(properties: Mapping[str, Any]) -> list[str]:
    """Return the jobs of Google Batch and of Cloud Run."""
    url, place = properties["endpointOverride"], "projects/p/locations/r/jobs"
    return [job["name"] for version in ("v1", "v2") for job in httpx.get(f"{url}/{version}/{place}").json()["jobs"]]


def jobs_of_azure(properties: Mapping[str, Any]) -> list[str]:
    """Return the jobs of the account; to ask it, a request has to be signed as the task runner signs."""
    runner = AzureBatch.model_validate(properties)
    try:
        return [handle.id for handle in runner.list_owned(RunnerContext(on_line=print))]
    finally:
        runner.close()


def staged(url: str, options: Mapping[str, str]) -> list[str]:
    """Return all objects of a bucket."""
    store = open_object_store(url, options)
    try:
        return list(store.list())
    finally:
        store.close()


def files_below(*folders: Path) -> list[str]:
    """Return everything below folders of working directories and temporary files."""
    return [str(path) for folder in folders if folder.exists() for path in folder.rglob("*")]


def after(looks: Mapping[str, Look], seconds: float) -> dict[str, list[str]]:
    """Return what is left after at most so many seconds, by system: what is removed late is not left."""
    deadline = time.monotonic() + seconds
    while (left := {name: found for name, look in looks.items() if (found := look())}) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left
