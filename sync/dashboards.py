"""Dashboards of git: which a commit wants, and what becomes of those that are there.

An id names one dashboard of the whole instance, and the environment whose commit brought it owns it. A dashboard in a
folder of a namespace is seen by those who may read that namespace; one at the top is seen by all who may read flows.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from runner.dashboards.models import Dashboard
from runner.dashboards.parse import ParsedDashboard, parse_dashboard
from runner.errors import InvalidError, Problem
from runner.store.records import StoredDashboard
from sync.layout import FlowPlace, Layout, dashboard_place

_LARGE: Final = 64 << 10
"""A dashboard of more bytes is parsed anew by each plan."""


class DashboardChangeKind(enum.StrEnum):
    """What happens to a dashboard."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class WantedDashboard:
    """A dashboard as a commit has it. `namespace` is None for one that stands in the folder of none."""

    id: str
    title: str
    source: str
    path: str
    namespace: str | None = None

    def is_said_by(self, row: StoredDashboard) -> bool:
        """Whether the store has what git says."""
        return (row.source, row.path, row.namespace) == (self.source, self.path, self.namespace)

    def difference_to(self, row: StoredDashboard) -> str:
        """Return what changes, in a few words."""
        if row.source == self.source:
            return f"{row.path} -> {self.path}"
        return f"{row.title!r} -> {self.title!r}" if row.title != self.title else ""


@dataclass(frozen=True, slots=True)
class DashboardChange:
    """A dashboard that a plan touches. `note` says what changes."""

    kind: DashboardChangeKind
    id: str
    file: str | None = None
    note: str | None = None
    wanted: WantedDashboard | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Return how a plan calls it."""
        return f"dashboard {self.id}"

    def as_json(self) -> dict[str, Any]:
        """Return the row as the API shows it."""
        return {"kind": self.kind.value, "id": self.id, "path": self.file, "note": self.note}


def dashboard_change_of(row: Mapping[str, Any]) -> DashboardChange:
    """Return what `DashboardChange.as_json` made a row of, without the dashboard."""
    return DashboardChange(DashboardChangeKind(row["kind"]), row["id"], row["path"], row["note"])


@dataclass(frozen=True, slots=True)
class WantedDashboards:
    """The dashboards that a commit wants, each once, and where each id stands in its file."""

    by_id: Mapping[str, WantedDashboard] = field(default_factory=dict)

    @classmethod
    def of(cls, wanted: Iterable[WantedDashboard]) -> tuple[WantedDashboards, list[Problem]]:
        """Return what files want, and a problem for each id that stands in two of them."""
        found: dict[str, WantedDashboard] = {}
        problems: list[Problem] = []
        for each in wanted:
            first = found.setdefault(each.id, each)
            if first is not each:
                text = f"{first.path} is the dashboard {each.id!r} already"
                problems.append(at_id(each, "dashboard.id.duplicate", text))
        return cls(found), problems


def gathered_dashboards(
    paths: Iterable[str], layout: Layout, read: Callable[[str], bytes]
) -> tuple[WantedDashboards, list[Problem]]:
    """Return the dashboards among the files `paths`, and what is wrong with them."""
    wanted: list[WantedDashboard] = []
    problems: list[Problem] = []
    places = {path: place for path in paths if (place := dashboard_place(path, layout))}
    for path in sorted(places):
        try:
            content = read(path)
        except InvalidError as error:
            problems.append(Problem(error.code, error.message, file=path))
            continue
        parsed = _remembered(content, path) if len(content) <= _LARGE else parse_dashboard(content, file=path)
        problems += parsed.problems
        if parsed.dashboard is not None:
            wanted.append(_wanted(parsed.dashboard, places[path], content))
    found, doubled = WantedDashboards.of(wanted)
    return found, [*problems, *doubled]


@lru_cache(maxsize=500)
def _remembered(content: bytes, path: str) -> ParsedDashboard:
    # Most plans find the dashboards of the plan before.
    return parse_dashboard(content, file=path)


def _wanted(dashboard: Dashboard, place: FlowPlace, content: bytes) -> WantedDashboard:
    return WantedDashboard(dashboard.id, dashboard.title, content.decode(), place.path, place.namespace)


def at_id(wanted: WantedDashboard, code: str, text: str, hint: str | None = None) -> Problem:
    """Return a problem of the id of a dashboard."""
    lines = wanted.source.splitlines()
    line = next((number for number, each in enumerate(lines, 1) if each.startswith(("id:", '"id":', "'id':"))), 1)
    return Problem(code, text, file=wanted.path, line=line, column=1, hint=hint)


# ---------------------------------------------------------------- decisions


def decided(
    dashboards: WantedDashboards, stand: Mapping[str, StoredDashboard], environment: str
) -> list[DashboardChange]:
    """Return what becomes of dashboards, by id; `stand` is what there is. Those of others stay as they are."""
    kinds, changes = DashboardChangeKind, []
    for wanted in dashboards.by_id.values():
        row = stand.get(wanted.id)
        if row is None:
            changes.append(DashboardChange(kinds.ADDED, wanted.id, wanted.path, repr(wanted.title), wanted))
        elif row.environment == environment and not wanted.is_said_by(row):
            note = wanted.difference_to(row) or None
            changes.append(DashboardChange(kinds.CHANGED, wanted.id, wanted.path, note, wanted))
    changes += [
        DashboardChange(kinds.REMOVED, row.id, row.path)
        for row in stand.values()
        if row.environment == environment and row.id not in dashboards.by_id
    ]
    return sorted(changes, key=lambda each: each.id)


def without_store(dashboards: WantedDashboards, environment: str, now: datetime) -> dict[str, StoredDashboard]:
    """Return what there would be after a commit that wants `dashboards`."""
    return {each.id: row_of(each, environment, now, now) for each in dashboards.by_id.values()}


def row_of(wanted: WantedDashboard, environment: str, created_at: datetime, now: datetime) -> StoredDashboard:
    """Return the row of a dashboard once a commit of `environment` has brought it."""
    return StoredDashboard(
        id=wanted.id,
        title=wanted.title,
        source=wanted.source,
        environment=environment,
        path=wanted.path,
        created_at=created_at,
        updated_at=now,
        namespace=wanted.namespace,
    )
