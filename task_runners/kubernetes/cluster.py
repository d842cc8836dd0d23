"""What the jobs of one cluster and namespace share in this process: connections, the watch, open logs."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from task_runners.errors import FailureReason, TaskRunnerError
from task_runners.kubernetes.api import Api, ApiError
from task_runners.kubernetes.connection import connect
from task_runners.kubernetes.informer import Informer
from task_runners.kubernetes.logs import Logs
from task_runners.kubernetes.properties import Config

__all__ = ["Cluster", "cluster_of", "forget_clusters", "told"]

_MOST: Final = 32

_clusters: dict[tuple[str, ...], Cluster] = {}
_namespaces: dict[tuple[str, ...], str] = {}
_lock = threading.Lock()


class Cluster:
    """One namespace of one cluster, seen by one identity."""

    def __init__(self, api: Api, reconnect_s: float) -> None:
        self.api = api
        self.informer = Informer(api, reconnect_s)
        self.logs = Logs(api)

    def close(self) -> None:
        """End the watch and all connections."""
        self.informer.close()
        self.logs.close()
        self.api.close()


def cluster_of(config: Config | None, namespace: str | None, environment: Mapping[str, str]) -> Cluster:
    """Return what is shared for this configuration, connected now if it was not before.

    Raises:
        TaskRunnerError: see `connect`.
    """
    surroundings = tuple(environment.get(name, "") for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"))
    identity = (config.model_dump_json() if config is not None else "", *surroundings)
    with _lock:
        found = _clusters.pop((*identity, namespace or _namespaces.get(identity, "")), None)
        if found is None:
            connection = connect(config, environment)
            _namespaces[identity] = connection.namespace
            api = Api(connection, namespace or connection.namespace)
            found = Cluster(api, (config or Config()).watch_reconnect_interval.total_seconds())
        # Tokens change: what was used last stands last, and the rest is let go.
        _clusters[*identity, found.api.namespace] = found
        while len(_clusters) > _MOST:
            _clusters.pop(next(iter(_clusters))).close()
    return found


def forget_clusters() -> None:
    """Close all connections of this process; they are made again when they are needed."""
    with _lock:
        found = list(_clusters.values())
        _clusters.clear()
        _namespaces.clear()
    for cluster in found:
        cluster.close()


@contextmanager
def told(cluster: Cluster, what: str, *, is_waiting: bool = False) -> Iterator[None]:
    """Turn what an API server refuses into an error with a code; `is_waiting` for calls that are made again anyway."""
    try:
        yield
    except ApiError as error:
        raise _explained(error, cluster.api.connection.url, what, is_waiting=is_waiting) from error


def _explained(error: ApiError, url: str, what: str, *, is_waiting: bool) -> TaskRunnerError:
    words = f"{what}: {error.message[:400]}"
    if error.code == 0:
        return TaskRunnerError(
            "runner.cluster.unreachable",
            f"no Kubernetes API server answers at {url}, {words}",
            hint="check `config`, KUBECONFIG or the service account, and the way from the worker to the cluster",
            failure_reason=FailureReason.UNAVAILABLE,
        )
    if error.code in {401, 403}:
        return TaskRunnerError(
            "runner.cluster.denied",
            f"the Kubernetes API server at {url} does not let us {words.removeprefix('to ')}",
            hint="give the account of the worker the rights of charts/mainstem/files/task-role.yaml",
            failure_reason=FailureReason.UNAVAILABLE if is_waiting else FailureReason.DENIED,
        )
    return TaskRunnerError(
        "runner.cluster.refused",
        f"the Kubernetes API server at {url} refused {words}",
        failure_reason=FailureReason.UNAVAILABLE if is_waiting or error.may_pass else FailureReason.CONFIG_ERROR,
    )
