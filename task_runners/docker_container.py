"""The description of a container as the Docker API wants it (`POST /containers/create`): values in, JSON out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from task_runners.archives import Owner
from task_runners.docker_properties import FileHandling
from task_runners.spec import Policy, TaskSpec, WorkDir

if TYPE_CHECKING:
    from task_runners.docker import Docker

__all__ = [
    "OWNED_LABEL",
    "PREFIX",
    "attempt_of",
    "container_description",
    "is_kept",
    "label_value",
    "owner_of",
]

PREFIX = "mainstem.io/"
OWNED_LABEL = f"{PREFIX}taskrun-id"
_KEPT_LABEL = "mainstem.io/kept"
_DETACHED_LABEL = "mainstem.io/detached"
_ALIVE = frozenset({"running", "paused", "restarting"})
_PREFIXES = ("mainstem.io", "kestra.io")
_PROCESSES = 512
_LABEL_CHARS = 63
_LOG_FILES = {"max-size": "20m", "max-file": "2"}  # so that a flood does not fill the daemon's disk
_PORT = re.compile(
    r"(?:(?:(?P<ip>[\d.]+|\[[0-9a-fA-F:]+\]):)?(?P<host>\d*):)?(?P<container>\d+)(?:/(?P<protocol>tcp|udp|sctp))?"
)


def container_description(
    runner: Docker, image: str, spec: TaskSpec, workdir: WorkDir, policy: Policy
) -> dict[str, Any]:
    """Return the body of the request that creates the container.

    Raises:
        ValueError: a port binding cannot be read.
    """
    ports = _port_bindings(runner.port_bindings)
    env = spec.environment(str(workdir.path))
    return _given(
        {
            "Image": image,
            "Cmd": list(spec.command),
            "Entrypoint": list(runner.entry_point),
            "WorkingDir": str(workdir.path),
            "Env": [f"{name}={value}" for name, value in env.items()],
            "Labels": _labels(spec) | _wishes(runner),
            "User": runner.user,
            "AttachStdout": True,
            "AttachStderr": True,
            "ExposedPorts": {port: {} for port in ports} or None,
            "HostConfig": _host_config(runner, spec, workdir, policy) | ({"PortBindings": ports} if ports else {}),
        }
    )


def _host_config(runner: Docker, spec: TaskSpec, workdir: WorkDir, policy: Policy) -> dict[str, Any]:
    memory = runner.memory.memory or spec.limits.memory_bytes
    per_process = {"nofile": spec.limits.open_files, "fsize": spec.limits.file_bytes, "cpu": spec.limits.cpu_seconds}
    mounts = [f"{workdir.path}:{workdir.path}:rw"] if runner.file_handling_strategy is FileHandling.MOUNT else []
    return _given(
        {
            "Binds": [*mounts, *runner.volumes] or None,
            "NetworkMode": runner.network_mode,
            "ExtraHosts": list(runner.extra_hosts) or None,
            "NanoCpus": round(runner.cpu.cpus * 1e9) if runner.cpu.cpus else None,
            "Memory": memory,
            # Without a limit of its own, swap doubles the memory, and the limit that was asked for is not the limit.
            "MemorySwap": runner.memory.memory_swap or memory,
            "MemorySwappiness": runner.memory.memory_swappiness,
            "MemoryReservation": runner.memory.memory_reservation,
            "OomKillDisable": runner.memory.oom_kill_disable,
            "ShmSize": runner.shm_size,
            "DeviceRequests": _device_requests(runner) or None,
            "PidsLimit": spec.limits.processes or _PROCESSES,
            "Ulimits": [{"Name": key, "Soft": value, "Hard": value} for key, value in per_process.items() if value]
            or None,
            "Privileged": runner.privileged or None,
            "CapDrop": None if runner.privileged else ["ALL"],
            "CapAdd": list(policy.capabilities) or None,
            "SecurityOpt": None if runner.privileged else ["no-new-privileges"],
            "Init": True,  # the first process of a container ignores SIGTERM unless it handles it
            "LogConfig": {"Type": "json-file", "Config": dict(_LOG_FILES)},
        }
    )


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


def _device_requests(runner: Docker) -> list[dict[str, Any]]:
    return [
        {
            "Driver": request.driver or "",
            # A count of -1 means all of them, which is what a request that names none asks for.
            "Count": request.count if request.count is not None else (0 if request.device_ids else -1),
            "DeviceIDs": list(request.device_ids) or None,
            "Capabilities": [list(group) for group in request.capabilities],
            "Options": request.options or {},
        }
        for request in runner.device_requests
    ]


def _port_bindings(bindings: tuple[str, ...]) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for binding in bindings:
        match = _PORT.fullmatch(binding)
        if match is None:
            raise ValueError(f"the port binding {binding!r} is not like 127.0.0.1:8080:80/tcp")
        port = f"{match['container']}/{match['protocol'] or 'tcp'}"
        host = {"HostIp": (match["ip"] or "").strip("[]"), "HostPort": match["host"] or ""}
        found.setdefault(port, []).append(host)
    return found


def _wishes(runner: Docker) -> dict[str, str]:
    wishes = {_KEPT_LABEL: not runner.delete, _DETACHED_LABEL: not runner.wait_for_end}
    return {label: "true" for label, is_wished in wishes.items() if is_wished}


def _labels(spec: TaskSpec) -> dict[str, str]:
    own = {"taskrun-id": spec.task_run_id, "taskrun-attempt": str(spec.attempt)}
    labels = {key.rpartition("/")[2]: value for key, value in spec.labels.items()} | own
    return {f"{prefix}/{key}": label_value(value) for prefix in _PREFIXES for key, value in labels.items()}


def label_value(value: str) -> str:
    """Return `value` as it fits into a label: at most 63 characters, ending in a letter or digit."""
    return value[:_LABEL_CHARS].rstrip("-._")


def attempt_of(labels: Mapping[str, str]) -> tuple[str, int] | None:
    """Return the attempt that the labels of a job name, None when they name none."""
    run, number = labels.get(OWNED_LABEL), labels.get("mainstem.io/taskrun-attempt", "")
    return (run, int(number)) if run and number.isdigit() else None


def is_kept(container: Mapping[str, Any]) -> bool:
    """Return whether a container of the daemon's list is there by the wish of its flow, though its task has ended.

    One that was to be kept stays when it has ended; one that nobody was to wait for (`wait: false`) until then.
    """
    return (_DETACHED_LABEL if container["State"] in _ALIVE else _KEPT_LABEL) in container["Labels"]


def owner_of(user: str) -> Owner:
    """Return the uid that `user` (`1000`, `1000:1000`, `root`, empty) means, None when only the image knows."""
    name = user.partition(":")[0]
    if name in {"", "root"}:
        return 0
    return int(name) if name.isdigit() else None
