"""Tasks that bring flows of a repository elsewhere to a namespace of this server, as a commit to its own repository."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from runner.context import demand_writer, host_of, own_namespace
from runner.errors import ConflictError, MainstemError, Severity, TaskError
from runner.flows.edits import with_namespace
from runner.flows.inherited import Inherited
from runner.flows.models import Template
from runner.flows.parse import parse_flow
from runner.plugin import Context, Outputs
from runner.store.records import FlowVersion
from sync.commits import MOVED
from sync.layout import is_about_flows
from sync.names import MAX_FLOW_BYTES
from sync.plan import FlowKey
from sync.tasks.connection import GitTask, Remote, folder_of, is_on
from sync.tasks.differences import stored_rows
from sync.tasks.ignoring import ignored_below
from sync.tasks.push_server import flows_of
from sync.tasks.pushing import below

FLOW_FILES: Final = (".yml", ".yaml")
_MOST_TRIES: Final = 10


@dataclass(frozen=True, slots=True)
class Incoming:
    """A flow of the other repository, as it is to stand here."""

    path: str
    namespace: str
    flow_id: str
    source: str

    @property
    def key(self) -> FlowKey:
        """Return the namespace and the id."""
        return self.namespace, self.flow_id


@dataclass(frozen=True, slots=True)
class Refused:
    """A file of the other repository that is no valid flow, and why."""

    path: str
    reason: str


class SyncFlows(GitTask):
    """Bring the flows of a folder of a repository elsewhere to `targetNamespace`: one commit, or none.

    All flows of this server come from its own repository, so the task commits to that of the environment which owns
    the namespace: what differs is activated as a whole, or not at all where one flow is not valid
    (`ignoreInvalidFlows` leaves such out). An environment that follows the other repository itself needs no task. The
    namespace stated in the files is replaced; with `includeChildNamespaces`, folders are namespaces below it. With
    `delete` flows of the namespace that the folder does not have are removed, but never the flow that runs, and within
    the limits that every push has. What `.kestraignore` in the folder names is left out. `dryRun` only compares.

    Output `flows`: a file with one JSON object for each flow: `gitPath`, `syncState` (ADDED, UPDATED, UNCHANGED,
    DELETED), `namespace`, `flowId`, `revision`.
    """

    branch: Template = "main"
    target_namespace: Template
    git_directory: Template = "_flows"
    include_child_namespaces: Any = False
    delete: Any = False
    ignore_invalid_flows: Any = False
    fail_on_missing_directory: Any = True
    dry_run: Any = False

    def run(self, ctx: Context) -> Outputs:
        """Return `flows`."""
        namespace = own_namespace(ctx, ctx.render(self.target_namespace))
        with self.opened(ctx, ctx.render(self.url)) as remote:
            incoming = self._incoming(ctx, remote, namespace)
            active = flows_of(ctx, namespace, with_children=is_on(ctx, self.include_child_namespaces))
            gone = gone_flows(ctx, active, incoming) if is_on(ctx, self.delete) else []
            written = apply(ctx, incoming, active, gone, dry_run=is_on(ctx, self.dry_run))
            return {"flows": stored_rows(ctx, _rows(incoming, active, gone, written))}

    def _incoming(self, ctx: Context, remote: Remote, namespace: str) -> list[Incoming]:
        folder = folder_of(ctx.render(self.git_directory))
        files = files_of(ctx, remote, ctx.render(self.branch), folder, fail_on_missing=self.fail_on_missing_directory)
        is_ignored, with_children = ignored_below(remote.source, files), is_on(ctx, self.include_child_namespaces)
        places = {
            path: ".".join([namespace, *path.split("/")[:-1]])
            for path in files
            if is_flow_file(path) and not is_ignored(path) and (with_children or "/" not in path)
        }
        found = list(read_flows(ctx, remote, folder, files, places))
        return settled(ctx, found, "WARN" if is_on(ctx, self.ignore_invalid_flows) else "FAIL")


class SyncFlow(GitTask):
    """Bring one flow of a repository elsewhere to `targetNamespace`: a commit to the repository of this server.

    `flowPath` is its file. See `git.SyncFlows`. Outputs: `flowId`, `namespace`, `revision`.
    """

    branch: Template = "main"
    target_namespace: Template
    flow_path: Template
    dry_run: Any = False

    def run(self, ctx: Context) -> Outputs:
        """Return `flowId`, `namespace` and `revision`."""
        namespace, path = own_namespace(ctx, ctx.render(self.target_namespace)), ctx.render(self.flow_path).strip("/")
        with self.opened(ctx, ctx.render(self.url)) as remote:
            commit = remote.fetched(remote.branch(ctx.render(self.branch)))
            blob = remote.source.repository.find(commit, path)
            if blob is None:
                raise TaskError("git.file.missing", f"{remote.url} has no file {path!r}")
            (flow,) = settled(ctx, read_flows(ctx, remote, "", {path: blob}, {path: namespace}), "FAIL")
            active = flows_of(ctx, namespace, with_children=False)
            versions = apply(ctx, [flow], active, [], dry_run=is_on(ctx, self.dry_run))
        return {"flowId": flow.flow_id, "namespace": namespace, "revision": _revision(flow, active, versions)}


def is_flow_file(path: str) -> bool:
    """Whether a path is that of a flow: YAML, and no file of plugin defaults, keys or templates."""
    return path.endswith(FLOW_FILES) and not is_about_flows(path)


def files_of(ctx: Context, remote: Remote, branch: str, folder: str, *, fail_on_missing: Any) -> dict[str, str]:
    """Return the files of a folder of a branch by their paths there, with their blob ids.

    Raises:
        TaskError: `git.branch.missing`, `git.directory.missing`.
    """
    commit = remote.fetched(remote.branch(branch))
    listing = remote.source.repository.listing(commit, folder)
    if listing.tree is None:
        if is_on(ctx, fail_on_missing):
            raise TaskError("git.directory.missing", f"{remote.url} has no folder {folder!r}")
        ctx.log("WARN", f"{remote.url} has no folder {folder!r}")
    for problem in listing.problems:
        ctx.log("WARN", f"{problem.file}: {problem.message}")
    return below(folder, listing.files)


def read_flows(
    ctx: Context, remote: Remote, folder: str, files: Mapping[str, str], namespaces: Mapping[str, str]
) -> Iterator[Incoming | Refused]:
    """Yield the flow files whose path below `folder` is in `namespaces`, with the namespace they get there."""
    remote.source.ensure(files[path] for path in namespaces)
    for path, namespace in sorted(namespaces.items()):
        shown = posixpath.join(folder, path)
        try:
            content = remote.source.repository.blob(files[path], limit=MAX_FLOW_BYTES)
            source = with_namespace(content.decode(), namespace)
        except UnicodeDecodeError:
            yield Refused(shown, "it is not UTF-8 text")
        except MainstemError as error:
            yield Refused(shown, error.message)
        else:
            yield _parsed(shown, source, host_of(ctx).flow_writer.inherited(namespace, source))


def settled(ctx: Context, found: Iterable[Incoming | Refused], on_invalid: str) -> list[Incoming]:
    """Return the flows. `on_invalid` says what a file that is none does: FAIL, WARN or SKIP.

    Raises:
        TaskError: `git.flows.invalid` with the first problem; each is in the log.
    """
    flows: dict[FlowKey, Incoming] = {}
    refused: list[Refused] = []
    for each in found:
        if isinstance(each, Refused):
            refused.append(each)
        elif each.key in flows:
            refused.append(Refused(each.path, f"{flows[each.key].path} has the flow {each.flow_id!r} already"))
        else:
            flows[each.key] = each
    level = {"FAIL": "ERROR", "WARN": "WARN"}.get(on_invalid, "DEBUG")
    for each in refused:
        ctx.log(level, f"{each.path}: {each.reason}")
    if refused and on_invalid == "FAIL":
        first = refused[0]
        raise TaskError("git.flows.invalid", f"{len(refused)} files are no valid flows; {first.path}: {first.reason}")
    return list(flows.values())


def gone_flows(ctx: Context, active: Sequence[FlowVersion], incoming: Sequence[Incoming]) -> list[FlowVersion]:
    """Return the active flows that the other side does not have, without the one that runs."""
    kept = {flow.key for flow in incoming} | {(ctx.flow.namespace, ctx.flow.id)}
    return [version for version in active if (version.namespace, version.flow_id) not in kept]


def apply(
    ctx: Context,
    incoming: Sequence[Incoming],
    active: Sequence[FlowVersion],
    gone: Sequence[FlowVersion],
    *,
    dry_run: bool,
) -> dict[FlowKey, FlowVersion]:
    """Commit what differs, and return the versions that came of it; nothing on a dry run.

    Raises:
        TaskError: with the code of what the write was refused for; `preview.boundary` in a preview.
    """
    known = {(version.namespace, version.flow_id): version.source for version in active}
    changed = [flow for flow in incoming if known.get(flow.key) != flow.source]
    removing = [(version.namespace, version.flow_id) for version in gone]
    if dry_run or not (changed or removing):
        ctx.log("INFO", f"{len(changed)} flows differ, {len(removing)} are to be removed")
        return {}
    demand_writer(ctx)
    actor = f"{ctx.flow.namespace}.{ctx.flow.id}"
    versions = _again(
        lambda: host_of(ctx).flow_writer.write([flow.source for flow in changed], actor=actor, removing=removing)
    )
    ctx.log("INFO", f"{len(changed)} flows are written, {len(removing)} removed")
    return {(version.namespace, version.flow_id): version for version in versions}


def _again(write: Callable[[], list[FlowVersion]]) -> list[FlowVersion]:
    for left in range(_MOST_TRIES - 1, -1, -1):
        try:
            return write()
        except ConflictError as error:
            if error.code != MOVED or not left:
                raise
    raise AssertionError("the last try returns or raises")


def _parsed(path: str, source: str, inherited: Inherited) -> Incoming | Refused:
    parsed = parse_flow(source, file=path, inherited=inherited)
    if parsed.flow is None:
        first = next(each for each in parsed.problems if each.severity is Severity.ERROR)
        return Refused(path, f"line {first.line}: {first.sentence}" if first.line else first.sentence)
    return Incoming(path, parsed.flow.namespace, parsed.flow.id, source)


def _rows(
    incoming: Sequence[Incoming],
    active: Sequence[FlowVersion],
    gone: Sequence[FlowVersion],
    written: Mapping[FlowKey, FlowVersion],
) -> Iterator[dict[str, Any]]:
    known = {(version.namespace, version.flow_id): version.source for version in active}
    for flow in incoming:
        before = known.get(flow.key)
        yield {
            "gitPath": flow.path,
            "syncState": "ADDED" if before is None else "UNCHANGED" if before == flow.source else "UPDATED",
            "flowId": flow.flow_id,
            "namespace": flow.namespace,
            "revision": _revision(flow, active, written),
        }
    for version in gone:
        yield {
            "syncState": "DELETED",
            "flowId": version.flow_id,
            "namespace": version.namespace,
            "revision": version.revision,
        }


def _revision(flow: Incoming, active: Sequence[FlowVersion], written: Mapping[FlowKey, FlowVersion]) -> int:
    """Return the revision of a flow now; after a dry run the one that it would get."""
    if flow.key in written:
        return written[flow.key].revision
    before = next((v for v in active if (v.namespace, v.flow_id) == flow.key), None)
    return 1 if before is None else before.revision + (before.source != flow.source)
