"""Change requests of strangers that ask for keys and secrets by name, to learn which there are and what they hold."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from runner.store.records import KeyValue, StoredSecret
from tests.servers.review_world import World

NOW = datetime(2026, 11, 26, 9, tzinfo=UTC)
ASKED = "balance: {value: 1, overwrite: true}\nguess: 4711\nnothing: 1\n"
ENCRYPTED = "ENC[AES256_GCM,data:AAAA,iv:AAAA,tag:AAAA,type:str]"
NAMED = f"set_by_hand: '{ENCRYPTED}'\nnever_set: '{ENCRYPTED}'\nsops: {{mac: x}}\n"


@pytest.mark.parametrize("forge", ["github"], indirect=True)
def test_a_stranger_learns_neither_what_keys_hold_nor_which_keys_and_secrets_there_are(world: World) -> None:
    def write(db: object) -> None:
        for key, value in (("balance", 98_765), ("guess", 4711)):
            db.kv.put(KeyValue("w", key, "NUMBER", value, NOW, NOW))  # type: ignore[attr-defined]
        db.secrets.put(StoredSecret("w", "SET_BY_HAND", "sealed", NOW))  # type: ignore[attr-defined]

    world.service._store.write(write)
    world.commit("topic", {"flows/w/_kv.yaml": ASKED, "flows/w/_secrets.yaml": NAMED})
    world.forge.open(7, "topic", is_fork=True)

    assert world.look()

    [comment] = world.forge.ours(7)
    assert "98765" not in comment
    rows = [
        line for line in comment.splitlines() if line.startswith("| `") and ("kv w." in line or "secret w." in line)
    ]
    assert len(rows) == 5
    assert {row.split("|")[2].strip() for row in rows} == {"added"}
