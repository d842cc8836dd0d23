from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from task_runners.base import Limits, Policy, TaskSpec, WorkDir
from task_runners.docker import Docker
from task_runners.docker_container import container_description, is_kept, owner_of
from task_runners.docker_properties import parse_size

WORKDIR = WorkDir(Path("/tmp/work"))


def _described(yaml: dict[str, Any] | None = None, policy: Policy | None = None, **spec: Any) -> dict[str, Any]:
    runner = Docker.model_validate(yaml or {})
    return container_description(runner, "image:1", TaskSpec(("true",), "abc", **spec), WORKDIR, policy or Policy())


def test_the_properties_of_a_flow_become_a_container() -> None:
    described = _described(
        {
            "type": "io.kestra.plugin.scripts.runner.docker.Docker",
            "entryPoint": ["/bin/sh"],
            "user": "1000",
            "networkMode": "host",
            "extraHosts": ["db:10.0.0.1"],
            "portBindings": ["127.0.0.1:8080:80", "53/udp", "9:9/tcp"],
            "cpu": {"cpus": 1.5},
            "memory": {"memory": "512MB", "memorySwap": "1GB", "memoryReservation": "64m"},
            "shmSize": "8m",
            "deviceRequests": [{"driver": "nvidia", "capabilities": [["gpu"]]}],
            "killGracePeriod": "PT5S",
            "pullPolicy": "ALWAYS",
        },
        env={"A": "1"},
    )
    host = described["HostConfig"]

    assert (described["Image"], described["Cmd"], described["Entrypoint"]) == ("image:1", ["true"], ["/bin/sh"])
    assert (described["User"], described["WorkingDir"]) == ("1000", "/tmp/work")
    assert described["Env"] == ["A=1", "WORKING_DIR=/tmp/work"]
    assert (host["NetworkMode"], host["ExtraHosts"], host["NanoCpus"]) == ("host", ["db:10.0.0.1"], 1_500_000_000)
    assert (host["Memory"], host["MemorySwap"], host["MemoryReservation"]) == (512 * 1024**2, 1024**3, 64 * 1024**2)
    assert host["ShmSize"] == 8 * 1024**2
    assert host["DeviceRequests"] == [
        {"Driver": "nvidia", "Count": -1, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {}}
    ]
    assert host["PortBindings"] == {
        "80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}],
        "53/udp": [{"HostIp": "", "HostPort": ""}],
        "9/tcp": [{"HostIp": "", "HostPort": "9"}],
    }
    assert set(described["ExposedPorts"]) == {"80/tcp", "53/udp", "9/tcp"}


def test_a_container_gets_nothing_that_was_not_given() -> None:
    host = _described()["HostConfig"]

    assert host == {
        "PidsLimit": 512,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "Init": True,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "20m", "max-file": "2"}},
    }


def test_limits_of_the_task_count_where_the_runner_sets_none() -> None:
    limits = Limits(memory_bytes=1024, open_files=10, processes=5, file_bytes=100, cpu_seconds=7)

    host = _described(limits=limits)["HostConfig"]

    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (1024, 1024, 5)
    assert host["Ulimits"] == [
        {"Name": "nofile", "Soft": 10, "Hard": 10},
        {"Name": "fsize", "Soft": 100, "Hard": 100},
        {"Name": "cpu", "Soft": 7, "Hard": 7},
    ]


def test_the_operator_may_give_capabilities() -> None:
    host = _described(policy=Policy(capabilities=("CHOWN",)))["HostConfig"]

    assert (host["CapDrop"], host["CapAdd"]) == (["ALL"], ["CHOWN"])


def test_a_privileged_container_keeps_its_privileges() -> None:
    host = _described({"privileged": True})["HostConfig"]

    assert host["Privileged"] is True
    assert "CapDrop" not in host
    assert "SecurityOpt" not in host


@pytest.mark.parametrize("binding", ["", "a:80", "80/xyz", "1:2:3:4"])
def test_a_port_binding_that_cannot_be_read_is_an_error(binding: str) -> None:
    with pytest.raises(ValueError, match="port binding"):
        _described({"portBindings": [binding]})


@pytest.mark.parametrize(
    "yaml", [{"pullPolicy": "SOMETIMES"}, {"memory": {"memory": "lots"}}, {"colour": "red"}, {"type": "other"}]
)
def test_a_property_that_cannot_be_is_refused(yaml: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Docker.model_validate(yaml)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512MB", 512 * 1024**2), ("1g", 1024**3), ("64 KiB", 65536), ("1.5k", 1536), (7, 7), ("10B", 10)],
)
def test_sizes_are_read_as_docker_reads_them(text: Any, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("user", "owner"), [("", 0), ("root", 0), ("1000", 1000), ("1000:50", 1000), ("node", None), ("node:node", None)]
)
def test_files_go_to_the_user_of_the_container_where_it_is_known(user: str, owner: int | None) -> None:
    assert owner_of(user) == owner


@pytest.mark.parametrize(("state", "expected"), [("running", True), ("paused", True), ("exited", False)])
def test_a_container_that_nobody_waits_for_goes_on_while_it_is_alive(state: str, expected: bool) -> None:  # noqa: FBT001 - a column of the table
    labels = _described({"wait": False})["Labels"]

    assert is_kept({"State": state, "Labels": labels}) is expected
