"""Files of secrets by whoever may push: refused with a problem that quotes nothing, or exactly what was encrypted."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from runner.secrets.age import AgeKeys
from runner.secrets.encryption import Encryption
from runner.secrets.sealed import Seal, SealedFile, parse_sealed
from tests.servers import sops

FILE = "flows/team/_secrets.yaml"
TEXT = sops.payload("two_recipients")
ENC = "ENC[AES256_GCM,data:{},iv:{},tag:{},type:str]"
HEAD, _, ABOUT = TEXT.partition("sops:\n")
WORDS = ("correct horse", "abcdefgh", "eu-west-1", "AGE-SECRET-KEY")
ENCRYPTION = Encryption(b"e" * 32)


@pytest.fixture
def read(tmp_path: Path, optional: Callable[[str, str], NoReturn]) -> Callable[[str], SealedFile]:
    try:
        import pyrage  # noqa: F401 - whether it is there is the question
    except ImportError:
        optional("age", "pyrage is not installed")
    seal = Seal(AgeKeys(sops.key_file(tmp_path)), lambda: ENCRYPTION)
    return lambda text: parse_sealed(text.encode(), file=FILE, namespace="team", seal=seal)


def _with(name: str, value: str) -> str:
    return f"{HEAD}{name}: {value}\nsops:\n{ABOUT}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sops:",
        "sops: [1]",
        "a: &a [*a]\nsops: {}",
        "a: !!python/object/apply:os.system [id]\nsops: {age: []}",
        "sops: {age: {enc: x}}",
        "sops: {age: [[x]], mac: [1], lastmodified: {a: b}}",
        "sops: {age: [{enc: '" + "A" * 100_000 + "'}]}",
        'sops: {age: [{enc: "-----BEGIN AGE ENCRYPTED FILE-----\\n\\0\\n-----END AGE ENCRYPTED FILE-----"}]}',
        "sops: {shamir_threshold: 2, age: [{enc: x}]}",
        _with("a", ENC.format("", "", "")),
        _with("a", ENC.format("AAAA", "AA==", "AAAA")),
        _with("a", ENC.format("????", "????", "????")),
        _with("a", ENC.format("A" * 200_000, "A" * 44, "A" * 24)),
        _with("a", "{b: {c: [" + ENC.format("AAAA", "A" * 44, "A" * 24) + "]}}"),
        _with("a", "correct horse"),
        TEXT + TEXT,
        TEXT + "---\n" + TEXT,
        TEXT.replace("    mac: ENC", "    mac: correct horse ENC"),
        TEXT.replace("unencrypted_suffix: _unencrypted", "unencrypted_suffix: ''\n    mac_only_encrypted: true"),
        "a: " + "[" * 3_000 + "]" * 3_000,
        "'correct horse: [",
        "\ufeff\u202e: correct horse",
    ],
)
def test_a_hostile_file_is_refused_without_a_word_of_what_is_in_it(
    read: Callable[[str], SealedFile], text: str
) -> None:
    found = read(text)

    assert found.secrets == ()
    assert found.problems
    assert {each.file for each in found.problems} == {FILE}
    assert not any(word in repr(found) for word in WORDS)


def test_a_damaged_file_is_refused_or_gives_what_was_encrypted(read: Callable[[str], SealedFile]) -> None:
    choose = random.Random(7)
    whole = {each.key: ENCRYPTION.decrypt(each.sealed or "") for each in read(TEXT).secrets}
    refused = 0
    assert whole == {"TOKEN": "abcdefgh", "REGION": "eu-west-1"}
    for _ in range(150):
        place = choose.randrange(len(TEXT))
        found = read(TEXT[:place] + choose.choice("Aa0=\n: {['") + TEXT[place + choose.randrange(3) :])
        opened = {each.key: ENCRYPTION.decrypt(each.sealed or "") for each in found.secrets}
        refused += bool(found.problems)

        assert (opened == whole) is not bool(found.problems)
        assert not any(word in repr(found) for word in WORDS)
    assert refused > 75
