"""What the report writer remembers of a branch between two commits, in the store."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

from runner.reports.record import FlowRecord
from runner.settings import ReportSettings
from runner.store.session import Session

_BRANCH: Final = "branch"
_PAGES: Final = "pages"
_PENDING: Final = "pending"
_FLOW: Final = "flow:"
FlowKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Pending:
    """A commit that is about to be made: whether it was made is seen by its file of rows, whose name is its own.

    `rows` are outbox ids with the executions they are about; `pages` as in `Ledger`.
    """

    path: str
    rows: tuple[tuple[int, str], ...]
    pages: dict[str, bool] = field(default_factory=dict)


@dataclass(slots=True)
class Ledger:
    """The state of one branch.

    `pages` maps the stem of each page to whether it stays when its run is no longer among the flow's last 20.
    `days` are the folders of days. `hour` and `rows` count the lines of this hour; `month` is that of the last commit.
    """

    month: str = ""
    hour: str = ""
    rows: int = 0
    days: list[str] = field(default_factory=list)
    pages: dict[str, bool] = field(default_factory=dict)
    pending: Pending | None = None

    @classmethod
    def read(cls, db: Session, repository: str, writer: str) -> Self:
        """Return the ledger of a repository's branch."""
        place = _place(repository)
        known: dict[str, Any] = db.reports.get(place, _BRANCH) or {}
        pending = db.reports.get(place, f"{_PENDING}:{writer}")
        return cls(
            **known,
            pages=dict(db.reports.get(place, _PAGES) or []),
            pending=Pending(pending["path"], tuple(map(tuple, pending["rows"])), pending["pages"]) if pending else None,
        )

    def write(self, db: Session, repository: str, writer: str) -> None:
        """Write everything but what is pending, which this ends."""
        place = _place(repository)
        branch = {"month": self.month, "hour": self.hour, "rows": self.rows, "days": self.days}
        db.reports.put(place, _BRANCH, branch)
        db.reports.put(place, _PAGES, list(self.pages.items()))
        db.reports.delete(place, f"{_PENDING}:{writer}")

    def lines_left(self, now: datetime, most: int) -> int:
        """Return how many more lines this hour may have."""
        return most if self.hour != _hour(now) else max(most - self.rows, 0)

    def counted(self, now: datetime, lines: int) -> None:
        """Count lines of this hour."""
        if self.hour != _hour(now):
            self.hour, self.rows = _hour(now), 0
        self.rows += lines

    def outdated(self, records: Mapping[FlowKey, FlowRecord], settings: ReportSettings, now: datetime) -> list[str]:
        """Forget, and return, the pages and folders that go: the old, the too many, those of runs long past.

        `records` are the flows whose last runs changed. Folders of days go as a whole, with the pages in them.
        """
        first = _day(now - timedelta(days=settings.retention_days))
        gone = [day for day in self.days if day < first]
        self.days = [day for day in self.days if day >= first]
        for stem in [stem for stem in self.pages if _day_of(stem) < first]:
            del self.pages[stem]
        stems = [
            *self._past(records),
            *list(self.pages)[: max(len(self.pages) - settings.max_pages, 0)],
        ]
        for stem in stems:
            self.pages.pop(stem, None)
        return [f"runs/{day}" for day in gone] + [f"{stem}{ending}" for stem in stems for ending in (".md", ".json")]

    def _past(self, records: Mapping[FlowKey, FlowRecord]) -> list[str]:
        recent = {row.stem for record in records.values() for row in record.recent}
        return [
            stem for stem, stays in self.pages.items() if not stays and stem not in recent and _flow_of(stem) in records
        ]


def write_pending(db: Session, repository: str, writer: str, pending: Pending | None) -> None:
    """Remember a commit before it is made, or forget it."""
    key = f"{_PENDING}:{writer}"
    if pending is None:
        db.reports.delete(_place(repository), key)
    else:
        db.reports.put(_place(repository), key, {"path": pending.path, "rows": pending.rows, "pages": pending.pages})


def read_records(db: Session, environments: Iterable[str]) -> dict[str, dict[FlowKey, FlowRecord]]:
    """Return what is remembered of all flows, by environment."""
    found: dict[str, dict[FlowKey, FlowRecord]] = {}
    for environment in environments:
        values = db.reports.all(environment)
        records = [FlowRecord.from_json(value) for key, value in values.items() if key.startswith(_FLOW)]
        found[environment] = {(record.namespace, record.flow): record for record in records}
    return found


def write_records(db: Session, environment: str, records: Collection[FlowRecord]) -> None:
    """Remember flows."""
    for record in records:
        db.reports.put(environment, f"{_FLOW}{record.namespace}/{record.flow}", record.as_json())


def _place(repository: str) -> str:
    # No environment has this name: `@` stands in no name that may be declared.
    return f"@{repository}"


def _hour(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y%m%d%H}"


def _day(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y/%m/%d}"


def _day_of(stem: str) -> str:
    return stem.removeprefix("runs/")[:10]


def _flow_of(stem: str) -> FlowKey:
    namespace, flow = stem.split("/")[4:6]
    return namespace, flow
