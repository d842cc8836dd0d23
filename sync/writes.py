"""Writes of flows through the API: each is a commit to the repository, valid before it is made."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import Literal

from runner.errors import AccessError, ConflictError, FlowError, NotFoundError, Severity
from runner.flows.models import Flow
from runner.flows.parse import parse_flow
from runner.store import Store
from runner.store.records import Environment, FlowVersion
from sync.activation import Activation, RevisionResult
from sync.layout import layout_of
from sync.origins import Origins
from sync.plan import FlowKey, Plan, owns
from sync.planning import Planner, read_layout
from sync.repository import Author, blob_id

WriteMode = Literal["any", "create", "update"]


@dataclass(frozen=True, slots=True)
class FlowWrites:
    """Commits what the API is given, under the lock that pushes take too."""

    store: Store
    origins: Origins
    planner: Planner
    activation: Activation
    clock: Callable[[], datetime]
    applied: Callable[[RevisionResult, str], None]

    def write(
        self, sources: Sequence[str], *, actor: str, mode: WriteMode = "any", removing: Sequence[FlowKey] = ()
    ) -> list[FlowVersion]:
        """Write flows, all in one commit of the one environment that owns them, and return their active versions.

        The flows of `removing` leave with the same commit. Nobody named them one by one, so the deletion guard applies.

        Raises:
            FlowError: `flow.invalid` with the problems; nothing is committed.
            ConflictError: `flow.exists`, `flow.owner.none`, `flow.owner.many`, `environment.held`.
            NotFoundError: `flow.missing` in mode `update`.
            AccessError: `environment.writes.refused`.
        """
        flows = [_parsed(source) for source in sources]
        environment = self._one_owner([*((flow.namespace, flow.id) for flow in flows), *removing])
        root = self._root(environment)
        edits: dict[str, bytes | None] = {}
        for flow, source in zip(flows, sources, strict=True):
            stored = self._active(flow.namespace, flow.id)
            _check_mode(flow, stored, mode)
            path = (stored.path if stored else None) or f"{root}{flow.namespace}/{flow.id}.yaml"
            if path in edits:
                raise ConflictError("flow.exists", f"{flow.namespace}.{flow.id} is given twice")
            edits[path] = source.encode()
        edits |= dict.fromkeys(self._paths(removing))
        message = _message("Write", [f"{flow.namespace}.{flow.id}" for flow in flows], removing)
        result = self._commit(environment, edits, actor=actor, message=message)
        found = [result.versions.get((flow.namespace, flow.id)) if result else None for flow in flows]
        return [version or self._required(flow) for version, flow in zip(found, flows, strict=True)]

    def delete(self, keys: Sequence[FlowKey], *, actor: str) -> None:
        """Delete flows by name, all in one commit.

        Raises:
            NotFoundError: `flow.missing`.
            ConflictError, AccessError, FlowError: as `write`.
        """
        edits: dict[str, bytes | None] = dict.fromkeys(self._paths(keys))
        message = _message("Delete", [f"{namespace}.{flow_id}" for namespace, flow_id in keys])
        self._commit(self._one_owner(keys), edits, actor=actor, message=message, deletions=keys)

    def _paths(self, keys: Sequence[FlowKey]) -> list[str]:
        """Return the files of active flows. Raises `NotFoundError` `flow.missing`."""
        paths = []
        for namespace, flow_id in keys:
            stored = self._active(namespace, flow_id)
            if stored is None or stored.path is None:
                raise NotFoundError("flow.missing", f"there is no flow {namespace}.{flow_id}")
            paths.append(stored.path)
        return paths

    def _commit(
        self,
        environment: Environment,
        edits: Mapping[str, bytes | None],
        *,
        actor: str,
        message: str,
        deletions: Collection[FlowKey] = (),
    ) -> RevisionResult | None:
        source = self.origins.get(environment.repository)
        repository = source.repository
        with repository.lock:
            started = perf_counter()
            head = source.heads([environment.ref]).get(environment.ref)
            if head is not None:
                source.fetch(environment.ref, head)
            if head is not None and not _differs(repository.listing(head, "").files, edits) and not deletions:
                return None
            author = Author(actor, f"{actor}@users.mainstem.local")
            commit = repository.commit_changes(head, edits, author=author, message=message, at=self.clock())
            plan = self.planner.plan(source, environment.name, commit, allowed_deletions=deletions)
            _check_plan(plan)
            if not source.push(environment.ref, head, commit):
                raise ConflictError("repository.head.moved", f"{environment.ref} was moved meanwhile", hint="try again")
            result = self.activation.apply(plan, actor=actor, seconds=lambda: perf_counter() - started)
            self.applied(result, environment.repository)
            return result

    def _root(self, environment: Environment) -> str:
        """Return the folder in which new flow files go, with a slash at its end."""
        source = self.origins.get(environment.repository)
        active = environment.active
        is_known = active is not None and active in source.repository
        layout = read_layout(source, active or "", environment.path) if is_known else layout_of(environment.path, None)
        return f"{layout.root}/" if layout.root else ""

    def _one_owner(self, keys: Collection[FlowKey]) -> Environment:
        owners = {environment.name: environment for key in keys for environment in [self._owner(*key)]}
        if len(owners) != 1:
            names = ", ".join(sorted(owners))
            raise ConflictError("flow.owner.many", f"these flows belong to several environments: {names or 'none'}")
        environment = next(iter(owners.values()))
        if environment.writes == "refuse":
            raise AccessError(
                "environment.writes.refused",
                f"environment {environment.name} takes no writes but those of git",
                hint="push to its repository",
            )
        if environment.writes == "propose":
            raise ConflictError(
                "environment.writes.elsewhere",
                f"environment {environment.name} takes changes only as proposals, which this server cannot make",
                hint="push a branch and open a pull request",
            )
        return environment

    def _owner(self, namespace: str, flow_id: str) -> Environment:
        stored = self._active(namespace, flow_id)
        environments = self.store.read(lambda db: db.environments.all())
        if stored is not None and stored.environment is not None:
            owning = [environment for environment in environments if environment.name == stored.environment]
        else:
            owning = [environment for environment in environments if owns(environment, namespace)]
        if len(owning) == 1:
            return owning[0]
        if not owning:
            raise ConflictError("flow.owner.none", f"no environment owns the namespace {namespace!r}")
        names = ", ".join(environment.name for environment in owning)
        raise ConflictError("flow.owner.many", f"several environments own the namespace {namespace!r}: {names}")

    def _active(self, namespace: str, flow_id: str) -> FlowVersion | None:
        return self.store.read(lambda db: db.flows.active(namespace, flow_id))

    def _required(self, flow: Flow) -> FlowVersion:
        stored = self._active(flow.namespace, flow.id)
        if stored is None:
            raise NotFoundError("flow.missing", f"there is no flow {flow.namespace}.{flow.id}")
        return stored


def _parsed(source: str) -> Flow:
    parsed = parse_flow(source)
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


def _check_plan(plan: Plan) -> None:
    if plan.errors:
        first = plan.errors[0]
        where = f"{first.file}: " if first.file else ""
        raise FlowError("flow.invalid", f"{where}{first.message}", hint=first.hint, problems=plan.problems)
    if plan.held:
        raise ConflictError(
            "environment.held",
            f"environment {plan.environment} is held since {plan.held}",
            hint="mainstem sync run --allow-deletes, or push the flows again",
        )


def _differs(files: Mapping[str, str], edits: Mapping[str, bytes | None]) -> bool:
    return any(files.get(path) != (None if content is None else blob_id(content)) for path, content in edits.items())


def _message(verb: str, names: Sequence[str], removing: Sequence[FlowKey] = ()) -> str:
    lines = [*names, *(f"without {namespace}.{flow_id}" for namespace, flow_id in removing)]
    return f"{verb} {lines[0]}" if len(lines) == 1 else f"{verb} {len(names)} flows\n\n" + "\n".join(lines)
