from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from runner.errors import InvalidError, MainstemError
from runner.secrets.encryption import SEALED, Encryption, is_sealed


def test_what_was_encrypted_comes_back_and_looks_different_each_time(tmp_path: Path) -> None:
    encryption = Encryption.open(tmp_path)

    first, second = encryption.encrypt("größer"), encryption.encrypt("größer")

    assert first != second
    assert [encryption.decrypt(text) for text in (first, second)] == ["größer", "größer"]
    assert Encryption.open(tmp_path).decrypt(first) == "größer"


def test_the_key_file_is_for_the_owner_only(tmp_path: Path) -> None:
    Encryption.open(tmp_path / "home")

    assert [path.name for path in (tmp_path / "home").iterdir()] == ["encryption.key"]
    assert stat.S_IMODE((tmp_path / "home" / "encryption.key").stat().st_mode) == 0o600


def test_of_processes_that_start_at_once_one_makes_the_key(tmp_path: Path) -> None:
    made: list[Encryption] = []
    threads = [threading.Thread(target=lambda: made.append(Encryption.open(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    text = made[0].encrypt("same key")

    assert [one.decrypt(text) for one in made] == ["same key"] * 8


@pytest.mark.parametrize("damage", ["", "AAAA", "not base64!", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"])
def test_a_value_of_another_key_or_a_changed_one_is_refused(tmp_path: Path, damage: str) -> None:
    other = Encryption.open(tmp_path / "other").encrypt("x")

    for text in (damage, other):
        with pytest.raises(MainstemError) as caught:
            Encryption.open(tmp_path / "own").decrypt(text)
        assert caught.value.code == "encryption.value.invalid"


def test_a_key_file_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "encryption.key").write_text("c2hvcnQ=")

    with pytest.raises(InvalidError, match="5 bytes, not 32"):
        Encryption.open(tmp_path)


def test_sealed_values_are_opened_wherever_they_stand(tmp_path: Path) -> None:
    encryption = Encryption.open(tmp_path)
    heard: list[str] = []
    sealed = encryption.seal("password")

    opened = encryption.unseal({"a": [sealed, 1], "b": {"type": "other", "value": "x"}}, heard.append)

    assert is_sealed(sealed)
    assert sealed["type"] == SEALED
    assert opened == {"a": ["password", 1], "b": {"type": "other", "value": "x"}}
    assert heard == ["password"]
