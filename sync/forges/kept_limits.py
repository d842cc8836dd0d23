"""Keeps what forges say of their limits in the store: every process tells what the one that asks was told."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from runner.store import Session, Store
from runner.store.records import ForgeLimit
from sync.forges.limits import Limit

log = logging.getLogger(__name__)


def keep_limit(store: Store, repository: str, limit: Limit) -> None:
    """Write what a forge said just now where it is news. Never raises: it is a figure, and what was asked is done."""
    found = ForgeLimit(repository, limit.remaining, datetime.now(UTC), limit.allowed, limit.resets_at)

    def is_news(db: Session) -> bool:
        return found.is_news(db.forge_limits.get(repository))

    try:
        if store.read(is_news):
            store.write(lambda db: db.forge_limits.put(found))
    except Exception:  # it is only told: what was asked of the forge goes on
        log.exception("the limit of a forge cannot be written", extra={"repository": repository})
