"""`mainstem runners`: what is there, and whether it works here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.cli import call


@pytest.mark.parametrize("verb", ["list", "ls"])
def test_the_list_names_each_type_and_what_it_can_do(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    code = call(["runners", verb, "--json"])

    rows = {row["type"]: row for row in json.loads(capsys.readouterr().out)}
    assert code == 0
    assert (rows["core.runner.Process"]["runs"], rows["core.runner.Process"]["files"]) == ("as a process", "shared")
    assert rows["scripts.runner.docker.Docker"]["reattaches"] is True


def test_a_task_runner_that_works_here_is_proved(capsys: pytest.CaptureFixture[str]) -> None:
    code = call(["runners", "check", "process"])

    lines = capsys.readouterr().out.splitlines()
    assert (code, lines[-1]) == (0, "core.runner.Process works here")
    assert [line.split()[0] for line in lines[:-1]] == ["ok"] * 8
    assert lines[0].startswith("ok   control groups: ")


def test_control_groups_that_the_settings_name_and_that_are_not_there_are_a_finding(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = tmp_path / "mainstem.yaml"
    settings.write_text("processRunner: {cgroup: /nowhere}\n")
    monkeypatch.setenv("MAINSTEM_SETTINGS", str(settings))

    code = call(["runners", "check", "process"])

    lines = capsys.readouterr().out.splitlines()
    assert (code, lines[0].split(":")[0]) == (1, "FAIL control groups")
    assert "mainstem runners check process --json" in lines[-1]


def test_a_daemon_that_is_not_there_is_one_line_with_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")

    code = call(["runners", "check", "docker"])

    (line,) = capsys.readouterr().out.splitlines()
    assert code == 1
    assert "no Docker daemon answers at unix:///nowhere/docker.sock" in line
    assert "start it, set `host` or DOCKER_HOST" in line


def test_the_bundle_names_properties_and_not_their_values(capsys: pytest.CaptureFixture[str]) -> None:
    secret = '{"username": "me", "password": "hunter22"}'

    call(["runners", "check", "docker", "--set", "host=unix:///nowhere", "--set", f"credentials={secret}", "--json"])

    bundle = json.loads(capsys.readouterr().out)
    assert bundle["properties"] == ["credentials", "host"]
    assert {"runner", "mainstem", "packages", "python", "system", "image"} < set(bundle)
    assert "docker" in bundle["packages"]
    assert "hunter22" not in json.dumps(bundle)
    assert [finding["works"] for finding in bundle["findings"]] == [False]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["nobody.knows"], 1, "runner.type.unknown"),
        (["docker", "--set", "pullPolicy=SOMETIMES"], 1, "runner.property.invalid"),
        (["docker", "--set", "nonsense"], 2, "NAME=VALUE"),
    ],
)
def test_what_cannot_be_checked_is_said(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, text: str
) -> None:
    found = call(["runners", "check", *arguments])

    assert (found, text in capsys.readouterr().err) == (code, True)


def test_findings_do_not_tell_what_an_address_or_a_variable_holds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SOME_TOKEN", "tok3n-of-this-shell")
    address = f"host=unix://{tmp_path}/bob:s3cretpass@tok3n-of-this-shell"
    told = ["host=tcp://bob:s3cretpass@127.0.0.1:1", address]

    codes = [call(["runners", "check", "docker", *more, "--set", each]) for each in told for more in ((), ("--json",))]

    out = capsys.readouterr().out
    assert codes == [1, 1, 1, 1]
    assert "no Docker daemon answers at tcp://******@127.0.0.1:1" in out
    assert "tok3n-of-this-shell" not in out
