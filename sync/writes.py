"""Writes of flows through the API: each is a commit to the repository, valid before it is made."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from runner.errors import ConflictError, FlowError, NotFoundError, Severity
from runner.flows.inherited import Inherited
from runner.flows.models import Flow
from runner.flows.namespace_defaults import stated_namespace
from runner.flows.parse import parse_flow
from runner.store import Store
from runner.store.records import Environment, FlowVersion
from sync.commits import Commits, Proposed, check_writes
from sync.edits import Edits
from sync.layout import Layout, new_flow_path
from sync.plan import FlowKey
from sync.proposals import Proposal
from sync.repository import blob_id
from sync.sifting import owns
from sync.sources import Source

WriteMode = Literal["any", "create", "update"]


@dataclass(frozen=True, slots=True)
class FlowWrites:
    """Commits the flows that the API is given."""

    store: Store
    commits: Commits

    def write(
        self,
        sources: Sequence[str],
        *,
        actor: str,
        mode: WriteMode = "any",
        removing: Sequence[FlowKey] = (),
        proposed: Proposed | None = None,
    ) -> list[FlowVersion]:
        """Write flows, all in one commit of the one environment that owns them, and return their active versions.

        The flows of `removing` leave with the same commit. Nobody named them one by one, so the deletion guard applies.
        Where `proposed` is told of a proposal, the versions are what they would be, and not active.

        Raises:
            FlowError: `flow.invalid` with the problems; nothing is committed.
            ConflictError: `flow.exists`, `flow.path.taken`, `flow.owner.none`, `flow.owner.many`, `environment.held`.
            NotFoundError: `flow.missing` in mode `update`.
            AccessError: `environment.writes.refused`.
        """
        flows = [_parsed(source, self.inherited(stated_namespace(source.encode()) or "", source)) for source in sources]
        keys = [*((flow.namespace, flow.id) for flow in flows), *removing]
        environment = self._one_owner(keys, may_propose=proposed is not None)
        edits, new = self._placed(flows, sources, mode, self.commits.layout(environment))
        edits |= dict.fromkeys(self._paths(removing))

        def edit(source: Source, head: str | None) -> Edits:
            _check_free(source, head, new)
            return edits

        message = _message("Write", [f"{flow.namespace}.{flow.id}" for flow in flows], removing)
        made: list[Proposal] = []
        hears = made.append if proposed is not None else None
        result = self.commits.commit(environment, edit, actor=actor, message=message, proposed=hears)
        if made and proposed is not None:
            proposed(made[0])
            places = {content: path for path, content in edits.items()}
            return [
                self._would_be(flow, source, places[source.encode()], made[0])
                for flow, source in zip(flows, sources, strict=True)
            ]
        revisions = result.revisions if result else {}
        return [self._required(flow, revisions.get((flow.namespace, flow.id))) for flow in flows]

    def _placed(
        self, flows: Sequence[Flow], sources: Sequence[str], mode: WriteMode, layout: Layout
    ) -> tuple[dict[str, bytes | None], dict[str, Flow]]:
        """Return the files to write, and of these, by path, the flows that have none yet."""
        edits: dict[str, bytes | None] = {}
        new: dict[str, Flow] = {}
        for flow, source in zip(flows, sources, strict=True):
            stored = self._active(flow.namespace, flow.id)
            _check_mode(flow, stored, mode)
            path = stored.path if stored else None
            if path is None:
                path = new_flow_path(flow.namespace, flow.id, layout)
                new[path] = flow
            if path in edits:
                raise ConflictError("flow.exists", f"{flow.namespace}.{flow.id} is given twice")
            edits[path] = source.encode()
        return edits, new

    def _would_be(self, flow: Flow, source: str, path: str, proposal: Proposal) -> FlowVersion:
        """Return a flow as a proposal would make it: with the number that its revision would get."""
        last = self.store.read(lambda db: db.flows.get(flow.namespace, flow.id, allow_deleted=True))
        content = source.encode()
        blob = blob_id(content)
        is_same = last is not None and last.active and last.blob == blob
        number = 0 if last is None else last.revision
        return FlowVersion(
            namespace=flow.namespace,
            flow_id=flow.id,
            revision=number if is_same else number + 1,
            blob=blob,
            source=source,
            created_at=self.commits.clock(),
            environment=proposal.environment,
            commit=proposal.commit,
            path=path,
            disabled=flow.disabled,
            active=False,
        )

    def delete(self, keys: Sequence[FlowKey], *, actor: str, proposed: Proposed | None = None) -> None:
        """Delete flows by name, all in one commit.

        Raises:
            NotFoundError: `flow.missing`.
            ConflictError, AccessError, FlowError: as `write`.
        """
        edits: dict[str, bytes | None] = dict.fromkeys(self._paths(keys))
        message = _message("Delete", [f"{namespace}.{flow_id}" for namespace, flow_id in keys])
        environment = self._one_owner(keys, may_propose=proposed is not None)
        self.commits.commit(
            environment, lambda *_: edits, actor=actor, message=message, deletions=keys, proposed=proposed
        )

    def inherited(self, namespace: str, source: str) -> Inherited:
        """Return what a flow gets from the files around it now; nothing where no one environment owns its namespace."""
        environments = self.store.read(lambda db: db.environments.all())
        owning = [environment for environment in environments if owns(environment, namespace)]
        return self.commits.defaults(owning[0]).around(namespace, source) if len(owning) == 1 else Inherited()

    def _paths(self, keys: Sequence[FlowKey]) -> list[str]:
        """Return the files of active flows. Raises `NotFoundError` `flow.missing`."""
        paths = []
        for namespace, flow_id in keys:
            stored = self._active(namespace, flow_id)
            if stored is None or stored.path is None:
                raise NotFoundError("flow.missing", f"there is no flow {namespace}.{flow_id}")
            paths.append(stored.path)
        return paths

    def _one_owner(self, keys: Collection[FlowKey], *, may_propose: bool) -> Environment:
        owners = {environment.name: environment for key in keys for environment in [self._owner(*key)]}
        if len(owners) != 1:
            names = ", ".join(sorted(owners))
            raise ConflictError("flow.owner.many", f"these flows belong to several environments: {names or 'none'}")
        environment = next(iter(owners.values()))
        check_writes(environment, may_propose=may_propose)
        return environment

    def _owner(self, namespace: str, flow_id: str) -> Environment:
        stored = self._active(namespace, flow_id)
        environments = self.store.read(lambda db: db.environments.all())
        if stored is not None and stored.environment is not None:
            environments = [environment for environment in environments if environment.name == stored.environment]
            return _only(environments, namespace)
        return owner_of(environments, namespace)

    def _active(self, namespace: str, flow_id: str) -> FlowVersion | None:
        return self.store.read(lambda db: db.flows.active(namespace, flow_id))

    def _required(self, flow: Flow, revision: int | None) -> FlowVersion:
        """Return a revision of a flow, the active one when the commit made none."""
        if revision is None:
            stored = self._active(flow.namespace, flow.id)
        else:
            stored = self.store.read(lambda db: db.flows.get(flow.namespace, flow.id, revision))
        if stored is None:
            raise NotFoundError("flow.missing", f"there is no flow {flow.namespace}.{flow.id}")
        return stored


def owner_of(environments: Sequence[Environment], namespace: str) -> Environment:
    """Return the one environment that owns a namespace. Raises `ConflictError` `flow.owner.none`, `flow.owner.many`."""
    return _only([environment for environment in environments if owns(environment, namespace)], namespace)


def _only(owning: Sequence[Environment], namespace: str) -> Environment:
    if len(owning) == 1:
        return owning[0]
    if not owning:
        raise ConflictError("flow.owner.none", f"no environment owns the namespace {namespace!r}")
    names = ", ".join(environment.name for environment in owning)
    raise ConflictError("flow.owner.many", f"several environments own the namespace {namespace!r}: {names}")


def _parsed(source: str, inherited: Inherited) -> Flow:
    parsed = parse_flow(source, inherited=inherited)
    errors = [problem for problem in parsed.problems if problem.severity is Severity.ERROR]
    if parsed.flow is None or errors:
        raise FlowError("flow.invalid", errors[0].message, hint=errors[0].hint, problems=parsed.problems)
    return parsed.flow


def _check_mode(flow: Flow, stored: FlowVersion | None, mode: WriteMode) -> None:
    name = f"'{flow.namespace}'.'{flow.id}'"
    if mode == "create" and stored is not None:
        raise ConflictError("flow.exists", f"Flow {name} exists already", hint="update it instead")
    if mode == "update" and stored is None:
        raise NotFoundError("flow.missing", f"there is no flow {name}")


def _check_free(source: Source, head: str | None, new: Mapping[str, Flow]) -> None:
    """Demand that nothing stands where flows that have no file yet go: it is somebody's.

    Raises:
        ConflictError: `flow.path.taken`.
    """
    for path, flow in new.items():
        if head is not None and source.repository.find(head, path) is not None:
            message = (
                f"{path} stands where {flow.namespace}.{flow.id} would go, and no valid flow of that name is in it"
            )
            hint = "push the flow in a file of another name, or move the one that is there"
            raise ConflictError("flow.path.taken", message, hint=hint)


def _message(verb: str, names: Sequence[str], removing: Sequence[FlowKey] = ()) -> str:
    lines = [*names, *(f"without {namespace}.{flow_id}" for namespace, flow_id in removing)]
    return f"{verb} {lines[0]}" if len(lines) == 1 else f"{verb} {len(names)} flows\n\n" + "\n".join(lines)
