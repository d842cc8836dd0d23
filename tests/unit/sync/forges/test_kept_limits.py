"""What forges say of their limits is kept for all processes, and written only where it is news."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from runner.store.records import ForgeLimit
from sync.forges.kept_limits import keep_limit
from sync.forges.limits import Limit
from tests.servers.store import fresh_store

NOW: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
ENDS: Final = NOW + timedelta(minutes=30)
KNOWN: Final = ForgeLimit("r", 1000, NOW, 5000, ENDS)


@pytest.mark.parametrize(
    ("remaining", "allowed", "resets_at", "is_news"),
    [
        (1000, 5000, ENDS, False),
        (901, 5000, ENDS + timedelta(seconds=59), False),
        (900, 5000, ENDS, True),
        (0, 5000, ENDS, True),
        (1000, 6000, ENDS, True),
        (1000, 5000, ENDS + timedelta(minutes=60), True),
        (1000, 5000, None, True),
    ],
)
def test_what_differs_little_is_not_written_again(
    remaining: int, allowed: int, resets_at: datetime | None, *, is_news: bool
) -> None:
    later = ForgeLimit("r", remaining, NOW + timedelta(minutes=1), allowed, resets_at)

    found = later.is_news(KNOWN)

    assert found is is_news
    assert later.is_news(None)


def test_the_store_holds_the_newest_and_its_failure_is_nobody_elses(tmp_path: Path) -> None:
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    with closing(fresh_store(f"sqlite:///{tmp_path / 'state.db'}", durability="off")) as store:
        for remaining in (60, 59, 3):
            keep_limit(store, "r", Limit(remaining, ends, 100))
        kept = store.read(lambda db: db.forge_limits.all())

    keep_limit(store, "r", Limit(1, ends, 100))  # it is closed

    assert [(each.remaining, each.allowed, each.resets_at) for each in kept] == [(3, 100, ends)]
