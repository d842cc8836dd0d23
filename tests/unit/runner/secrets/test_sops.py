"""Files that SOPS encrypted: what is opened, and what is refused without a word of what is in them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from runner.errors import InvalidError
from runner.flows.loader import load_value
from runner.secrets.age import AgeKeys
from runner.secrets.sops import SopsFile
from tests.servers import sops

WORDS = ("correct horse", "battery staple", "abcdefgh")


@pytest.fixture(autouse=True)
def pyrage(optional: Callable[[str, str], NoReturn]) -> Any:
    try:
        import pyrage
    except ImportError:
        optional("age", "pyrage is not installed")
    return pyrage


@pytest.fixture
def keys(tmp_path: Path) -> AgeKeys:
    return AgeKeys(sops.key_file(tmp_path))


def read(text: str) -> SopsFile:
    return SopsFile.of(load_value(text))


def test_a_file_that_sops_wrote_is_opened_type_by_type(keys: AgeKeys) -> None:
    found = read(sops.payload("every_type"))

    opened = found.opened(keys.open)

    assert list(opened) == found.names == ["DB_PASSWORD", "port", "ratio", "ready", "database", "text"]
    assert (opened["DB_PASSWORD"], opened["port"], opened["ratio"]) == ("correct horse", "54321", "1.5")
    assert (opened["ready"], opened["text"]) == ("true", "two\nlines ü\n")
    assert json.loads(opened["database"]) == {"user": "ann", "password": "battery staple", "hosts": ["one", 2]}


@pytest.mark.parametrize("name", ["encrypted_regex", "mac_only_encrypted"])
def test_what_is_not_encrypted_is_no_secret(keys: AgeKeys, name: str) -> None:
    assert read(sops.payload(name)).opened(keys.open) == {"token": "abcdefgh"}


def test_one_of_several_recipients_is_enough(keys: AgeKeys) -> None:
    assert read(sops.payload("two_recipients")).opened(keys.open) == {"token": "abcdefgh", "region": "eu-west-1"}


def _swapped(text: str) -> str:
    first, second = re.findall(r"(?m)^(?:DB_PASSWORD|text): (ENC\[.*\])$", text)
    return text.replace(first, "HELD").replace(second, first).replace("HELD", second)


def _flipped(text: str) -> str:
    return re.sub(r"(?m)^(port: ENC\[AES256_GCM,data:)(.)", lambda m: m[1] + ("A" if m[2] != "A" else "B"), text)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("every_type", _swapped),
        ("every_type", _flipped),
        ("every_type", lambda text: re.sub(r"(?m)^port: .*\n", "", text)),
        ("every_type", lambda text: text.replace("stage_unencrypted: lab", "stage_unencrypted: production")),
        ("every_type", lambda text: text.replace('empty: ""', "empty: more")),
        ("every_type", lambda text: text.replace("nothing: null", "nothing: some")),
        ("every_type", lambda text: re.sub(r"(?m)^(ratio: ENC.*)$\n(ready: ENC.*)$", r"\2\n\1", text)),
        ("every_type", lambda text: re.sub("lastmodified: .*", 'lastmodified: "2026-11-27T00:00:00Z"', text)),
        ("every_type", lambda text: re.sub("    mac: .*\n", "", text)),
        ("every_type", lambda text: re.sub("    mac: .*", "    mac: ''", text)),
        ("encrypted_regex", lambda text: text.replace("region: eu-west-1", "region: mars")),
        (
            "encrypted_regex",
            lambda text: text.replace("    lastmodified", "    mac_only_encrypted: true\n    lastmodified"),
        ),
        ("mac_only_encrypted", lambda text: text.replace("mac_only_encrypted: true", "mac_only_encrypted: false")),
        ("mac_only_encrypted", lambda text: text.replace("token: ENC", "other: ENC")),
    ],
)
def test_a_file_that_was_changed_without_sops_is_refused(keys: AgeKeys, name: str, spoil: Callable[[str], str]) -> None:
    text = sops.payload(name)
    changed = spoil(text)

    with pytest.raises(InvalidError) as raised:
        read(changed).opened(keys.open)

    assert changed != text
    assert raised.value.code == "secret.sealed.mac"
    assert not any(word in f"{raised.value} {raised.value.hint}" for word in WORDS)


def test_what_a_file_without_mac_only_does_not_cover_may_change(keys: AgeKeys) -> None:
    changed = sops.payload("mac_only_encrypted").replace("region: eu-west-1", "region: mars")

    assert read(changed).opened(keys.open) == {"token": "abcdefgh"}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("password: correct horse\n", "secret.sealed.invalid"),
        ("- 1\n", "secret.sealed.invalid"),
        ("a: 1\nsops: yes\n", "secret.sealed.invalid"),
        ("a: 1\nsops: {}\n", "secret.sealed.key"),
        ("a: 1\nsops: {age: [{recipient: x}, 7]}\n", "secret.sealed.key"),
        ("a: 1\nsops: {age: [{enc: nothing}]}\n", "secret.sealed.key"),
        ("a: 1\nsops: {key_groups: [{}]}\n", "secret.sealed.key"),
        (sops.payload("for_another"), "secret.sealed.key"),
    ],
)
def test_a_file_that_cannot_be_opened_says_why(keys: AgeKeys, text: str, code: str) -> None:
    with pytest.raises(InvalidError) as raised:
        read(text).opened(keys.open)

    assert raised.value.code == code
    assert not any(word in str(raised.value) for word in WORDS)


def test_names_need_no_key_and_marks_change_with_what_is_encrypted() -> None:
    found, other = read(sops.payload("every_type")), read(_flipped(sops.payload("every_type")))

    changed = [name for name in found.names if found.mark(name) != other.mark(name)]

    assert found.names == other.names
    assert changed == ["port"]


@pytest.mark.parametrize(
    ("content", "mode", "code", "words"),
    [
        (None, 0o600, "secret.sealed.key", "cannot be read"),
        ("", 0o600, "secret.sealed.key", "holds no age key"),
        ("AGE-SECRET-KEY-1NONSENSE\n", 0o600, "secret.sealed.key", "holds no age key"),
        ("AGE-SECRET-KEY-1NONSENSE\n", 0o644, "secret.file.mode", "may be read by others"),
    ],
)
def test_a_key_file_that_is_no_good_is_named(
    tmp_path: Path, content: str | None, mode: int, code: str, words: str
) -> None:
    path = tmp_path / "key.txt"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)

    with pytest.raises(InvalidError, match=words) as raised:
        read(sops.payload("every_type")).opened(AgeKeys(path).open)

    assert raised.value.code == code
    assert "NONSENSE" not in str(raised.value)


def test_a_server_without_a_key_says_which_setting_names_one() -> None:
    with pytest.raises(InvalidError) as raised:
        read(sops.payload("every_type")).opened(AgeKeys(None).open)

    assert (raised.value.code, "ageKeyFile" in (raised.value.hint or "")) == ("secret.sealed.key", True)


def test_what_sops_encrypts_here_and_now_is_opened(
    tmp_path: Path, keys: AgeKeys, optional: Callable[[str, str], NoReturn]
) -> None:
    program = shutil.which("sops")
    if program is None:
        optional("sops", "it is not on PATH")
    recipient = re.findall("age1[a-z0-9]+", (sops.PAYLOADS / "age.txt").read_text())[0]
    (tmp_path / "plain.yaml").write_text("token: abcdefgh\nmany: [a, {b: 1}]\nwhen: 2026-01-01\n")
    command = [program, "encrypt", "--age", recipient, "plain.yaml"]
    closed = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    opened = read(closed).opened(keys.open)

    assert (opened["token"], json.loads(opened["many"])) == ("abcdefgh", ["a", {"b": 1}])


def test_what_the_tests_encrypt_is_opened_by_sops_and_by_us(
    tmp_path: Path, keys: AgeKeys, pyrage: Any, optional: Callable[[str, str], NoReturn]
) -> None:
    text = sops.encrypted({"token": "abcdefgh", "other": "zwölf"}, pyrage)

    assert read(text).opened(keys.open) == {"token": "abcdefgh", "other": "zwölf"}
    program = shutil.which("sops")
    if program is None:
        optional("sops", "it is not on PATH")
    (tmp_path / "closed.yaml").write_text(text)
    environment = {"SOPS_AGE_KEY_FILE": str(keys.file), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    found = subprocess.run(
        [program, "decrypt", "closed.yaml"], cwd=tmp_path, check=True, capture_output=True, text=True, env=environment
    )
    assert load_value(found.stdout) == {"token": "abcdefgh", "other": "zwölf"}
