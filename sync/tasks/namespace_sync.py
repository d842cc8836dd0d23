"""Tasks that make flows and files of namespaces equal here and in a repository elsewhere, in a direction one names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from runner.context import own_namespace, wide_namespace
from runner.errors import TaskError
from runner.flows.edits import with_namespace
from runner.flows.models import Template
from runner.plugin import Context, Outputs
from runner.store.records import FlowVersion
from runner.tasks.chosen_files import texts
from sync.repository import blob_id
from sync.tasks.connection import Remote, is_on
from sync.tasks.differences import stored_rows
from sync.tasks.push_server import flows_of
from sync.tasks.pushing import Edits, PushTask, below, placed
from sync.tasks.sync_files import read_files, write_files
from sync.tasks.sync_flows import apply, files_of, is_flow_file, read_flows, settled

Key = tuple[str, str]
"""A namespace, and the id of a flow or the path of a file in it."""

_MISSING: Final = ("DELETE", "KEEP", "FAIL")
_INVALID: Final = ("FAIL", "WARN", "SKIP")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where flows and files of namespaces stand in a repository: `<namespace>/flows/<id>.yaml`, `<namespace>/files/…`.

    The folder of a namespace is its dotted name, or nested folders.
    """

    flows: Mapping[Key, str]
    files: Mapping[Key, str]

    @classmethod
    def of(cls, paths: Sequence[str]) -> Shelf:
        """Return the places among `paths`, which are those below the folder that is synchronised."""
        flows: dict[Key, str] = {}
        files: dict[Key, str] = {}
        for path in sorted(paths):
            parts = path.split("/")
            at = next((i for i, part in enumerate(parts[:-1]) if i and part in {"flows", "files"}), 0)
            namespace, inner = ".".join(parts[:at]), "/".join(parts[at + 1 :])
            if at and parts[at] == "files":
                files.setdefault((namespace, inner), path)
            elif at and "/" not in inner and is_flow_file(inner):
                flows.setdefault((namespace, inner.rpartition(".")[0]), path)
        return cls(flows, files)


@dataclass(frozen=True, slots=True)
class Direction:
    """Which side is the source, and what becomes of what only the other has."""

    from_git: bool
    missing: str
    protected: frozenset[str]
    kept: Key
    """The flow that runs, which never removes itself."""

    def actions(self, git: Mapping[Key, str], server: Mapping[Key, bytes], kind: str) -> Iterator[tuple[Key, str]]:
        """Yield what happens to each flow or file; `git` are blob ids.

        Raises:
            TaskError: `git.sync.missing`.
        """
        source, target = (git.keys(), server.keys()) if self.from_git else (server.keys(), git.keys())
        for key in sorted(source | target):
            if key not in target:
                yield key, "ADDED"
            elif key in source:
                is_same = git[key] == blob_id(server[key])
                yield key, "UNCHANGED" if is_same else "UPDATED_KES" if self.from_git else "UPDATED_GIT"
            else:
                yield key, self._gone(key, kind)

    def _gone(self, key: Key, kind: str) -> str:
        if self.missing == "FAIL":
            raise TaskError("git.sync.missing", f"the source lacks the {kind.lower()} {key[1]!r} of {key[0]!r}")
        is_kept = self.from_git and kind == "FLOW" and key == self.kept
        if self.missing == "KEEP" or key[0] in self.protected or is_kept:
            return "UNCHANGED"
        return "DELETED_KES" if self.from_git else "DELETED_GIT"


@dataclass(slots=True)
class _Difference:
    """What happens to flows and files, and where each stands in the repository."""

    shelf: Shelf
    flows: dict[Key, str] = field(default_factory=dict)
    files: dict[Key, str] = field(default_factory=dict)

    def rows(self) -> Iterator[dict[str, str]]:
        """Yield one row for each flow and file."""
        for kind, actions, places in (("FLOW", self.flows, self.shelf.flows), ("FILE", self.files, self.shelf.files)):
            for key, action in actions.items():
                path = places.get(key) or _new_place(kind, key)
                yield {"file": path, "key": "/".join(key), "kind": kind, "action": action}


class SyncTask(PushTask):
    """Base of the tasks that make namespaces equal; what their properties mean stands at `NamespaceSync`."""

    branch: Template
    source_of_truth: Template = "KESTRA"
    when_missing_in_source: Template = "KEEP"
    protected_namespaces: Any = ("system",)
    on_invalid_syntax: Template = "FAIL"
    clone_submodules: Any = None


class NamespaceSync(SyncTask):
    """Make the flows and files of `namespace` equal here and in a repository elsewhere.

    With `sourceOfTruth: KESTRA` this server's are pushed to `branch`; with `GIT` those of the branch are committed to
    this server's own repository (see `git.SyncFlows`). In the repository a flow stands at
    `<namespace>/flows/<id>.yaml` and a file below `<namespace>/files/`, both below `gitDirectory`.
    `whenMissingInSource` says what becomes of what only the other side has: KEEP (the default; in Kestra it is DELETE),
    DELETE, or FAIL. In `protectedNamespaces` nothing is removed. `onInvalidSyntax` (FAIL, WARN, SKIP) is about files
    of the repository that are no valid flows.

    Outputs: `diff` (a file with one JSON object for each flow and file: `file`, `key`, `kind`, `action`), and, when
    something was pushed, `commitId` and `commitURL`.
    """

    namespace: Template

    def run(self, ctx: Context) -> Outputs:
        """Return `diff`, `commitId` and `commitURL`."""
        namespace = own_namespace(ctx, ctx.render(self.namespace))
        return synchronise(self, ctx, lambda each: each == namespace)


class TenantSync(SyncTask):
    """Make flows and files of all namespaces equal here and in a repository elsewhere.

    A flow of the namespace `system` does so for all of them, another one for its own namespace and those below. See
    `git.NamespaceSync`, whose properties and outputs it has.
    """

    def run(self, ctx: Context) -> Outputs:
        """Return `diff`, `commitId` and `commitURL`."""
        own = wide_namespace(ctx, "")
        return synchronise(self, ctx, lambda each: own is None or each == own or each.startswith(f"{own}."))


def synchronise(task: SyncTask, ctx: Context, is_meant: Callable[[str], bool]) -> Outputs:
    """Make namespaces equal on both sides and return the outputs of the task."""
    direction = Direction(
        _choice(ctx, "sourceOfTruth", task.source_of_truth, ("GIT", "KESTRA")) == "GIT",
        _choice(ctx, "whenMissingInSource", task.when_missing_in_source, _MISSING),
        frozenset(texts(ctx, task.protected_namespaces)),
        (ctx.flow.namespace, ctx.flow.id),
    )
    with task.opened(ctx, ctx.render(task.url)) as remote:
        there = _Server(ctx, is_meant)
        if not direction.from_git:
            return _pushed(task, ctx, remote, there, direction)
        folder = task.folder(ctx)
        stand = files_of(ctx, remote, ctx.render(task.branch), folder, fail_on_missing=True)
        difference = there.difference(stand, direction)
        invalid = _choice(ctx, "onInvalidSyntax", task.on_invalid_syntax, _INVALID)
        _Arrival(ctx, remote, folder, stand, invalid, is_dry=is_on(ctx, task.dry_run)).take(there, difference)
        return {"diff": stored_rows(ctx, difference.rows())}


def _pushed(task: SyncTask, ctx: Context, remote: Remote, there: _Server, direction: Direction) -> Outputs:
    ref, folder = remote.branch(ctx.render(task.branch)), task.folder(ctx)
    found: list[_Difference] = []

    def edit(_base: str | None, files: Mapping[str, str]) -> Edits:
        difference = there.difference(below(folder, files), direction)
        found[:] = [difference]
        return placed(folder, dict(there.edits(difference)))

    message = ctx.render(task.commit_message) or "Synchronise namespaces"
    pushed = task.publish(ctx, remote, ref, edit, message)
    return {"diff": stored_rows(ctx, found[0].rows()), **task.outputs(ctx, remote, ref, pushed)}


class _Server:
    """The flows and files of this server, as far as they are meant."""

    def __init__(self, ctx: Context, is_meant: Callable[[str], bool]) -> None:
        self._ctx = ctx
        self._is_meant = is_meant
        versions = [each for each in flows_of(ctx, "", with_children=True) if is_meant(each.namespace)]
        self.versions: dict[Key, FlowVersion] = {(each.namespace, each.flow_id): each for each in versions}
        self.flows = {key: with_namespace(each.source, key[0]).encode() for key, each in self.versions.items()}
        self.files: dict[Key, bytes] = {}

    def difference(self, stand: Mapping[str, str], direction: Direction) -> _Difference:
        """Return what differs from the files of a repository, path to blob id."""
        shelf = Shelf.of(list(stand))
        shelf = Shelf(self._meant(shelf.flows), self._meant(shelf.files))
        self._read_files({key[0] for key in (*shelf.flows, *shelf.files, *self.flows)})
        found = _Difference(shelf)
        found.flows.update(direction.actions(_blobs(shelf.flows, stand), self.flows, "FLOW"))
        found.files.update(direction.actions(_blobs(shelf.files, stand), self.files, "FILE"))
        return found

    def edits(self, difference: _Difference) -> Iterator[tuple[str, bytes | None]]:
        """Yield what changes in the repository."""
        parts = (
            ("FLOW", difference.flows, difference.shelf.flows, self.flows),
            ("FILE", difference.files, difference.shelf.files, self.files),
        )
        for kind, actions, places, contents in parts:
            for key, action in actions.items():
                if action != "UNCHANGED":
                    yield places.get(key) or _new_place(kind, key), contents.get(key)

    def _meant(self, places: Mapping[Key, str]) -> dict[Key, str]:
        return {key: path for key, path in places.items() if self._is_meant(key[0])}

    def _read_files(self, namespaces: set[str]) -> None:
        for namespace in namespaces:
            for path in self._ctx.namespace_files(namespace):
                if (namespace, path) not in self.files:
                    self.files[namespace, path] = self._ctx.namespace_file(path, namespace)


@dataclass(frozen=True, slots=True)
class _Arrival:
    """Brings what a repository has to this server: for each namespace one commit of flows and one of files."""

    ctx: Context
    remote: Remote
    folder: str
    stand: Mapping[str, str]
    on_invalid: str
    is_dry: bool

    def take(self, there: _Server, difference: _Difference) -> None:
        """Commit what differs. No namespace is touched when a file is no valid flow and that is to be an error."""
        wanted = {key for key, action in difference.flows.items() if action in {"ADDED", "UPDATED_KES"}}
        places = {difference.shelf.flows[key]: key[0] for key in wanted}
        incoming = settled(
            self.ctx, read_flows(self.ctx, self.remote, self.folder, self.stand, places), self.on_invalid
        )
        for namespace in sorted({key[0] for key in (*difference.flows, *difference.files)}):
            apply(
                self.ctx,
                [flow for flow in incoming if flow.namespace == namespace],
                [version for key, version in there.versions.items() if key[0] == namespace],
                [there.versions[key] for key in _deleted(difference.flows, namespace)],
                dry_run=self.is_dry,
            )
            self._take_files(namespace, difference)

    def _take_files(self, namespace: str, difference: _Difference) -> None:
        states = {key[1]: action for key, action in difference.files.items() if key[0] == namespace}
        gone = {key[1] for key in _deleted(difference.files, namespace)}
        places = difference.shelf.files
        blobs = {
            path: self.stand[places[namespace, path]]
            for path, action in states.items()
            if action in {"ADDED", "UPDATED_KES"}
        }
        contents = read_files(self.remote, blobs)
        write_files(self.ctx, namespace, contents, gone.__contains__, states, dry_run=self.is_dry)


def _blobs(places: Mapping[Key, str], stand: Mapping[str, str]) -> dict[Key, str]:
    return {key: stand[path] for key, path in places.items()}


def _deleted(actions: Mapping[Key, str], namespace: str) -> list[Key]:
    return [key for key, action in actions.items() if action == "DELETED_KES" and key[0] == namespace]


def _new_place(kind: str, key: Key) -> str:
    return f"{key[0]}/flows/{key[1]}.yaml" if kind == "FLOW" else f"{key[0]}/files/{key[1]}"


def _choice(ctx: Context, name: str, value: Any, choices: Sequence[str]) -> str:
    found = ctx.render(value).upper()
    if found not in choices:
        raise TaskError("task.property.invalid", f"`{name}` is one of {', '.join(choices)}, and not {found!r}")
    return found
