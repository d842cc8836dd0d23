"""The `cache` of a `WorkingDirectory`: files that one execution leaves for the next of the same flow."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import IO, Any

from runner.context import host_of
from runner.durations import parse_duration
from runner.errors import TaskError
from runner.plugin import Context
from runner.storage.uris import flow_uri, slug
from runner.tasks.script_files import rendered_globs
from task_runners.archives import unpack
from task_runners.errors import TaskRunnerError
from task_runners.files import open_beneath
from task_runners.outputs import collect_outputs

_CHUNK = 1024 * 1024


def restore_cache(ctx: Context, cache: Mapping[str, Any]) -> bool:
    """Put the cached files into the working directory; return whether there was a cache that is not too old.

    `cache` is the property of that name: `patterns`, and `ttl`, after which the cache is made anew.
    """
    uri = _newest(ctx)
    if uri is None or _is_over(ctx, uri, cache):
        return False
    try:
        with ctx.storage.open(uri) as file:
            names = unpack(_chunks(file), ctx.work_dir())
    except TaskRunnerError as error:
        # A cache is a convenience: a broken one is made anew instead of stopping every execution from now on.
        ctx.log("WARN", f"the cache cannot be used and is made anew: {error.message}")
        ctx.storage.delete(uri)
        return False
    ctx.log("DEBUG", f"{len(names)} files come from the cache")
    return True


def save_cache(ctx: Context, cache: Mapping[str, Any]) -> None:
    """Store the files that `patterns` match in place of an older cache. Nothing matches: nothing is stored.

    Raises:
        TaskError: `file.glob.invalid`, `file.outputs.too_many`, `file.outputs.too_large`.
    """
    root = ctx.work_dir()
    try:
        paths = collect_outputs(root, rendered_globs(ctx, cache.get("patterns")))
        if not paths:
            return
        with tempfile.TemporaryFile() as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
                for path in paths:
                    with os.fdopen(open_beneath(root, path), "rb") as source:
                        archive.addfile(_member(path, source), source)
            file.seek(0)
            older = ctx.storage.list(_folder(ctx))
            ctx.storage.put(f"{_folder(ctx)}{_now(ctx):015d}.tar", file)
    except TaskRunnerError as error:
        raise TaskError(error.code, error.message, hint=error.hint) from None
    for uri in older:
        ctx.storage.delete(uri)


def _folder(ctx: Context) -> str:
    return f"{flow_uri(ctx.flow.namespace, ctx.flow.id)}{slug(ctx.task_run.task_id)}/cache/"


def _newest(ctx: Context) -> str | None:
    return max(ctx.storage.list(_folder(ctx)), default=None)


def _is_over(ctx: Context, uri: str, cache: Mapping[str, Any]) -> bool:
    ttl = ctx.render(cache.get("ttl"))
    if not ttl:
        return False
    made = int(uri.rpartition("/")[2].removesuffix(".tar"))
    return _now(ctx) - made > parse_duration(ttl).total_seconds() * 1000


def _now(ctx: Context) -> int:
    return int((host_of(ctx).clock() - datetime.fromtimestamp(0, UTC)).total_seconds() * 1000)


def _member(path: str, source: IO[bytes]) -> tarfile.TarInfo:
    status = os.fstat(source.fileno())
    member = tarfile.TarInfo(f"./{path}")
    member.size, member.mode, member.mtime = status.st_size, status.st_mode & 0o777, int(status.st_mtime)
    return member


def _chunks(file: IO[bytes]) -> Iterable[bytes]:
    return iter(lambda: file.read(_CHUNK), b"")
