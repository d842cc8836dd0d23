"""What the doctor says of environments by the state that they are in."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runner.errors import MainstemError
from runner.store.records import Environment, ForgeLimit
from tests.servers.store import fresh_store
from webhooks.checkup.finding import Weight
from webhooks.checkup.repositories import _environment, check_limits

HEAD, OTHER = "a" * 40, "b" * 40


@dataclass
class Origin:
    """A repository with one tag."""

    tags: dict[str, str]

    def get(self, _name: str) -> Origin:
        return self

    def heads(self, _refs: object) -> dict[str, str]:
        if not self.tags:
            raise MainstemError("repository.unreachable", "nobody answers")
        return self.tags


def test_a_forge_that_takes_little_more_is_a_warning(tmp_path: Path) -> None:
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    ends = now + timedelta(minutes=20)
    rows = [
        ForgeLimit("few", 499, now, 5000, ends),
        ForgeLimit("many", 500, now, 5000, ends),
        ForgeLimit("over", 0, now, 5000, now),
        ForgeLimit("unknown", 1, now),
    ]
    with closing(fresh_store(f"sqlite:///{tmp_path / 'state.db'}", durability="off")) as store:
        for row in rows:
            store.write(lambda db, row=row: db.forge_limits.put(row))  # type: ignore[misc]  # bound at once

        found = list(check_limits(store, now))

    assert [(each.message, each.weight) for each in found] == [
        ("few: 499 of 5000 requests left at 12:00 UTC, begins anew at 12:20 UTC", Weight.WARNING),
        ("many: 500 of 5000 requests left at 12:00 UTC, begins anew at 12:20 UTC", Weight.OK),
        ("unknown: 1 requests left at 12:00 UTC", Weight.OK),
    ]


@pytest.mark.parametrize(
    ("state", "commit", "words", "weight"),
    [
        ("OK", HEAD, "r/prod: refs/tags/v1 at aaaaaaa, in sync", Weight.OK),
        ("WAITING", HEAD, "waits for its checks", Weight.WARNING),
        ("DEGRADED", HEAD, "is not activated, aaaaaaa stays active", Weight.WARNING),
        ("DETACHED", OTHER, "the tag v1 was moved from aaaaaaa to bbbbbbb", Weight.WARNING),
        ("OK", OTHER, "at bbbbbbb, active is aaaaaaa", Weight.WARNING),  # a moved tag that is followed
        ("DETACHED", None, "nobody answers", Weight.ERROR),
    ],
)
def test_a_state_is_told_with_what_to_do(state: str, commit: str | None, words: str, weight: Weight) -> None:
    environment = Environment(
        "prod",
        "r",
        ref="refs/tags/v*",
        active=HEAD,
        state=state,
        message="waits for its checks",
        followed="refs/tags/v1",
        followed_commit=HEAD,
    )
    origin = Origin({"refs/tags/v1": commit} if commit else {})

    finding = _environment(environment, origin)  # type: ignore[arg-type]  # all that is asked of the origins

    assert words in finding.message
    assert finding.weight is weight
