"""Which rows of the ledger have their page on the branch of reports already, and the files of those that have not."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Self

from runner.reports.deployment_page import Deployment, deployment_name, deployment_page, deployments_page
from runner.reports.values import Mask
from runner.store.records import Revision
from runner.store.session import Session

MOST_PAGES: Final = 100
_KEY: Final = "deployments"
_MOST_ROWS: Final = 50

Bound = Callable[[Revision], Deployment]
"""Gives a row of the ledger what its page links to."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the branch says of an environment: the id of its last row, and the names of pages, the oldest first."""

    last: int = 0
    pages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deployed:
    """The last deployments of an environment, the newest first, and what was told of them before and is now."""

    environment: str
    rows: tuple[Revision, ...]
    before: Told
    told: Told

    @classmethod
    def read(cls, db: Session, environment: str, first: datetime, *, is_new: bool = False) -> Self:
        """Return what is to be told of an environment; pages of deployments before `first` go.

        With `is_new` nothing that was told is there any more.
        """
        found = db.reports.get(environment, _KEY) or {}
        before = Told(found.get("last", 0), () if is_new else tuple(found.get("pages", ())))
        last = db.revisions.last(environment)
        rows = tuple(db.revisions.list(environment, _MOST_ROWS)) if is_new or last > before.last else ()
        fresh = [row for row in reversed(rows) if (is_new or row.id > before.last) and _has_page(row)]
        pages = [*before.pages, *(deployment_name(row) for row in fresh)]
        told = Told(last, tuple(page for page in pages[-MOST_PAGES:] if page >= f"{first.astimezone(UTC):%Y%m%d}"))
        return cls(environment, rows, before, told)

    @property
    def fresh(self) -> list[Revision]:
        """Return the rows that get a page now, the newest first."""
        known = set(self.before.pages)
        return [row for row in self.rows if (name := deployment_name(row)) in self.told.pages and name not in known]

    def files(self, bound: Bound, mask: Mask) -> dict[str, bytes | None]:
        """Return the files that are to be written, None for one that goes; nothing where nothing is new."""
        folder = f"{self.environment}/{_KEY}"
        files: dict[str, bytes | None] = {
            f"{folder}/{name}.md": None for name in self.before.pages if name not in self.told.pages
        }
        for row in self.fresh:
            files[f"{folder}/{deployment_name(row)}.md"] = _bytes(deployment_page(bound(row), mask))
        if self.rows:
            index = deployments_page(self.environment, self.rows, self.told.pages, mask)
            files[f"{folder}/README.md"] = _bytes(index)
        return files

    def remember(self, db: Session, *, is_there: bool = True) -> None:
        """Write down what is told now; where there is no branch yet, that nothing is to be done before there is."""
        if self.rows or self.told != self.before:
            pages = list(self.told.pages) if is_there else []
            db.reports.put(self.environment, _KEY, {"last": self.told.last, "pages": pages})


def is_behind(db: Session, environments: Iterable[str]) -> bool:
    """Whether the ledger of an environment has rows that the branch does not tell."""
    return any(db.revisions.last(name) > (db.reports.get(name, _KEY) or {}).get("last", 0) for name in environments)


def _has_page(row: Revision) -> bool:
    # A commit that touches no flow and was nobody's order is in the list alone.
    return row.result != "UNCHANGED" or row.action != "sync"


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")
