"""Tasks on files of internal storage."""

from __future__ import annotations

import io
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Any

from pydantic import Field

from runner.context import open_uri
from runner.errors import TaskError
from runner.expressions import is_truthy, to_json
from runner.flows.models import Template
from runner.ids import new_id
from runner.plugin import Context, Outputs, Task
from runner.storage.uris import execution_uri, is_uri
from runner.tasks.script_files import collect_outputs, stage_inputs
from runner.tasks.storage_items import DeduplicateItems, FilterItems

__all__ = [
    "Concat",
    "DeduplicateItems",
    "Delete",
    "FilterItems",
    "LocalFiles",
    "PurgeCurrentExecutionFiles",
    "Reverse",
    "Size",
    "Split",
    "Write",
    "cut",
    "size_of",
]

_CHUNK = 1024 * 1024
_SIZE = re.compile(r"(?P<number>\d+)\s*(?P<unit>B|KB|MB|GB|KIB|MIB|GIB)?", re.IGNORECASE)
# Kestra reads both spellings as powers of two.
_UNITS = {"B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3, "KIB": 1024, "MIB": 1024**2, "GIB": 1024**3}


class Write(Task):
    """Write `content` to a file; output `uri`. `extension` is its name's end, such as `.txt`."""

    content: Any
    extension: Any = None

    def run(self, ctx: Context) -> Outputs:
        """Return `uri`."""
        text = ctx.render(self.content) if isinstance(self.content, str) else to_json(ctx.render_deep(self.content))
        uri = _new_uri(ctx, ctx.render(self.extension))
        ctx.storage.put(uri, io.BytesIO(text.encode()))
        return {"uri": uri}


class Concat(Task):
    """Join files (a list of URIs, or that list as JSON), `separator` after each of them; output `uri`."""

    files: Any
    separator: Any = None
    extension: Any = ".tmp"

    def run(self, ctx: Context) -> Outputs:
        """Return `uri`."""
        separator = ctx.render(self.separator).encode()
        with tempfile.TemporaryFile(dir=ctx.work_dir()) as joined:
            for uri in _texts(ctx, self.files, "files"):
                with open_uri(ctx, uri) as file:
                    for chunk in iter(lambda: file.read(_CHUNK), b""):
                        joined.write(chunk)
                joined.write(separator)
            return {"uri": _stored(ctx, joined, ctx.render(self.extension))}


class Reverse(Task):
    """Write the parts between separators in reverse order, each followed by the separator; output `uri`."""

    from_: Template = Field(alias="from")
    separator: Any = "\n"
    charset: Any = "UTF-8"

    def run(self, ctx: Context) -> Outputs:
        """Return `uri`."""
        uri = ctx.render(self.from_)
        separator = ctx.render(self.separator).encode(ctx.render(self.charset))
        with open_uri(ctx, uri) as file:
            parts = file.read().split(separator)
        if not parts[-1]:
            parts.pop()  # what stands after the last separator
        text = b"".join(part + separator for part in reversed(parts))
        return {"uri": _stored(ctx, io.BytesIO(text), PurePosixPath(uri).suffix)}


class Split(Task):
    """Cut a file at separators by `bytes`, `rows` or `partitions`; output `uris`.

    Rows are never cut: a piece ends with the row that reaches `bytes`. Partitions are filled in turn, row by row.
    """

    from_: Template = Field(alias="from")
    bytes_: Any = Field(default=None, alias="bytes")
    partitions: Any = None
    rows: Any = None
    separator: Any = "\n"

    def run(self, ctx: Context) -> Outputs:
        """Return `uris`, in the order of the file."""
        uri = ctx.render(self.from_)
        separator = ctx.render(self.separator).encode()
        with open_uri(ctx, uri) as file:
            pieces = self._pieces(ctx, file.read(), separator)
            suffix = PurePosixPath(uri).suffix
            return {"uris": [_stored(ctx, io.BytesIO(piece), suffix) for piece in pieces]}

    def _pieces(self, ctx: Context, content: bytes, separator: bytes) -> Iterator[bytes]:
        return cut(
            content,
            separator,
            size=None if self.bytes_ is None else size_of(ctx.render(self.bytes_)),
            partitions=None if self.partitions is None else int(ctx.render(self.partitions)),
            rows=None if self.rows is None else int(ctx.render(self.rows)),
        )


class Size(Task):
    """Return the output `size` of a file, in bytes."""

    uri: Template

    def run(self, ctx: Context) -> Outputs:
        """Return `size`."""
        with open_uri(ctx, ctx.render(self.uri)) as file:
            return {"size": file.seek(0, io.SEEK_END)}


class Delete(Task):
    """Remove a file of this execution; outputs `uri` and `deleted`."""

    uri: Template
    error_on_missing: Any = False

    def run(self, ctx: Context) -> Outputs:
        """Return whether it was there."""
        uri = ctx.render(self.uri)
        if not uri.startswith(_own_folder(ctx)):
            raise TaskError("storage.file.refused", f"{uri!r} does not belong to this execution")
        deleted = ctx.storage.exists(uri) and ctx.storage.delete(uri) > 0
        if not deleted and is_truthy(ctx.render(self.error_on_missing)):
            raise TaskError("storage.file.missing", f"Unable to find file '{uri}'")
        return {"uri": uri, "deleted": deleted}


class LocalFiles(Task):
    """Put files into the working directory and take files out of it (deprecated: use `inputFiles`, `outputFiles`).

    `inputs` is a map of names and contents or URIs, `outputs` a list of patterns. Output `uris`, by path.
    """

    inputs: Any = None
    outputs: Any = None

    def run(self, ctx: Context) -> Outputs:
        """Return `uris`."""
        stage_inputs(ctx, self.inputs, None)
        return {"uris": collect_outputs(ctx, self.outputs)}


class PurgeCurrentExecutionFiles(Task):
    """Remove all files of this execution; output `uris`."""

    def run(self, ctx: Context) -> Outputs:
        """Return what was removed."""
        folder = _own_folder(ctx)
        uris = ctx.storage.list(folder)
        ctx.storage.delete(folder)
        return {"uris": uris}


def _own_folder(ctx: Context) -> str:
    return execution_uri(ctx.flow.namespace, ctx.flow.id, ctx.execution.id)


def _new_uri(ctx: Context, extension: str) -> str:
    suffix = extension if not extension or extension.startswith(".") else f".{extension}"
    return ctx.uri(f"{new_id()}{suffix}")


def _stored(ctx: Context, file: IO[bytes], extension: str) -> str:
    file.seek(0)
    uri = _new_uri(ctx, extension)
    ctx.storage.put(uri, file)
    return uri


def _texts(ctx: Context, value: Any, name: str) -> list[str]:
    rendered = ctx.render_typed(value)
    if isinstance(rendered, str):
        rendered = [rendered] if is_uri(rendered) else json.loads(rendered)
    if not isinstance(rendered, list | tuple):
        raise TaskError("storage.property.invalid", f"`{name}` must be a list of addresses")
    return [str(item) for item in rendered]


def cut(
    content: bytes, separator: bytes, *, size: int | None = None, partitions: int | None = None, rows: int | None = None
) -> Iterator[bytes]:
    """Yield the pieces of `content`, each of whole rows: by `size` in bytes, else by `partitions`, else by `rows`.

    A piece ends with the row that reaches `size`; partitions are filled in turn, row by row. Nothing gives no piece.

    Raises:
        TaskError: `storage.split.undecided` when none of the three is given.
    """
    found = _rows(content, separator)
    if size is not None:
        return _by_size(found, size)
    if partitions is not None:
        count = min(max(1, partitions), len(found))
        return (b"".join(found[index::count]) for index in range(count))
    if rows is not None:
        step = max(1, rows)
        return (b"".join(found[start : start + step]) for start in range(0, len(found), step))
    raise TaskError("storage.split.undecided", "one of `bytes`, `partitions` and `rows` must be given")


def size_of(text: str) -> int:
    """Return the bytes that a text such as `10MB` names. Raises `TaskError` `storage.size.invalid`."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise TaskError("storage.size.invalid", f"{text!r} is no size", hint="write it like 10MB")
    return int(match["number"]) * _UNITS[(match["unit"] or "B").upper()]


def _rows(content: bytes, separator: bytes) -> list[bytes]:
    parts = content.split(separator)
    rest = parts.pop()
    rows = [part + separator for part in parts]
    return [*rows, rest] if rest else rows


def _by_size(rows: list[bytes], limit: int) -> Iterator[bytes]:
    piece = bytearray()
    for row in rows:
        piece += row
        if len(piece) >= limit:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)
