"""Tasks on the files of a namespace, which live in git beside its flows: a write is a commit."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

from runner.context import host_of, open_uri, own_namespace
from runner.errors import MainstemError, TaskError
from runner.flows.models import Template
from runner.namespace_files import MOST_BYTES, Conflict
from runner.plugin import Context, Outputs, Task
from runner.storage.uris import is_uri, namespace_file_uri
from runner.tasks.script_files import is_own, open_output
from task_runners.errors import TaskRunnerError
from task_runners.outputs import collect_outputs, glob_pattern


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
        for name, uri in _map(ctx, self.files_map).items():
            yield name, _content(ctx, uri)
        named = _texts(ctx, self.files)
        for uri in filter(is_uri, named):
            yield PurePosixPath(uri).name, _content(ctx, uri)
        for path in _found(ctx, [glob for glob in named if not is_uri(glob)]):
            with open_output(ctx, path) as file:
                yield path, _limited(path, file)


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
        is_wanted = _matcher(_texts(ctx, self.files))
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
        is_wanted = _matcher(_texts(ctx, self.files))
        removed = _committed(
            ctx,
            lambda: host_of(ctx).file_writer.delete(ctx.execution.environment, namespace, is_wanted, actor=_actor(ctx)),
        )
        ctx.metric("counter", "deleted", len(removed))
        return {}


def _committed(ctx: Context, write: Callable[[], list[str]]) -> list[str]:
    try:
        paths = write()
    except MainstemError as error:
        raise TaskError(error.code, error.message, hint=error.hint) from None
    for path in paths:
        ctx.log("DEBUG", path)
    return paths


def _actor(ctx: Context) -> str:
    return f"{ctx.flow.namespace}.{ctx.flow.id}"


def _content(ctx: Context, uri: Any) -> bytes:
    with open_uri(ctx, str(uri)) as file:
        return _limited(str(uri), file)


def _limited(name: str, file: Any) -> bytes:
    content: bytes = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise TaskError("namespace.file.large", f"{name} is larger than {MOST_BYTES:,} bytes, too large for git")
    return content


def _found(ctx: Context, globs: list[str]) -> list[str]:
    if not globs:
        return []
    try:
        return [path for path in collect_outputs(ctx.work_dir(), map(_glob, globs)) if not is_own(path)]
    except TaskRunnerError as error:
        raise TaskError(error.code, error.message, hint=error.hint) from None


def _path(path: str) -> str:
    """Return a path of a namespace without a leading slash. Raises `TaskError` `namespace.path.invalid`."""
    parts = PurePosixPath(path.replace("//", "/")).parts
    if ".." in parts:
        raise TaskError("namespace.path.invalid", f"Path must not contain '../': {path!r}")
    return "/".join(part for part in parts if part not in {"/", "//"})


def _matcher(globs: list[str]) -> Callable[[str], bool]:
    """Return what says of a path whether a pattern names it; one without any slash, wherever the file stands.

    Raises:
        TaskError: `file.glob.invalid`.
    """
    try:
        whole = [glob_pattern(_glob(glob)) for glob in globs]
        names = [glob_pattern(_glob(glob)) for glob in globs if "/" not in glob]
    except TaskRunnerError as error:
        raise TaskError(error.code, error.message, hint=error.hint) from None
    return lambda path: (
        any(each.fullmatch(path) for each in whole) or any(each.fullmatch(path.rpartition("/")[2]) for each in names)
    )


def _glob(glob: str) -> str:
    if glob.startswith("regex:"):
        raise TaskError(
            "file.glob.invalid", f"{glob!r} is a regular expression", hint="write it as a pattern: **/*.sql"
        )
    return glob.removeprefix("glob:")


def _texts(ctx: Context, value: Any) -> list[str]:
    """Return a text, a list, or a list as JSON as texts."""
    found = ctx.render_typed(value)
    if isinstance(found, str):
        found = _json(found, "files") if found.lstrip().startswith("[") else [found]
    if not isinstance(found, list | tuple | None):
        raise TaskError("task.property.invalid", "`files` must be a path, a pattern or a list of them")
    return [str(each) for each in found or ()]


def _map(ctx: Context, value: Any) -> Mapping[str, Any]:
    found = ctx.render_typed(value)
    if isinstance(found, str):
        found = _json(found, "filesMap")
    if not isinstance(found, Mapping | None):
        raise TaskError("task.property.invalid", "`filesMap` must be a map of paths and URIs")
    return {str(name): uri for name, uri in (found or {}).items()}


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise TaskError("task.property.invalid", f"`{name}` is a text and not JSON") from None
