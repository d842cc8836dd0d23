"""Each hostile file through each door that files come in by: a problem with its code, and the process goes on."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from runner.cli.run import command as run
from runner.cli.validate import command as validate
from tests.hostile.yaml.corpus import CORPUS

Bounded = Callable[[], AbstractContextManager[None]]
FLOWS = "/api/v1/main/flows"
FINE = "id: fine\nnamespace: company.team\ntasks: [{id: a, type: core.log.Log, message: x}]\n"


def _bytes(source: str | bytes) -> bytes:
    return source if isinstance(source, bytes) else source.encode("utf-8", "surrogatepass")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "hostile.yaml"


@pytest.mark.parametrize("name", CORPUS)
def test_validate_names_the_code_and_exits_with_one(bounded: Bounded, file: Path, name: str) -> None:
    source, code = CORPUS[name]
    file.write_bytes(_bytes(source))

    with bounded():
        result = CliRunner().invoke(validate, [str(file)])

    assert result.exit_code == 1
    assert code in result.output
    assert len(result.output) < 20_000


@pytest.mark.parametrize("name", CORPUS)
def test_run_refuses_the_file(bounded: Bounded, file: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source, code = CORPUS[name]
    file.write_bytes(_bytes(source))
    monkeypatch.chdir(file.parent)

    with bounded():
        result = CliRunner().invoke(run, [str(file)], standalone_mode=False)

    assert result.return_value != 0
    assert code in result.output + str(getattr(result.exception, "code", ""))


def test_the_api_refuses_to_write_each_and_takes_a_good_flow_afterwards(git_api: Any, bounded: Bounded) -> None:
    wrong = []
    for name, (source, code) in CORPUS.items():
        with bounded():
            answer = git_api.post(FLOWS, content=_bytes(source), headers={"content-type": "application/x-yaml"})
        if answer.status_code not in {400, 413, 422} or len(answer.content) > 20_000:
            wrong.append((name, code, answer.status_code, answer.text[:200]))

    good = git_api.post(FLOWS, content=FINE, headers={"content-type": "application/x-yaml"})

    assert wrong == []
    assert good.status_code == 200


def test_the_api_checks_each(api: Any, bounded: Bounded) -> None:
    wrong = []
    for name, (source, code) in CORPUS.items():
        with bounded():
            answer = api.post(
                f"{FLOWS}/validate", content=_bytes(source), headers={"content-type": "application/x-yaml"}
            )
        verdicts = answer.json()
        told = code == "yaml.document.empty" or answer.status_code in {400, 413, 422} or "constraints" in str(verdicts)
        if answer.status_code >= 500 or not told:
            wrong.append((name, code, answer.status_code, answer.text[:200]))

    assert wrong == []
