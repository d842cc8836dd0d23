"""Which files a property of a task names: patterns of the working directory, addresses, or a map of both."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from runner.context import open_uri
from runner.errors import TaskError
from runner.namespace_files import MOST_BYTES
from runner.plugin import Context
from runner.tasks.script_files import is_own
from task_runners.errors import TaskRunnerError
from task_runners.outputs import collect_outputs, glob_pattern


def content_of(ctx: Context, uri: Any) -> bytes:
    """Return what stands at an address. Raises `TaskError` `namespace.file.large`, and as `open_uri`."""
    with open_uri(ctx, str(uri)) as file:
        return limited(str(uri), file)


def limited(name: str, file: Any) -> bytes:
    """Return the content of an open file. Raises `TaskError` `namespace.file.large`: it is meant for git."""
    content: bytes = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise TaskError("namespace.file.large", f"{name} is larger than {MOST_BYTES:,} bytes, too large for git")
    return content


def found_files(ctx: Context, globs: list[str]) -> list[str]:
    """Return the files of the working directory that patterns match. Raises `TaskError` `file.glob.invalid`."""
    if not globs:
        return []
    try:
        return [path for path in collect_outputs(ctx.work_dir(), map(_glob, globs)) if not is_own(path)]
    except TaskRunnerError as error:
        raise TaskError(error.code, error.message, hint=error.hint) from None


def matcher(globs: list[str]) -> Callable[[str], bool]:
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


def texts(ctx: Context, value: Any) -> list[str]:
    """Return a text, a list, or a list as JSON as texts."""
    found = ctx.render_typed(value)
    if isinstance(found, str):
        found = _json(found, "files") if found.lstrip().startswith("[") else [found]
    if not isinstance(found, list | tuple | None):
        raise TaskError("task.property.invalid", "`files` must be a path, a pattern or a list of them")
    return [str(each) for each in found or ()]


def map_of(ctx: Context, value: Any) -> Mapping[str, Any]:
    """Return a map, or a map as JSON. Raises `TaskError` `task.property.invalid`."""
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
