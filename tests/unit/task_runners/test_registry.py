from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from task_runners.aws_batch import Batch as AwsBatch
from task_runners.azure_batch import Batch as AzureBatch
from task_runners.cloud_run import CloudRun
from task_runners.docker import Docker
from task_runners.errors import TaskRunnerError
from task_runners.google_batch import Batch as GoogleBatch
from task_runners.kubernetes.runner import Kubernetes
from task_runners.process import Process
from task_runners.registry import canonical_name, runner_class, runner_names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("core.runner.Process", Process),
        ("io.kestra.plugin.core.runner.Process", Process),
        ("io.kestra.core.models.tasks.runners.types.ProcessTaskRunner", Process),
        ("process", Process),
        ("scripts.runner.docker.Docker", Docker),
        ("io.kestra.plugin.scripts.runner.docker.Docker", Docker),
        ("io.kestra.plugin.scripts.runner.docker.DockerTaskRunner", Docker),
        ("docker", Docker),
        ("io.kestra.plugin.ee.kubernetes.runner.Kubernetes", Kubernetes),
        ("io.kestra.plugin.kubernetes.runner.Kubernetes", Kubernetes),
        ("io.kestra.plugin.kubernetes.runner.KubernetesTaskRunner", Kubernetes),
        ("ee.kubernetes.runner.Kubernetes", Kubernetes),
        ("kubernetes", Kubernetes),
        ("io.kestra.plugin.ee.aws.runner.Batch", AwsBatch),
        ("io.kestra.plugin.aws.runner.Batch", AwsBatch),
        ("io.kestra.plugin.aws.runner.AwsBatchTaskRunner", AwsBatch),
        ("aws-batch", AwsBatch),
        ("io.kestra.plugin.ee.gcp.runner.Batch", GoogleBatch),
        ("io.kestra.plugin.gcp.runner.GcpBatchTaskRunner", GoogleBatch),
        ("io.kestra.plugin.ee.gcp.runner.CloudRun", CloudRun),
        ("io.kestra.plugin.gcp.runner.GcpCloudRunTaskRunner", CloudRun),
        ("io.kestra.plugin.ee.azure.runner.Batch", AzureBatch),
        ("io.kestra.plugin.azure.runner.AzureBatchTaskRunner", AzureBatch),
    ],
)
def test_every_name_of_a_task_runner_finds_it(name: str, expected: type) -> None:
    found = runner_class(name)

    assert found is expected
    assert canonical_name(name) in get_args(found.model_fields["type"].annotation)


def test_an_unknown_name_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(TaskRunnerError, match=r"core\.runner\.Proces") as caught:
        runner_class("core.runner.Proces")

    assert caught.value.code == "runner.type.unknown"
    assert "core.runner.Process" in str(caught.value.hint)


def test_no_name_needs_an_engine_s_library() -> None:
    program = """
import sys
from pathlib import Path
from task_runners.registry import runner_class, runner_names
assert [runner_class(name).__name__ for name in runner_names()][:2] == ["Process", "Docker"]
heavy = ("docker", "requests", "lightkube", "httpx2", "dulwich", "starlette", "redis")
print([name for name in heavy if name in sys.modules])
"""

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
    assert "core.runner.Process" in list(runner_names())


def test_the_example_of_a_third_party_is_as_short_as_its_page_says() -> None:
    package = Path(__file__).parents[2] / "plugins" / "spool"

    texts = [path.read_text() for path in package.rglob("*") if path.suffix in {".py", ".toml"}]

    assert 100 < sum(len(text.splitlines()) for text in texts) < 200
