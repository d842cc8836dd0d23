"""What the report writer remembers of a branch between two commits, in the store."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

import orjson

from runner.reports.record import FlowRecord
from runner.settings import ReportSettings
from runner.store.session import Session
from sync.reports.batch import FlowKey

ENDINGS: Final = (".md", ".json", ".junit.xml", ".openlineage.jsonl", ".intoto.json")
"""Of the files of a run, whether or not there are all of them."""
_BRANCH: Final = "branch"
_PAGES: Final = "pages"
_PENDING: Final = "pending"
_FLOW: Final = "flow:"


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

    def add_days(self, days: Iterable[str]) -> None:
        """Remember folders of days."""
        self.days += [day for day in dict.fromkeys(days) if day not in self.days]

    def forget_branch(self) -> None:
        """Forget which pages and folders there are, since the branch is not there."""
        self.pages.clear()
        self.days.clear()
        self.month = ""

    def outdated(self, ran: Collection[FlowRecord], settings: ReportSettings, now: datetime) -> list[str]:
        """Forget, and return, the pages and folders that go: the old, the too many, those of runs long past.

        `ran` are the flows whose last runs changed. Folders of days go as a whole, with the pages in them.
        """
        first = _day(now - timedelta(days=settings.retention_days))
        gone = [day for day in self.days if day < first]
        self.days = [day for day in self.days if day >= first]
        for stem in [stem for stem in self.pages if _day_of(stem) < first]:
            del self.pages[stem]
        past = self._past(ran)
        for stem in past:
            del self.pages[stem]
        many = list(self.pages)[: max(len(self.pages) - settings.max_pages, 0)]
        for stem in many:
            del self.pages[stem]
        return [f"runs/{day}" for day in gone] + [f"{stem}{ending}" for stem in (*past, *many) for ending in ENDINGS]

    def _past(self, ran: Collection[FlowRecord]) -> list[str]:
        recent = {row.stem for record in ran for row in record.recent}
        flows = {(record.namespace, record.flow) for record in ran}
        return [
            stem for stem, stays in self.pages.items() if not stays and stem not in recent and _flow_of(stem) in flows
        ]


class RecordShelf:
    """What is remembered of all flows, read from the store. Records that did not change are not decoded again."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[int, FlowRecord]] = {}

    def read(self, db: Session, environments: Iterable[str]) -> dict[str, dict[FlowKey, FlowRecord]]:
        """Return the records of environments."""
        found: dict[str, dict[FlowKey, FlowRecord]] = {}
        for environment in environments:
            texts = [(key, text) for key, text in db.reports.texts(environment) if key.startswith(_FLOW)]
            records = [self._decoded(environment, key, text) for key, text in texts]
            found[environment] = {(record.namespace, record.flow): record for record in records}
        return found

    def _decoded(self, environment: str, key: str, text: str) -> FlowRecord:
        place, digest = (environment, key), hash(text)
        known = self._known.get(place)
        if known is None or known[0] != digest:
            known = self._known[place] = (digest, FlowRecord.from_json(orjson.loads(text)))
        return known[1]

    def write(self, db: Session, records: Iterable[tuple[str, FlowRecord]]) -> None:
        """Write records with the environments they belong to."""
        for environment, record in records:
            db.reports.put(environment, _key(record.namespace, record.flow), record.as_json())

    def forget(self, db: Session, flows: Iterable[tuple[str, FlowKey]]) -> None:
        """Remove the records of flows."""
        for environment, (namespace, flow) in flows:
            db.reports.delete(environment, _key(namespace, flow))
            self._known.pop((environment, _key(namespace, flow)), None)


def write_pending(db: Session, repository: str, writer: str, pending: Pending | None) -> None:
    """Remember a commit before it is made, or forget it."""
    key = f"{_PENDING}:{writer}"
    if pending is None:
        db.reports.delete(_place(repository), key)
    else:
        db.reports.put(_place(repository), key, {"path": pending.path, "rows": pending.rows, "pages": pending.pages})


def _key(namespace: str, flow: str) -> str:
    return f"{_FLOW}{namespace}/{flow}"


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
