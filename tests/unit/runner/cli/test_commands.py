"""What the command line says to words it does not know."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.cli import call

FLOW = """\
id: greet
namespace: demo
inputs:
  - {id: day, type: STRING, defaults: today}
tasks:
  - {id: say, type: core.log.Log, message: "{{ inputs.day }}"}
"""


def test_an_unknown_command_is_answered_with_the_nearest(capfd: pytest.CaptureFixture[str]) -> None:
    code = call(["exex", "list"])

    assert code == 2
    assert "there is no command 'exex'; did you mean 'exec'?" in capfd.readouterr().err


def test_an_input_that_the_flow_does_not_have_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "greet.yaml"
    file.write_text(FLOW)

    code = call(["run", str(file), "-i", "dya=monday"])

    assert code == 1
    assert "demo.greet has no input 'dya'  [input.unknown]\n  hint: did you mean 'day'?" in capfd.readouterr().err


def test_an_input_that_the_flow_has_is_taken(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "greet.yaml"
    file.write_text(FLOW)

    code = call(["run", str(file), "-i", "day=monday"])

    assert code == 0
    assert "INFO  say: monday" in capfd.readouterr().out


def test_the_demo_says_where_its_flows_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    code = call(["demo"])

    assert code == 3
    assert "[demo.flows.missing]\n  hint: run the demo in a checkout" in capfd.readouterr().err
