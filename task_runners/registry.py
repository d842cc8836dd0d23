"""Which class stands behind a task runner's type name. Nothing is imported to know the names."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
from collections.abc import Iterator
from typing import TYPE_CHECKING

from task_runners.errors import TaskRunnerError

if TYPE_CHECKING:
    from task_runners.base import TaskRunner

__all__ = ["ENTRY_POINTS", "canonical_name", "runner_class", "runner_names", "spellings"]

ENTRY_POINTS = "mainstem.task_runners"
_PREFIX = "io.kestra.plugin."
_BUILT_IN = {
    "core.runner.Process": "task_runners.process:Process",
    "scripts.runner.docker.Docker": "task_runners.docker:Docker",
    "ee.kubernetes.runner.Kubernetes": "task_runners.kubernetes.runner:Kubernetes",
    "ee.aws.runner.Batch": "task_runners.aws_batch:Batch",
    "ee.gcp.runner.Batch": "task_runners.google_batch:Batch",
    "ee.gcp.runner.CloudRun": "task_runners.cloud_run:CloudRun",
    "ee.azure.runner.Batch": "task_runners.azure_batch:Batch",
}
# Older names that stand in flows: before 0.18 the classes had other names, Process another package.
_ALIASES = {
    "io.kestra.core.models.tasks.runners.types.ProcessTaskRunner": "core.runner.Process",
    "io.kestra.core.tasks.runners.Process": "core.runner.Process",
    "core.runner.ProcessTaskRunner": "core.runner.Process",
    "scripts.runner.docker.DockerTaskRunner": "scripts.runner.docker.Docker",
    "process": "core.runner.Process",
    "docker": "scripts.runner.docker.Docker",
    "kubernetes.runner.Kubernetes": "ee.kubernetes.runner.Kubernetes",
    "kubernetes.runner.KubernetesTaskRunner": "ee.kubernetes.runner.Kubernetes",
    "ee.kubernetes.runner.KubernetesTaskRunner": "ee.kubernetes.runner.Kubernetes",
    "kubernetes": "ee.kubernetes.runner.Kubernetes",
    "aws.runner.Batch": "ee.aws.runner.Batch",
    "aws.runner.AwsBatchTaskRunner": "ee.aws.runner.Batch",
    "ee.aws.runner.AwsBatchTaskRunner": "ee.aws.runner.Batch",
    "aws-batch": "ee.aws.runner.Batch",
    "gcp.runner.Batch": "ee.gcp.runner.Batch",
    "gcp.runner.GcpBatchTaskRunner": "ee.gcp.runner.Batch",
    "ee.gcp.runner.GcpBatchTaskRunner": "ee.gcp.runner.Batch",
    "google-batch": "ee.gcp.runner.Batch",
    "gcp.runner.CloudRun": "ee.gcp.runner.CloudRun",
    "gcp.runner.GcpCloudRunTaskRunner": "ee.gcp.runner.CloudRun",
    "ee.gcp.runner.GcpCloudRunTaskRunner": "ee.gcp.runner.CloudRun",
    "cloud-run": "ee.gcp.runner.CloudRun",
    "azure.runner.Batch": "ee.azure.runner.Batch",
    "azure.runner.AzureBatchTaskRunner": "ee.azure.runner.Batch",
    "ee.azure.runner.AzureBatchTaskRunner": "ee.azure.runner.Batch",
    "azure-batch": "ee.azure.runner.Batch",
}


def canonical_name(name: str) -> str:
    """Return the short form of a type name (`core.runner.Process`); aliases and Kestra's prefix are resolved."""
    short = name.removeprefix(_PREFIX)
    return _ALIASES.get(name) or _ALIASES.get(short) or short


def spellings(name: str) -> list[str]:
    """Return every accepted spelling of the task runner `name`: the short form, the full one, then the older ones."""
    short = canonical_name(name)
    older = [alias for alias, target in _ALIASES.items() if target == short]
    return [
        short,
        _PREFIX + short,
        *older,
        *(_PREFIX + alias for alias in older if "." in alias and not alias.startswith("io.")),
    ]


def runner_names() -> Iterator[str]:
    """Yield the canonical names of all task runners, the built-in ones first."""
    yield from _BUILT_IN
    yield from (name for name in _installed() if name not in _BUILT_IN)


def runner_class(name: str) -> type[TaskRunner]:
    """Return the class for the type `name`, imported now if it was not before.

    Raises:
        TaskRunnerError: `runner.type.unknown`, or `runner.type.broken` when what is installed is no task runner.
    """
    canonical = canonical_name(name)
    target = _BUILT_IN.get(canonical) or _installed().get(canonical)
    if target is None:
        raise TaskRunnerError(
            "runner.type.unknown",
            f"no task runner named {name!r}",
            hint=f"there are {', '.join(runner_names())}",
        )
    from task_runners.base import TaskRunner

    module, _, attribute = target.partition(":")
    found = getattr(importlib.import_module(module), attribute, None)
    if not (isinstance(found, type) and issubclass(found, TaskRunner)):
        raise TaskRunnerError("runner.type.broken", f"{target} is not a TaskRunner")
    return found


@functools.cache
def _installed() -> dict[str, str]:
    points = importlib.metadata.entry_points(group=ENTRY_POINTS)
    return {canonical_name(point.name): point.value for point in points}
