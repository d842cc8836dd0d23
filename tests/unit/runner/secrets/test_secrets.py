from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import ExpressionError, InvalidError
from runner.secrets.base import Secrets
from runner.secrets.environment import EnvironmentSecrets
from runner.secrets.file import FileSecrets
from task_runners.masking import Masker


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_keys_are_compared_without_regard_to_case() -> None:
    secrets = Secrets([EnvironmentSecrets({"My_Secret": "value"})])

    assert secrets.get("any.where", "my_secret") == secrets.get("any", "MY_SECRET") == "value"


def test_a_missing_secret_is_named_in_the_words_of_kestra() -> None:
    with pytest.raises(ExpressionError) as caught:
        Secrets([EnvironmentSecrets({})]).get("company", "absent")

    assert caught.value.message == "Cannot find secret for key 'absent'."


def test_the_nearest_namespace_wins_and_the_first_backend_before_that(tmp_path: Path) -> None:
    text = "company: {KEY: outer, ONLY_OUTER: o}\ncompany.team: {key: inner}\ncompany.teamster: {KEY: wrong}\n"
    secrets = Secrets([FileSecrets(write(tmp_path / "s.yaml", text)), EnvironmentSecrets({"KEY": "env", "E": "e"})])

    found = [secrets.get(place, "key") for place in ("company", "company.team", "company.team.sub", "other")]

    assert found == ["outer", "inner", "inner", "env"]
    assert secrets.get("company.team", "only_outer") == "o"
    assert secrets.keys("company.team") == ["E", "KEY", "ONLY_OUTER"]


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    backend = FileSecrets(path)
    before = backend.get("a", "k")
    write(path, "a: {k: first value}\n")
    first = backend.get("a", "k")
    write(path, "a: {k: another value}\n")

    assert (before, first, backend.get("a", "k")) == (None, "first value", "another value")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "s.yaml", "a: {k: v}", mode)

    with pytest.raises(InvalidError) as caught:
        FileSecrets(path)

    assert caught.value.code == "secret.file.mode"
    assert caught.value.hint == f"chmod 600 {path}"


@pytest.mark.parametrize("text", ["a: {k: hunter2", "- hunter2", "a: hunter2", "a: {k: [hunter2]}", "a: {k: 12345}"])
def test_a_malformed_file_is_refused_without_telling_what_is_in_it(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidError) as caught:
        FileSecrets(write(tmp_path / "s.yaml", text))

    assert caught.value.code == "secret.file.invalid"
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"
    assert "12345" not in str(caught.value)


def test_a_field_of_a_json_secret_is_taken_by_its_name() -> None:
    secrets = Secrets([EnvironmentSecrets({"DB": '{"user": "me", "port": 5432}', "TEXT": "no json"})])

    assert secrets.get("n", "db", "user") == "me"
    assert secrets.get("n", "db", "port") == "5432"
    for key, field in (("db", "absent"), ("text", "user")):
        with pytest.raises(ExpressionError, match="sub-key"):
            secrets.get("n", key, field)


def test_every_value_is_masked_from_the_start_and_fields_of_json_too(tmp_path: Path) -> None:
    masker = Masker()
    Secrets(
        [
            FileSecrets(write(tmp_path / "s.yaml", "a: {k: from the file}")),
            EnvironmentSecrets({"E": "from the environment", "J": '{"field": "inside json"}'}),
        ],
        masker.add,
    )

    assert masker.mask("x from the file y") == "x ****** y"
    assert masker.mask("from the environment") == "******"
    assert masker.mask("inside json!") == "******!"


def test_a_value_that_another_process_reads_first_is_masked_when_renewed(tmp_path: Path) -> None:
    masker = Masker()
    path = write(tmp_path / "s.yaml", "a: {k: known from the start}")
    secrets = Secrets([FileSecrets(path)], masker.add)
    write(path, "a: {k: known from the start, l: set much later}")
    assert masker.mask("set much later") == "set much later"

    secrets.renew()

    assert masker.mask("set much later") == "******"
