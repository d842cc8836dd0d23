"""Tasks on the files of a namespace, which live in git beside its flows: a write is a commit."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

from runner.context import demand_writer, host_of, own_namespace
from runner.errors import MainstemError, TaskError
from runner.flows.models import Template
from runner.namespace_files import Conflict
from runner.plugin import Context, Outputs, Task
from runner.storage.uris import is_uri, namespace_file_uri
from runner.tasks.chosen_files import content_of, found_files, limited, map_of, matcher, texts
from runner.tasks.script_files import open_output


class UploadFiles(Task):
    """Write files to a namespace: one commit to the repository of the execution's environment.

    `files` are patterns of the working directory, or URIs; `filesMap` is a map of paths and URIs, or that map as JSON.
    They go below the folder `destination`. `conflict` says what becomes of a file that is there with another content.
    Where the environment takes no commits of the server the task fails. Running executions keep the files of the
    commit that they began with. Output `files`: path to URI, of those that were written.
    """

    namespace: Template = "{{ flow.namespace }}"
    files: Any = None
    files_map: Any = None
    destination: Template = "/"
    conflict: Template = "OVERWRITE"

    def run(self, ctx: Context) -> Outputs:
        """Return `files`."""
        namespace = own_namespace(ctx, ctx.render(self.namespace))
        folder = ctx.render(self.destination)
        contents = {_path(f"{folder}/{name}"): content for name, content in self._contents(ctx)}
        if not contents:
            raise TaskError("namespace.files.missing", "no file matches `files`")
        written = _committed(
            ctx,
            lambda: host_of(ctx).file_writer.write(
                ctx.execution.environment, namespace, contents, conflict=self._conflict(ctx), actor=_actor(ctx)
            ),
        )
        ctx.metric("counter", "uploaded", len(written))
        return {"files": {f"/{path}": namespace_file_uri(namespace, path) for path in written}}

    def _conflict(self, ctx: Context) -> Conflict:
        match ctx.render(self.conflict).upper():
            case "OVERWRITE" | "":
                return "OVERWRITE"
            case "ERROR":
                return "ERROR"
            case "SKIP":
                return "SKIP"
            case other:
                raise TaskError("task.property.invalid", f"`conflict` is OVERWRITE, ERROR or SKIP, and not {other!r}")

    def _contents(self, ctx: Context) -> Iterator[tuple[str, bytes]]:
        if self.files is None and self.files_map is None:
            raise TaskError("namespace.files.missing", "files or filesMap is required")
        for name, uri in map_of(ctx, self.files_map).items():
            yield name, content_of(ctx, uri)
        named = texts(ctx, self.files)
        for uri in filter(is_uri, named):
            yield PurePosixPath(uri).name, content_of(ctx, uri)
        for path in found_files(ctx, [glob for glob in named if not is_uri(glob)]):
            with open_output(ctx, path) as file:
                yield path, limited(path, file)


class DownloadFiles(Task):
    """Take files of a namespace, as they are at the commit of the execution, into internal storage.

    `files` are paths or patterns. Output `files`: path, with a slash before it and below `destination`, to URI.
    """

    namespace: Template = "{{ flow.namespace }}"
    files: Any
    destination: Template = ""

    def run(self, ctx: Context) -> Outputs:
        """Return `files`."""
        namespace = ctx.render(self.namespace)
        is_wanted = matcher(texts(ctx, self.files))
        folder = ctx.render(self.destination)
        found: dict[str, str] = {}
        for path in ctx.namespace_files(namespace):
            if is_wanted(path):
                target = _path(f"{folder}/{path}")
                uri = found[f"/{target}"] = ctx.uri(target)
                ctx.storage.put(uri, io.BytesIO(ctx.namespace_file(path, namespace)))
        ctx.metric("counter", "downloaded", len(found))
        return {"files": found}


class DeleteFiles(Task):
    """Remove files of a namespace: one commit to the repository of the execution's environment.

    `files` are paths or patterns. Folders that become empty are gone with their files, whatever `deleteParentFolder`
    says, since git keeps none. Metric: `deleted`.
    """

    namespace: Template = "{{ flow.namespace }}"
    files: Any
    delete_parent_folder: Any = False

    def run(self, ctx: Context) -> Outputs:
        """Remove the files; there are no outputs."""
        namespace = own_namespace(ctx, ctx.render(self.namespace))
        is_wanted = matcher(texts(ctx, self.files))
        removed = _committed(
            ctx,
            lambda: host_of(ctx).file_writer.delete(ctx.execution.environment, namespace, is_wanted, actor=_actor(ctx)),
        )
        ctx.metric("counter", "deleted", len(removed))
        return {}


def _committed(ctx: Context, write: Callable[[], list[str]]) -> list[str]:
    demand_writer(ctx)
    try:
        paths = write()
    except MainstemError as error:
        raise TaskError(error.code, error.message, hint=error.hint) from None
    for path in paths:
        ctx.log("DEBUG", path)
    return paths


def _actor(ctx: Context) -> str:
    return f"{ctx.flow.namespace}.{ctx.flow.id}"


def _path(path: str) -> str:
    """Return a path of a namespace without a leading slash. Raises `TaskError` `namespace.path.invalid`."""
    parts = PurePosixPath(path.replace("//", "/")).parts
    if ".." in parts:
        raise TaskError("namespace.path.invalid", f"Path must not contain '../': {path!r}")
    return "/".join(part for part in parts if part not in {"/", "//"})
