"""What may be declared of repositories."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from runner.errors import InvalidError
from runner.settings import RepositorySettings, Settings
from runner.store.records import ForgeLimit
from sync.origins import Origins
from tests.servers.store import fresh_store

ELSEWHERE = "https://git.example.org/a.git"


@pytest.fixture
def declared(tmp_path: Path) -> Iterator[Callable[..., Origins]]:
    store = fresh_store(f"sqlite:///{tmp_path / 'state.db'}", durability="off")

    def declare(**fields: Any) -> Origins:
        settings = Settings(home=tmp_path, repositories=(RepositorySettings(**fields),))
        origins = Origins(store, settings, tmp_path)
        origins.declare()
        return origins

    yield declare
    store.close()


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "hosted", "url": ELSEWHERE},
        {"name": "hosted", "url": ELSEWHERE, "kind": "hosted"},
        {"name": "other", "kind": "hosted"},
    ],
)
def test_only_the_server_s_own_repository_is_called_hosted(declared: Any, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidError) as caught:
        declared(**fields)

    assert caught.value.code == "repository.name.invalid"


def test_a_kind_of_forge_that_does_not_exist_is_named_with_those_that_do(declared: Any) -> None:
    with pytest.raises(InvalidError) as caught:
        declared(name="team", url=ELSEWHERE, kind="githab")

    assert caught.value.code == "repository.kind.unknown"
    assert "github, gitlab" in str(caught.value.hint)


def test_the_hosted_repository_may_be_given_webhook_secrets(declared: Any) -> None:
    origins = declared(name="hosted", kind="hosted", webhook_secret="new", previous_webhook_secret="old")

    found = origins.credentials("hosted")

    assert (found.kind, found.webhook_secret, found.previous_webhook_secret) == ("hosted", "new", "old")
    assert found.url.endswith("/git/flows.git")


def test_secrets_of_the_settings_are_never_stored(declared: Any) -> None:
    origins = declared(name="team", url=ELSEWHERE, kind="github", password="p4ss", webhook_secret="s3cret")

    stored = origins._store.read(lambda db: db.repositories.get("team"))

    assert (stored.password, stored.webhook_secret) == (None, None)
    assert origins.credentials("team").webhook_secret == "s3cret"


def test_the_limit_of_a_repository_leaves_with_it(declared: Any) -> None:
    store = declared(name="gone", url=ELSEWHERE, kind="github")._store
    for name in ("gone", "team"):
        store.write(lambda db, name=name: db.forge_limits.put(ForgeLimit(name, 9, datetime(2026, 3, 1, tzinfo=UTC))))

    declared(name="team", url=ELSEWHERE, kind="github")

    assert [each.repository for each in store.read(lambda db: db.forge_limits.all())] == ["team"]
