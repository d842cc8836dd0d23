"""Secrets that are set in the store: sealed, seen by all processes at once, asked before all others."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runner.errors import InvalidError, MainstemError, NotFoundError
from runner.secrets.base import Secrets
from runner.secrets.encryption import Encryption
from runner.secrets.environment import EnvironmentSecrets
from runner.secrets.stored import About, StoredSecrets
from runner.store import Store
from task_runners.masking import Masker

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
KEY = Encryption(b"k" * 32)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store.open(f"sqlite:///{tmp_path / 'state.db'}", durability="off")
    yield found
    found.close()


def test_the_nearest_namespace_wins_and_what_was_set_wins_over_the_environment(store: Store) -> None:
    own = StoredSecrets(store, KEY)
    secrets = Secrets([EnvironmentSecrets({"TOKEN": "of-the-environment", "OTHER": "elsewhere"})], own=own)
    own.put("company", "token", "of-the-company", NOW)
    own.put("company.team", "TOKEN", "of-the-team", NOW)

    found = [secrets.get(place, "Token") for place in ("company.team.sub", "company.teamster", "other")]

    assert found == ["of-the-team", "of-the-company", "of-the-environment"]
    assert secrets.keys("company") == ["OTHER", "TOKEN"]
    assert secrets.given("company") == ["OTHER", "TOKEN"]
    assert own.keys("other") == []


def test_another_process_sees_and_masks_what_was_set_replaced_and_removed(store: Store) -> None:
    masker = Masker()
    here = StoredSecrets(store, KEY)
    there = Secrets([], masker.add, StoredSecrets(store, KEY))
    here.put("company", "TOKEN", "the-first-value", NOW)
    there.renew()
    here.put("company", "TOKEN", "the-second-value", NOW)
    second = there.get("company", "TOKEN")
    here.delete("company", "TOKEN")

    with pytest.raises(MainstemError, match="Cannot find secret"):
        there.get("company", "TOKEN")

    assert second == "the-second-value"
    assert masker.mask("the-first-value the-second-value") == "****** ******"


def test_the_store_holds_no_value_in_the_clear(store: Store, tmp_path: Path) -> None:
    own = StoredSecrets(store, KEY)

    own.put("company", "TOKEN", "correct-horse-battery", NOW, About("of the forge", {"owner": "data"}))
    own.describe("company", "token", About("of another forge"), NOW)

    row = own.find("company", "TOKEN")
    assert (row.description, row.tags, own.get("company", "TOKEN")) == ("of another forge", {}, "correct-horse-battery")
    store.close()
    assert all(b"correct-horse" not in file.read_bytes() for file in tmp_path.iterdir())


def test_what_another_key_sealed_harms_nobody_but_those_who_ask_for_it(store: Store) -> None:
    StoredSecrets(store, Encryption(b"o" * 32)).put("company", "OLD", "sealed-by-another", NOW)
    own = StoredSecrets(store, KEY)
    secrets = Secrets([], own=own)
    own.put("company", "NEW", "sealed-by-this-one", NOW)

    with pytest.raises(MainstemError) as caught:
        secrets.get("company", "OLD")

    assert caught.value.code == "encryption.value.invalid"
    assert secrets.get("company", "NEW") == "sealed-by-this-one"
    assert secrets.keys("company") == ["NEW", "OLD"]


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("", "long enough", "secret.key.invalid"),
        ("a b", "long enough", "secret.key.invalid"),
        ("../etc", "long enough", "secret.key.invalid"),
        ("K" * 201, "long enough", "secret.key.invalid"),
        ("KEY\n", "long enough", "secret.key.invalid"),
        ("KEY", "", "secret.value.invalid"),
        ("KEY", "123", "secret.value.invalid"),
        ("KEY", "with\0nul", "secret.value.invalid"),
        ("KEY", "x" * 65_537, "secret.value.invalid"),
    ],
)
def test_what_is_no_key_or_could_not_be_masked_is_refused(store: Store, key: str, value: str, code: str) -> None:
    own = StoredSecrets(store, KEY)

    with pytest.raises(InvalidError) as caught:
        own.put("company", key, value, NOW)

    assert caught.value.code == code
    assert value not in str(caught.value) or not value
    assert own.all() == []


def test_only_what_was_set_in_this_very_namespace_is_removed_or_described(store: Store) -> None:
    own = StoredSecrets(store, KEY)
    own.put("company", "TOKEN", "of-the-company", NOW)

    for act in (
        lambda: own.delete("company.team", "TOKEN"),
        lambda: own.describe("company", "NOTHING", About(), NOW),
        lambda: own.find("company.team", "TOKEN"),
    ):
        with pytest.raises(NotFoundError):
            act()

    assert own.get("company.team", "TOKEN") == "of-the-company"
