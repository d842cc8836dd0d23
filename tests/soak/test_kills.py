"""Kills at random moments on all task runners: every execution ends, and nothing of its tasks is left anywhere."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from runner.ids import new_id
from tests.contract.task_runners.conftest import (  # noqa: F401 - fixtures are known by their names here
    aws_account,
    azure,
    azure_cloud,
    docker_host,
    google,
    google_cloud,
    kubernetes,
)
from tests.crash.conftest import folder  # noqa: F401 - fixtures are known by their names here
from tests.servers.aws import Account
from tests.servers.embedded import Server
from tests.servers.kubernetes.server import KubernetesServer
from tests.servers.locks import only_one
from tests.servers.object_stores import azurite_server, gcs_server, moto_server, options_for  # noqa: F401 - fixtures are known by their names here
from tests.soak import leftovers
from tests.soak.killer import carry_out, plan

KILLS = int(os.environ.get("MAINSTEM_SOAK_KILLS", "28"))
SEED = int(os.environ.get("MAINSTEM_SOAK_SEED", "1"))
SECRET_IMAGE = "registry.test/soak:1"  # at the node, for those who log in
SPANS = {
    "process": 0.5,
    "docker": 1.5,
    "kubernetes": 3.0,
    "aws": 4.0,
    "google_batch": 2.0,
    "cloud_run": 2.0,
    "azure": 2.0,
}
BODY = """\
(trap '' TERM; sleep 300) &
cat in.txt > out.txt
sleep {{ inputs.seconds }}
kill -9 $!
"""


@pytest.fixture
def token() -> str:
    """Give what all processes and images of this soak bear."""
    return f"soak-{new_id()[-16:].lower()}"


@pytest.fixture
def daemon(docker_host: str, token: str) -> Iterator[leftovers.Daemon]:  # noqa: F811 - a fixture
    with only_one("docker"), closing(leftovers.Daemon(docker_host, token)) as made:  # others remove what is not theirs
        made.make_images()
        yield made


@pytest.fixture
def runners(
    aws_account: Account,  # noqa: F811 - a fixture
    google: dict[str, Any],  # noqa: F811 - a fixture
    azure: dict[str, Any],  # noqa: F811 - a fixture
) -> dict[str, dict[str, Any]]:
    """Give the properties of all task runners, as a flow says them."""
    quick = {"completionCheckInterval": "PT0.5S", "waitForLogs": "PT1S"}
    aws = {_camel(key): value for key, value in aws_account.properties.items()}
    return {
        "process": {"type": "process"},
        "docker": {"type": "docker", "networkMode": "none"},
        "kubernetes": {
            "type": "kubernetes",
            "pullPolicy": "IF_NOT_PRESENT",
            "fileSidecar": {"image": "mainstem-test/busybox:1"},
            "credentials": {"username": "ann", "password": "pass"},
        },
        "aws": {"type": "ee.aws.runner.Batch", **aws, **quick},
        "google_batch": {"type": "ee.gcp.runner.Batch", **google, **quick},
        "cloud_run": {"type": "ee.gcp.runner.CloudRun", **google, **quick},
        "azure": {"type": "ee.azure.runner.Batch", **azure, **quick},
    }


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def flow_for(place: str, runner: Mapping[str, Any], image: str, token: str) -> str:
    """Return a flow whose body leaves a process behind that does not want to end, and files on both ways."""
    task = {
        "id": "body",
        "type": "scripts.shell.Script",
        "containerImage": image,
        "taskRunner": runner,
        "env": {"SOAK": token},
        "inputFiles": {"in.txt": "travelled"},
        "outputFiles": ["out.txt"],
        "script": BODY,
    }
    return json.dumps(
        {"id": place, "namespace": "soak", "inputs": [{"id": "seconds", "type": "STRING"}], "tasks": [task]}
    )


@pytest.fixture
def server(
    folder: Path,  # noqa: F811 - a fixture
    kubernetes: KubernetesServer,  # noqa: F811 - a fixture
    daemon: leftovers.Daemon,
) -> Iterator[Server]:
    kubernetes.node.private_images[SECRET_IMAGE] = ("ann", "pass")
    kubernetes.node.aliases[SECRET_IMAGE] = daemon.image
    (folder / "tmp").mkdir(mode=0o777)
    config = str(kubernetes.kubeconfig(folder / "kubeconfig"))
    made = Server(folder, KUBECONFIG=config, TMPDIR=str(folder / "tmp"), MAINSTEM_WORKERS="16").start()
    yield made
    made.end()


@pytest.fixture
def looks(
    server: Server,
    daemon: leftovers.Daemon,
    kubernetes: KubernetesServer,  # noqa: F811 - a fixture
    aws_account: Account,  # noqa: F811 - a fixture
    runners: dict[str, dict[str, Any]],
    token: str,
) -> dict[str, leftovers.Look]:
    """Give, for each system, what tells what is left there."""
    on_google, on_azure = runners["google_batch"], runners["azure"]
    gcs, azurite = on_google["storageEndpointOverride"], on_azure["blobStorage"]["endpoint"]
    return {
        "processes": lambda: leftovers.processes(token),
        "containers": daemon.containers,
        "volumes": daemon.volumes,
        "Kubernetes": lambda: leftovers.objects_of(kubernetes),
        "AWS Batch": lambda: leftovers.jobs_of_aws(aws_account),
        "S3": lambda: leftovers.staged(f"s3://{aws_account.bucket}", options_for("s3", aws_account.address)),
        "Google": lambda: leftovers.jobs_of_google(on_google),
        "Cloud Storage": lambda: leftovers.staged("gs://contract", options_for("gs", gcs)),
        "Azure Batch": lambda: leftovers.jobs_of_azure(on_azure),
        "Azure Blob": lambda: leftovers.staged("az://contract", options_for("az", azurite)),
        "working directories": lambda: leftovers.files_below(server.work),
    }


@pytest.mark.timeout(3600)
def test_nothing_is_left_of_tasks_that_were_killed_at_random_moments(
    server: Server,
    runners: dict[str, dict[str, Any]],
    looks: dict[str, leftovers.Look],
    daemon: leftovers.Daemon,
    token: str,
) -> None:
    images = {"kubernetes": SECRET_IMAGE, "aws": daemon.plain}  # moto leaves volumes of containers where they are
    server.api.deploy(
        *(flow_for(place, runner, images.get(place, daemon.image), token) for place, runner in runners.items())
    )

    tally = carry_out(server.api, plan(list(runners), KILLS, SEED, SPANS))
    left = leftovers.after(looks, 30)
    code = server.stop()

    sys.stdout.write(
        "\n".join(["", f"{KILLS} kills, seed {SEED}", *tally.lines(), *tally.problems, f"left: {left}", ""])
    )
    assert (tally.problems, left, code) == ([], {}, 0)
    assert leftovers.after(looks, 0) == {}
    assert leftovers.files_below(server.folder / "tmp") == []
