"""What a reviewer reads of dashboards in a change request."""

from __future__ import annotations

from sync.dashboards import DashboardChange, DashboardChangeKind
from sync.plan import Plan
from sync.reviews.text import Reviewed, counts, section

CHANGES = (
    DashboardChange(DashboardChangeKind.ADDED, "night", "flows/_dashboards/night.yaml", "'At @night <b>'"),
    DashboardChange(DashboardChangeKind.REMOVED, "old", "flows/_dashboards/old.yaml"),
)


def test_dashboards_are_counted_and_listed_folded_away() -> None:
    plan = Plan("prod", "refs/heads/main", "flows", None, "c" * 40, dashboard_changes=CHANGES)

    lines = section(Reviewed("prod", plan))

    assert counts(plan) == "2 dashboards changed"
    assert lines[0] == "### ✓ `prod`: 2 dashboards changed"
    assert "<details><summary>2 dashboards</summary>" in lines
    assert "| `night` | added | `'At @night <b>'` |" in "\n".join(lines)
    assert "| `old` | removed |  |" in "\n".join(lines)
