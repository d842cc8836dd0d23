"""What the doctor says of signatures before a commit is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runner.settings import EnvironmentSettings, Settings, SignatureSettings
from tests.servers.signers import Signers
from webhooks.checkup.finding import Finding, Patient, Weight
from webhooks.checkup.signatures import check_signatures


def found(folder: Path, **policy: Any) -> list[Finding]:
    environment = EnvironmentSettings(name="prod", repository="hosted", signatures=SignatureSettings(**policy))
    plain = EnvironmentSettings(name="test", repository="hosted")
    return list(check_signatures(Patient(Settings(home=folder, environments=(environment, plain)), {})))


def test_keys_and_programs_that_are_there_are_one_line(tmp_path: Path, signers: Signers) -> None:
    [finding] = found(tmp_path, required=True, keys=[signers.listed("ann"), signers.armored("ann")])

    assert finding.weight is Weight.OK
    assert finding.message == "prod: commits must be signed, 2 keys are listed in the settings"


def test_a_program_that_is_missing_is_an_error_where_a_key_needs_it(
    tmp_path: Path, ssh_signers: Signers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    told = {each.message: each.weight for each in found(tmp_path, keys=[ssh_signers.listed("ann")])}
    alone = found(tmp_path, keys=[ssh_signers.listed("ann")], in_repository=False)

    assert told == {
        "prod: there is no program ssh-keygen: commits with SSH signatures will be refused": Weight.ERROR,
        "prod: there is no program gpg: commits with OpenPGP signatures will be refused": Weight.WARNING,
    }
    assert [each.weight for each in alone] == [Weight.ERROR]


def test_lists_without_keys_and_lines_that_are_none_are_named(tmp_path: Path, ssh_signers: Signers) -> None:
    keys = tmp_path / "keys"
    keys.write_text("# ours\n\nnonsense\n")

    wrong = found(tmp_path, key_files=[keys], in_repository=False)
    elsewhere = found(tmp_path)

    assert [each.weight for each in wrong] == [Weight.ERROR, Weight.ERROR]
    assert wrong[0].message.startswith("prod: keys:3: this is no line of an allowed_signers file")
    assert wrong[1].message == "prod: no key is listed, so that no commit can count"
    assert [each.message for each in elsewhere if "program" not in each.message] == [
        "prod: keys are listed by its repository alone"
    ]


@pytest.mark.parametrize("content", ["nonsense", None])
def test_a_key_that_cannot_sign_is_an_error(tmp_path: Path, ssh_signers: Signers, content: str | None) -> None:
    key = tmp_path / "key"
    if content is not None:
        key.write_text(content)
        key.chmod(0o600)

    [finding] = found(tmp_path, keys=[ssh_signers.listed("ann")], signing_key=key, in_repository=False)

    assert finding.weight is Weight.ERROR
    assert finding.message.startswith(f"prod: {key} cannot sign: ")
    assert finding.advice is not None
