"""Dashboards of git on their way into the store: what a plan says of them, and what activating it does."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from runner.errors import Problem, Severity
from runner.store.records import Environment, StoredDashboard
from sync.dashboards import DashboardChange, WantedDashboards, at_id, decided, row_of
from sync.plan import Plan
from sync.sifting import owns

if TYPE_CHECKING:  # plans of a laptop load no database
    from runner.store.session import Session

UNKNOWN: Final = "the dashboards that git wants"


def with_dashboards(
    plan: Plan,
    environment: Environment,
    dashboards: WantedDashboards,
    stand: Mapping[str, StoredDashboard],
    wrong: Collection[Problem] = (),
) -> Plan:
    """Return the plan with what becomes of dashboards, and with why the environment may not have some.

    `wrong` are the problems of their files: where one is an error, nothing can be said of what comes and goes.
    """
    plan = plan.with_problems(wrong)
    if any(problem.severity is Severity.ERROR for problem in wrong):
        return plan
    changes = tuple(decided(dashboards, stand, environment.name))
    problems = _refused(environment, dashboards, stand)
    return replace(plan.with_problems(problems), dashboards=dashboards, dashboard_changes=changes)


def without_dashboards(plan: Plan) -> Plan:
    """Return the plan of a commit whose files cannot be read any more: dashboards stay as they are."""
    return replace(plan, unchecked=(*plan.unchecked, UNKNOWN))


def _refused(
    environment: Environment, dashboards: WantedDashboards, stand: Mapping[str, StoredDashboard]
) -> Iterator[Problem]:
    for wanted in dashboards.by_id.values():
        row = stand.get(wanted.id)
        if row is not None and row.environment != environment.name:
            text = f"the dashboard {wanted.id!r} belongs to environment {row.environment}"
            yield at_id(wanted, "dashboard.id.owned", text, "one id is one dashboard of the whole server")
        elif wanted.namespace is None and "*" not in environment.namespaces:
            text = f"environment {environment.name} owns some namespaces only, and this dashboard is of none"
            space = next(iter(environment.namespaces), "NAMESPACE").removesuffix(".*")
            hint = f"put it into a folder of one: {space}/_dashboards/"
            yield at_id(wanted, "dashboard.namespace.foreign", text, hint)
        elif wanted.namespace is not None and not owns(environment, wanted.namespace):
            text = f"environment {environment.name} may put no dashboard into namespace {wanted.namespace!r}"
            hint = f"it owns: {', '.join(environment.namespaces)}"
            yield at_id(wanted, "dashboard.namespace.foreign", text, hint)


def standing_dashboards(db: Session) -> dict[str, StoredDashboard]:
    """Return the dashboards of the store by id. What an environment that is no more has left is nobody's."""
    environments = {each.name for each in db.environments.all()}
    return {row.id: row for row in db.dashboards.all() if row.environment in environments}


def hang(db: Session, dashboards: WantedDashboards, environment: str, now: datetime) -> list[DashboardChange]:
    """Write and remove as `decided` says, within the transaction; return what was done."""
    stand = standing_dashboards(db)
    changes = decided(dashboards, stand, environment)
    for change in changes:
        if change.wanted is None:
            db.dashboards.delete(change.id)
        else:
            before = stand.get(change.id)
            db.dashboards.put(row_of(change.wanted, environment, before.created_at if before else now, now))
    return changes
