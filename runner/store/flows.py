"""Flow versions: which flows are active, and every revision they ever had."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from runner.store import schema
from runner.store.columns import clean, to_micros
from runner.store.connection import Connection
from runner.store.counters import Counter
from runner.store.queries import Page, labelled, ordering, paged, within
from runner.store.records import ActiveFlow, FlowDraft, FlowVersion
from runner.store.rows import Rows
from runner.store.statements import Statement

FLOWS: Final = Rows(FlowVersion, schema.flows)
_f: Final = schema.flows.c
_ACTIVE: Final = _f.active == sa.literal_column("1")  # a literal, so that the partial index serves it
_FLOW: Final = (_f.namespace == sa.bindparam("space"), _f.flow_id == sa.bindparam("flow"))
_BY_NAME: Final = (_f.namespace, _f.flow_id)
_SORTABLE: Final = {
    "id": _f.flow_id,
    "flow_id": _f.flow_id,
    "namespace": _f.namespace,
    "revision": _f.revision,
    "created_at": _f.created_at,
    "updated": _f.created_at,
}

_SELECT_ACTIVE: Final = Statement(FLOWS.select(*_FLOW, _ACTIVE))
_SELECT_REVISION: Final = Statement(FLOWS.select(*_FLOW, _f.revision == sa.bindparam("number")))
_SELECT_LAST: Final = Statement(FLOWS.select(*_FLOW).order_by(_f.revision.desc()).limit(sa.literal_column("1")))
_REVISIONS: Final = Statement(FLOWS.select(*_FLOW).order_by(_f.revision))
_LIST: Final = Statement(FLOWS.select(_ACTIVE).order_by(*_BY_NAME))
_ACTIVE_FLOWS: Final = sa.select(*(_f[name] for name in ActiveFlow._fields))
_LIST_ACTIVE: Final = Statement(_ACTIVE_FLOWS.where(_ACTIVE).order_by(*_BY_NAME))
_OF_ENVIRONMENT: Final = Statement(FLOWS.select(_ACTIVE, _f.environment == sa.bindparam("env")).order_by(*_BY_NAME))
_KEYS_OF_ENVIRONMENT: Final = Statement(
    sa.select(_f.namespace, _f.flow_id).where(_ACTIVE, _f.environment == sa.bindparam("env"))
)
_THEN: Final = (
    sa.select(_f.namespace, _f.flow_id, sa.func.max(_f.revision).label("last"))
    .where(_f.created_at <= sa.bindparam("moment"))
    .group_by(_f.namespace, _f.flow_id)
    .subquery()
)
_AS_OF: Final = Statement(
    FLOWS.select(
        _f.namespace == _THEN.c.namespace,
        _f.flow_id == _THEN.c.flow_id,
        _f.revision == _THEN.c.last,
        _f.environment == sa.bindparam("env"),
        _f.deleted == sa.literal_column("0"),
    ).order_by(*_BY_NAME)
)
_NAMESPACES: Final = Statement(sa.select(_f.namespace).where(_ACTIVE).distinct().order_by(_f.namespace))
_RETIRE: Final = Statement(sa.update(schema.flows).where(*_FLOW, _ACTIVE).values(active=0))
_MOVE: Final = Statement(
    sa.update(schema.flows)
    .where(*_FLOW, _ACTIVE)
    .values(
        environment=sa.bindparam("new_environment"),
        commit=sa.bindparam("new_commit"),
        path=sa.bindparam("new_path"),
    )
)
_PIN: Final = Statement(
    sa.update(schema.flows)
    .where(_f.environment == sa.bindparam("env"), _ACTIVE)
    .values(commit=sa.bindparam("new_commit"))
)
_PIN_ONE: Final = Statement(
    sa.update(schema.flows)
    .where(*_FLOW, _f.revision == sa.bindparam("number"))
    .values(commit=sa.bindparam("new_commit"))
)
_LIKELY_DRAFTS: Final = Statement(
    FLOWS.select(_ACTIVE, _f.environment == sa.bindparam("env"), _f.source.contains("draft")).order_by(*_BY_NAME)
)


class Flows:
    """Reads and writes flow versions. At most one version of a flow is active; a deleted flow has none."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection
        self._generation = Counter(connection, "flows")

    def active(self, namespace: str, flow_id: str) -> FlowVersion | None:
        """Return the version that new executions use."""
        return self._first(_SELECT_ACTIVE, space=namespace, flow=flow_id)

    def get(
        self, namespace: str, flow_id: str, revision: int | None = None, *, allow_deleted: bool = False
    ) -> FlowVersion | None:
        """Return one revision, or the last one; a tombstone only with `allow_deleted`."""
        if revision is None:
            found = self._first(_SELECT_LAST, space=namespace, flow=flow_id)
        else:
            found = self._first(_SELECT_REVISION, space=namespace, flow=flow_id, number=revision)
        return None if found is None or (found.deleted and not allow_deleted) else found

    def revisions(self, namespace: str, flow_id: str) -> list[FlowVersion]:
        """Return all revisions, tombstones among them, the oldest first."""
        return [FLOWS.decode(row) for row in self._db.all(_REVISIONS, space=namespace, flow=flow_id)]

    def of_environment(self, environment: str) -> list[FlowVersion]:
        """Return the active flows that an environment brought."""
        return [FLOWS.decode(row) for row in self._db.all(_OF_ENVIRONMENT, env=environment)]

    def as_of(self, environment: str, at: datetime) -> list[FlowVersion]:
        """Return the flows of an environment that were active at a moment."""
        return [FLOWS.decode(row) for row in self._db.all(_AS_OF, env=environment, moment=to_micros(at))]

    def keys_of_environment(self, environment: str) -> list[tuple[str, str]]:
        """Return the namespaces and ids of the active flows that an environment brought, in order."""
        return sorted((row[0], row[1]) for row in self._db.all(_KEYS_OF_ENVIRONMENT, env=environment))

    def search(
        self,
        q: str | None = None,
        namespace: str | None = None,
        *,
        page: int = 1,
        size: int = 25,
        sort: tuple[str, ...] = (),
        labels: Mapping[str, str] | None = None,
    ) -> Page[FlowVersion]:
        """Return a page of active flows: `q` is a fragment of id or namespace; `namespace` includes those below it."""
        where: list[Any] = [_ACTIVE, *labelled(_f.labels, labels or {})]
        if namespace is not None:
            where.append(within(_f.namespace, namespace))
        if q:
            where.append(sa.or_(_f.flow_id.icontains(q, autoescape=True), _f.namespace.icontains(q, autoescape=True)))
        total = self._db.query(sa.select(sa.func.count()).select_from(schema.flows).where(*where))[0][0]
        select = FLOWS.select(*where).order_by(*ordering(sort, _SORTABLE, _BY_NAME))
        return Page([FLOWS.decode(row) for row in self._db.query(paged(select, page, size))], total)

    def namespaces(self) -> list[str]:
        """Return the namespaces that have active flows."""
        return [row[0] for row in self._db.all(_NAMESPACES)]

    def put(self, draft: FlowDraft) -> FlowVersion:
        """Make a flow active; it gets the next revision when content or defaults are not what they were."""
        self._db.lock("flow versions", draft.namespace, draft.flow_id)
        last = self._first(_SELECT_LAST, space=draft.namespace, flow=draft.flow_id)
        flow = {"space": draft.namespace, "flow": draft.flow_id}
        if last is not None and last.active and _is_same(last, draft):
            self._db.run(_MOVE, **flow, new_environment=draft.environment, new_commit=draft.commit, new_path=draft.path)
            put = replace(last, environment=draft.environment, commit=draft.commit, path=draft.path)
        else:
            self._db.run(_RETIRE, **flow)
            put = FlowVersion(
                namespace=draft.namespace,
                flow_id=draft.flow_id,
                revision=last.revision + 1 if last else 1,
                blob=draft.blob,
                source=clean(draft.source),
                created_at=draft.at,
                environment=draft.environment,
                commit=draft.commit,
                path=draft.path,
                disabled=draft.disabled,
                labels=draft.labels,
                defaults=draft.defaults,
            )
            self._db.insert(FLOWS.insert, FLOWS.encode(put))
        self._generation.bump()
        return put

    def pin(
        self,
        environment: str,
        commit: str,
        *,
        but: Iterable[tuple[str, str]] = (),
        in_force: Callable[[Sequence[FlowVersion]], FlowVersion | None] = lambda _versions: None,
    ) -> int:
        """Say that the active flows of an environment run with the files of `commit`; give how many there are.

        So does the version that is in force behind a draft: `in_force` finds it among all those of a flow. Those named
        in `but`, by namespace and id, go on with the files that they have.
        """
        kept = {key: found for key in but if (found := self.active(*key)) and found.environment == environment}
        pinned = self._db.run(_PIN, env=environment, new_commit=commit)
        for each in kept.values():
            self._pin_one(each, each.commit)
        for row in self._db.all(_LIKELY_DRAFTS, env=environment):
            newest = FLOWS.decode(row)
            key = (newest.namespace, newest.flow_id)
            found = None if key in kept else in_force(self.revisions(*key))
            if found is not None and found.environment == environment:
                self._pin_one(found, commit)
        if pinned:
            self._generation.bump()
        return pinned

    def _pin_one(self, version: FlowVersion, commit: str | None) -> None:
        place = {"space": version.namespace, "flow": version.flow_id, "number": version.revision}
        self._db.run(_PIN_ONE, **place, new_commit=commit)

    def remove(self, namespace: str, flow_id: str, at: datetime, commit: str | None) -> FlowVersion | None:
        """Delete a flow: a tombstone becomes its last revision. None when it is not active."""
        self._db.lock("flow versions", namespace, flow_id)
        last = self.active(namespace, flow_id)
        if last is None:
            return None
        self._db.run(_RETIRE, space=namespace, flow=flow_id)
        tombstone = FlowVersion(
            namespace=namespace,
            flow_id=flow_id,
            revision=last.revision + 1,
            blob=last.blob,
            source=last.source,
            created_at=at,
            environment=last.environment,
            commit=commit,
            path=last.path,
            disabled=last.disabled,
            deleted=True,
            active=False,
            labels=last.labels,
            defaults=last.defaults,
        )
        self._db.insert(FLOWS.insert, FLOWS.encode(tombstone))
        self._generation.bump()
        return tombstone

    def generation(self) -> int:
        """Return a number that rises with every change of any flow; what was read under it stays true until then."""
        return self._generation.value()

    def list(self, namespace: str | None = None, prefix: str | None = None) -> list[FlowVersion]:
        """Return the active flows of exactly `namespace`, or of `prefix` and below, or all; by namespace and id."""
        if namespace is None and prefix is None:
            return [FLOWS.decode(row) for row in self._db.all(_LIST)]
        where = [_ACTIVE, _f.namespace == namespace] if namespace is not None else [_ACTIVE]
        if prefix is not None:
            where.append(within(_f.namespace, prefix))
        return [FLOWS.decode(row) for row in self._db.query(FLOWS.select(*where).order_by(*_BY_NAME))]

    def all_active(self) -> Sequence[ActiveFlow]:
        """Return all active flows without their sources, by namespace and id."""
        return [ActiveFlow._make(row) for row in self._db.all(_LIST_ACTIVE)]

    def _first(self, statement: Statement, **values: Any) -> FlowVersion | None:
        found = self._db.one(statement, **values)
        return FLOWS.decode(found) if found else None


def _is_same(version: FlowVersion, draft: FlowDraft) -> bool:
    # The source too, as the store keeps it: a hand in the database may have left the id of the blob as it was.
    return (version.blob, version.source, version.defaults) == (draft.blob, clean(draft.source), draft.defaults)
