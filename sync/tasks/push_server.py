"""Tasks that push what a server holds: flows, namespace files, files of an execution."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from runner.context import own_namespace, store_of
from runner.errors import TaskError
from runner.flows.edits import with_namespace
from runner.flows.models import Template
from runner.plugin import Context, Outputs
from runner.store.records import FlowVersion
from runner.tasks.chosen_files import content_of, found_files, limited, map_of, matcher, texts
from runner.tasks.script_files import open_output
from sync.layout import is_about_flows
from sync.tasks.connection import is_on
from sync.tasks.differences import stored_rows
from sync.tasks.ignoring import ignored_below
from sync.tasks.pushing import Edits, PushTask, below, placed

_FLOW_FILES: Final = (".yml", ".yaml")


class PushFlows(PushTask):
    """Push the active flows of a namespace to a branch elsewhere, one file for each below `gitDirectory`.

    The flows are those that this server has from its own repository, so this copies from one repository to another:
    for a backup, a release, a colleague's server. `flows` is a pattern of flow ids or a list of such. With
    `includeChildNamespaces` the flows of namespaces below go to folders of their names. `targetNamespace` is what the
    files say instead of `sourceNamespace`. With `delete` (the default) flow files below `gitDirectory` that match
    `flows` and are none of the flows are removed. What `.kestraignore` there names is left alone.

    Outputs: `flows` (a file with one JSON object for each file that differs: `file`, `additions`, `deletions`,
    `changes`), and, when something was pushed, `commitId` and `commitURL`.
    """

    git_directory: Template = "_flows"
    source_namespace: Template = "{{ flow.namespace }}"
    target_namespace: Template | None = None
    flows: Any = None
    include_child_namespaces: Any = False
    delete: Any = True

    def run(self, ctx: Context) -> Outputs:
        """Return `flows`, `commitId` and `commitURL`."""
        namespace = own_namespace(ctx, ctx.render(self.source_namespace))
        sources = dict(self._sources(ctx, namespace))
        message = ctx.render(self.commit_message) or f"Add flows from {namespace} namespace"
        with self.opened(ctx, ctx.render(self.url)) as remote:
            ref, folder = remote.branch(ctx.render(self.branch)), self.folder(ctx)

            def edit(_base: str | None, files: Mapping[str, str]) -> Edits:
                stand = below(folder, files)
                is_ignored = ignored_below(remote.source, stand)
                return placed(folder, self._edits(ctx, sources, stand, is_ignored))

            pushed = self.publish(ctx, remote, ref, edit, message)
            return {"flows": stored_rows(ctx, pushed.rows), **self.outputs(ctx, remote, ref, pushed)}

    def _edits(
        self, ctx: Context, sources: Mapping[str, str], stand: Mapping[str, str], is_ignored: Callable[[str], bool]
    ) -> dict[str, bytes | None]:
        # A flow that has a file there keeps it, whichever of the two endings it has.
        flows = [path for path in stand if path.endswith(_FLOW_FILES) and not is_about_flows(path)]
        standing = {path.rpartition(".")[0]: path for path in flows}
        edits: dict[str, bytes | None] = {
            standing.get(place, f"{place}.yml"): source.encode() for place, source in sources.items()
        }
        if is_on(ctx, self.delete):
            is_wanted, has_children = self._wanted(ctx), is_on(ctx, self.include_child_namespaces)
            for place, path in standing.items():
                if place not in sources and ("/" not in place or has_children) and is_wanted(posixpath.basename(place)):
                    edits[path] = None
        return {path: content for path, content in edits.items() if not is_ignored(path)}

    def _sources(self, ctx: Context, namespace: str) -> Iterator[tuple[str, str]]:
        """Yield the text of each flow by its path below `gitDirectory`, without an ending."""
        target = ctx.render(self.target_namespace) or namespace
        is_wanted = self._wanted(ctx)
        for version in flows_of(ctx, namespace, with_children=is_on(ctx, self.include_child_namespaces)):
            if is_wanted(version.flow_id):
                inner = version.namespace[len(namespace) :]
                yield (
                    f"{inner.replace('.', '/')}/{version.flow_id}".lstrip("/"),
                    with_namespace(version.source, target + inner),
                )

    def _wanted(self, ctx: Context) -> Callable[[str], bool]:
        return matcher(texts(ctx, self.flows) or ["**"])


class PushNamespaceFiles(PushTask):
    """Push the files of a namespace, as they are at the commit of the execution, to a branch elsewhere.

    `files` are patterns of their paths. With `delete` (the default) files below `gitDirectory` that match and that the
    namespace does not have are removed. What `.kestraignore` there names is left alone.

    Outputs: `files` (a file with one JSON object for each file that differs: `file`, `additions`, `deletions`,
    `changes`), and, when something was pushed, `commitId` and `commitURL`.
    """

    git_directory: Template = "_files"
    namespace: Template = "{{ flow.namespace }}"
    files: Any = None
    error_on_missing: Any = False
    delete: Any = True

    def run(self, ctx: Context) -> Outputs:
        """Return `files`, `commitId` and `commitURL`."""
        namespace = own_namespace(ctx, ctx.render(self.namespace))
        is_wanted = matcher(texts(ctx, self.files) or ["**"])
        paths = [path for path in ctx.namespace_files(namespace) if is_wanted(path)]
        contents = {path: ctx.namespace_file(path, namespace) for path in paths}
        demand(ctx, contents, self.error_on_missing)
        message = ctx.render(self.commit_message) or f"Add files from {namespace} namespace"
        with self.opened(ctx, ctx.render(self.url)) as remote:
            ref, folder = remote.branch(ctx.render(self.branch)), self.folder(ctx)

            def edit(_base: str | None, files: Mapping[str, str]) -> Edits:
                stand = below(folder, files)
                is_ignored = ignored_below(remote.source, stand)
                edits: dict[str, bytes | None] = dict(contents)
                if is_on(ctx, self.delete):
                    edits |= {path: None for path in stand if path not in contents and is_wanted(path)}
                return placed(folder, {path: new for path, new in edits.items() if not is_ignored(path)})

            pushed = self.publish(ctx, remote, ref, edit, message)
            return {"files": stored_rows(ctx, pushed.rows), **self.outputs(ctx, remote, ref, pushed)}


class PushExecutionFiles(PushTask):
    """Push files of this execution to a branch elsewhere; nothing there is removed.

    `filesMap` is a map of names and addresses. `files` are patterns of the working directory or, where none matches
    there, of the names of `outputFiles` of tasks before. Without both it is all `outputFiles`.

    Outputs: `files` (a file with one JSON object for each file that differs: `file`, `additions`, `deletions`,
    `changes`), and, when something was pushed, `commitId` and `commitURL`.
    """

    git_directory: Template = "_outputs"
    files: Any = None
    files_map: Any = None
    error_on_missing: Any = False

    def run(self, ctx: Context) -> Outputs:
        """Return `files`, `commitId` and `commitURL`."""
        contents: dict[str, bytes | None] = dict(self._contents(ctx))
        demand(ctx, contents, self.error_on_missing)
        message = ctx.render(self.commit_message) or f"Add files from execution {ctx.execution.id}"
        with self.opened(ctx, ctx.render(self.url)) as remote:
            ref, folder = remote.branch(ctx.render(self.branch)), self.folder(ctx)
            pushed = self.publish(ctx, remote, ref, lambda *_: placed(folder, contents), message)
            return {"files": stored_rows(ctx, pushed.rows), **self.outputs(ctx, remote, ref, pushed)}

    def _contents(self, ctx: Context) -> Iterator[tuple[str, bytes]]:
        if self.files_map is not None:
            for name, uri in map_of(ctx, self.files_map).items():
                yield name, content_of(ctx, uri)
            return
        globs = texts(ctx, self.files)
        found = found_files(ctx, globs)
        for path in found:
            with open_output(ctx, path) as file:
                yield path, limited(path, file)
        if not found:
            is_wanted = matcher(globs or ["**"])
            for name, uri in _output_files(ctx.render_typed("{{ outputs ?? {} }}")):
                if is_wanted(name):
                    yield name, content_of(ctx, uri)


def flows_of(ctx: Context, namespace: str, *, with_children: bool) -> list[FlowVersion]:
    """Return the active flows of a namespace, and of those below it; below the empty one are all.

    Raises:
        TaskError: `store.absent` where a run has no server behind it.
    """
    versions = store_of(ctx).read(lambda db: db.flows.list())
    prefix = f"{namespace}." if namespace else ""
    return [
        version
        for version in versions
        if version.namespace == namespace or (with_children and version.namespace.startswith(prefix))
    ]


def demand(ctx: Context, found: Mapping[str, Any], error_on_missing: Any) -> None:
    """Say that no file was found. Raises `TaskError` `namespace.files.missing` where that is to be an error."""
    if found:
        return
    if is_on(ctx, error_on_missing):
        raise TaskError("namespace.files.missing", "no file matches `files`")
    ctx.log("WARN", "no file matches")


def _output_files(outputs: Any) -> Iterator[tuple[str, str]]:
    for each in outputs.values() if isinstance(outputs, Mapping) else ():
        files = each.get("outputFiles") if isinstance(each, Mapping) else None
        yield from files.items() if isinstance(files, Mapping) else ()
