"""What image, compose file, chart and units start is there: each command with its flags, each variable."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from runner.settings import Settings
from tests.charts.rendering import ROOT, SETS, golden
from tests.documentation.claims import command_fault

UNITS = sorted((ROOT / "packaging" / "systemd").glob("*.service"))
ROLES = ("serve", "worker", "scheduler", "sync-agent")
SETTINGS = {f"MAINSTEM_{name.upper()}" for name in Settings.model_fields} | {"MAINSTEM_SETTINGS"}


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
    return found


def containers() -> Iterator[dict[str, Any]]:
    for name in SETS:
        for document in golden(name):
            if document["kind"] in {"Deployment", "StatefulSet", "Job"}:
                yield document["spec"]["template"]["spec"]["containers"][0]


def commands() -> Iterator[str]:
    """Yield the command line of each process that is started somewhere."""
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    entry, arguments = (
        json.loads(re.findall(rf"^{word} (\[.*)$", image, re.MULTILINE)[-1]) for word in ("ENTRYPOINT", "CMD")
    )
    assert entry == ["mainstem"]
    yield shlex.join([*entry, *arguments])
    for service in compose()["services"].values():
        if str(service["image"]).startswith("mainstem:"):
            yield shlex.join([*entry, *service["command"]])
    for container in containers():
        assert "command" not in container, "the entry point of the image is the program"
        yield shlex.join([*entry, *container["args"]])
    for unit in UNITS:
        line = next(line for line in unit.read_text(encoding="utf-8").splitlines() if line.startswith("ExecStart="))
        for role in ROLES:
            yield line.removeprefix("ExecStart=/opt/mainstem/bin/").replace("%i", role)


def variables() -> Iterator[tuple[str, str]]:
    """Yield each variable of ours that is set for a process, and where."""
    for path in (ROOT / "Dockerfile", *UNITS):
        for name in re.findall(r"\b(MAINSTEM_\w+)=", path.read_text(encoding="utf-8")):
            yield name, path.name
    for name, service in compose()["services"].items():
        if str(service["image"]).startswith("mainstem:"):
            yield from ((variable, f"compose: {name}") for variable in service["environment"])
    for container in containers():
        yield from ((each["name"], "chart") for each in container["env"] if each["name"].startswith("MAINSTEM"))


def test_each_command_that_is_started_is_there_with_its_flags() -> None:
    found = set(commands())

    assert {text.split()[1] for text in found} == {"up", "db", *ROLES}
    assert [fault for text in sorted(found) if (fault := command_fault(text))] == []


def test_each_variable_is_a_setting() -> None:
    found = set(variables())

    assert len(found) > 20
    assert {each for each in found if each[0] not in SETTINGS} == set()


def test_a_process_makes_its_folders_below_the_mounts_that_belong_to_others() -> None:
    for container in containers():
        mounts = {Path(each["mountPath"]) for each in container["volumeMounts"]}
        given = {each["name"]: each.get("value") for each in container["env"]}

        for name in ("MAINSTEM_HOME", "MAINSTEM_WORK"):
            assert name not in given or mounts & set(Path(given[name]).parents), (name, given[name])


def test_the_image_and_the_chart_agree_on_user_folders_and_ports() -> None:
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (user,) = re.findall(r"^USER (\d+):\d+$", image, re.MULTILINE)
    exposed = re.findall(r"^EXPOSE (\d+) (\d+)$", image, re.MULTILINE)[0]
    volumes = json.loads(re.findall(r"^VOLUME (.*)$", image, re.MULTILINE)[0])

    standalone = next(each for each in golden("standalone") if each["kind"] == "StatefulSet")
    pod = standalone["spec"]["template"]["spec"]

    assert pod["securityContext"]["runAsUser"] == int(user)
    assert [str(each["containerPort"]) for each in pod["containers"][0]["ports"]] == list(exposed)
    assert set(volumes) <= {each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
