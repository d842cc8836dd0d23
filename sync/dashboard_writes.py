"""Writes of dashboards through the API: each is a commit to the one environment that the dashboard is of."""

from __future__ import annotations

from dataclasses import dataclass

from runner.dashboards.models import Dashboard
from runner.errors import ConflictError, InvalidError
from runner.store import Store
from runner.store.records import Environment, StoredDashboard
from sync.commits import Commits, Proposed, check_writes
from sync.dashboards import WantedDashboard, row_of
from sync.edits import Edit, Edits
from sync.layout import Layout, dashboard_place
from sync.sifting import owns
from sync.sources import Source


@dataclass(frozen=True, slots=True)
class DashboardWrites:
    """Commits the dashboards that the API is given."""

    store: Store
    commits: Commits

    def create(
        self, dashboard: Dashboard, source: str, namespace: str | None, *, actor: str, proposed: Proposed
    ) -> StoredDashboard:
        """Commit a new dashboard, of a namespace or of none, and return it; as it would be where it is proposed.

        Raises:
            ConflictError: `dashboard.exists`, `dashboard.owner.none`, `dashboard.owner.many`, and as `Commits.commit`.
            AccessError, FlowError, ProposalError: as `Commits.commit`.
            InvalidError: `dashboard.namespace.invalid` for a namespace whose folder is not read as one.
        """
        if self._stored(dashboard.id) is not None:
            raise _exists(dashboard.id)
        environment = self._owner(namespace)
        check_writes(environment, may_propose=True)
        path = _new_path(dashboard.id, namespace, self.commits.layout(environment))

        def edit(source_of: Source, head: str | None) -> Edits:
            if head is not None and path in source_of.repository.listing(head, "").files:
                raise _exists(dashboard.id, path)
            return {path: source.encode()}

        wanted = WantedDashboard(dashboard.id, dashboard.title, source, path, namespace)
        return self._written(wanted, environment, edit, actor=actor, proposed=proposed)

    def update(
        self, row: StoredDashboard, dashboard: Dashboard, source: str, *, actor: str, proposed: Proposed
    ) -> StoredDashboard:
        """Commit what a dashboard becomes, to the file where it stands, and return it. Raises as `create`."""
        edits = {row.path: source.encode()}
        wanted = WantedDashboard(row.id, dashboard.title, source, row.path, row.namespace)
        return self._written(wanted, self._of(row), lambda *_: edits, actor=actor, proposed=proposed)

    def delete(self, row: StoredDashboard, *, actor: str, proposed: Proposed) -> None:
        """Commit the removal of a dashboard. Raises as `create`."""
        edits: dict[str, bytes | None] = {row.path: None}
        self.commits.commit(
            self._of(row), lambda *_: edits, actor=actor, message=f"Delete dashboard {row.id}", proposed=proposed
        )

    def _written(
        self, wanted: WantedDashboard, environment: Environment, edit: Edit, *, actor: str, proposed: Proposed
    ) -> StoredDashboard:
        message = f"Write dashboard {wanted.id}"
        self.commits.commit(environment, edit, actor=actor, message=message, proposed=proposed)
        stored, now = self._stored(wanted.id), self.commits.clock()
        if stored is not None and wanted.is_said_by(stored):
            return stored
        return row_of(wanted, environment.name, stored.created_at if stored else now, now)

    def _stored(self, name: str) -> StoredDashboard | None:
        return self.store.read(lambda db: db.dashboards.get(name))

    def _of(self, row: StoredDashboard) -> Environment:
        found = self.store.read(lambda db: db.environments.get(row.environment))
        if found is None:
            text = f"the dashboard {row.id!r} is of environment {row.environment}, which is no more"
            raise ConflictError("dashboard.owner.none", text, hint="declare the environment again")
        check_writes(found, may_propose=True)
        return found

    def _owner(self, namespace: str | None) -> Environment:
        every = self.store.read(lambda db: db.environments.all())
        owning = [each for each in every if ("*" in each.namespaces if namespace is None else owns(each, namespace))]
        if len(owning) == 1:
            return owning[0]
        what = "dashboards of no namespace" if namespace is None else f"the namespace {namespace!r}"
        if not owning:
            raise ConflictError("dashboard.owner.none", f"no environment owns {what}", hint="name a namespace")
        names = ", ".join(each.name for each in owning)
        raise ConflictError("dashboard.owner.many", f"several environments own {what}: {names}", hint="push it to one")


def _new_path(name: str, namespace: str | None, layout: Layout) -> str:
    """Return where a new dashboard goes. Raises `InvalidError` `dashboard.namespace.invalid`."""
    path = "/".join(part for part in (layout.root, namespace, "_dashboards", f"{name}.yaml") if part)
    place = dashboard_place(path, layout)
    if place is None or place.namespace != namespace:
        raise InvalidError("dashboard.namespace.invalid", f"the folder of {namespace!r} is not read as a namespace")
    return path


def _exists(name: str, path: str | None = None) -> ConflictError:
    where = f" in {path}" if path else ""
    return ConflictError("dashboard.exists", f"there is a dashboard {name!r} already{where}", hint="PUT changes it")
