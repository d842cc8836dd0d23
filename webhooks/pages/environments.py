"""The page of environments: what is active, what should be, what is wrong, and how the last syncs went."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from runner.access import Permission
from runner.store import Session
from runner.store.records import Environment, Pin, Repository, Revision
from sync.signatures.verdict import CommitSignature
from webhooks.call import Call
from webhooks.pages.page import Page, render

_SHOWN_SYNCS = 8


@dataclass(frozen=True, slots=True)
class Followed:
    """An environment as the page shows it, with its newest revisions, the newest first.

    `signature` says who signed what is active, None where no policy asks.
    """

    environment: Environment
    repository: Repository | None
    pin: Pin | None
    revisions: tuple[Revision, ...]
    signature: str | None

    @property
    def newest(self) -> Revision | None:
        """Return the revision of the commit that git named last; orders such as a rollback name others."""
        return next((each for each in self.revisions if each.action == "sync"), None)

    @property
    def is_behind(self) -> bool:
        """Whether the commit that git named last is not what is active."""
        return self.newest is not None and self.newest.commit != self.environment.active

    @property
    def problems(self) -> tuple[dict[str, Any], ...]:
        """Return what keeps the newest commit from being active."""
        return self.newest.problems if self.newest is not None and self.is_behind else ()


def show(call: Call) -> Any:
    """Answer with all environments."""

    def read(db: Session) -> list[Followed]:
        return [
            Followed(
                each,
                db.repositories.get(each.repository),
                db.pins.get(each.name),
                tuple(db.revisions.list(each.name, _SHOWN_SYNCS)),
                _signed(db.revisions.signature_of(each.name, each.active or "")),
            )
            for each in db.environments.all()
        ]

    found = call.services.store.read(read)
    return render(call, "environments.html", environments=found, now=datetime.now(UTC))


def _signed(found: dict[str, Any] | None) -> str | None:
    signature = CommitSignature.from_json(found)
    return signature.line if signature is not None else None


def pages() -> list[Page]:
    """Return the pages of this file."""
    return [Page("/environments", Permission.SYNC_READ, show)]
