"""Files that executions left in the internal storage."""

from __future__ import annotations

import base64
import codecs
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Any, Final
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from runner.access import Permission
from runner.errors import ExpressionError, InvalidError, NotFoundError
from runner.expressions.ion import from_ion
from runner.storage.access import may_read
from runner.storage.uris import is_uri, namespace_file_of
from webhooks.answers.executions import FILE_PREVIEW, FILE_SIZE
from webhooks.api.executions import BASE, visible_execution, visible_of
from webhooks.call import Call
from webhooks.parameters import number, required, text
from webhooks.routes import Endpoint
from webhooks.schemas import BYTES

_CHUNK: Final = 256 * 1024
_PREVIEW_BYTES: Final = 1024 * 1024
_PREVIEW_ROWS: Final = 100
# Codecs of Python that are no charsets of files: reading 200 kB as punycode takes minutes, the others fail or unescape.
_NO_CHARSETS: Final = frozenset({"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape"})
_KINDS: Final = {
    "ion": "LIST",
    "md": "MARKDOWN",
    "pdf": "PDF",
    **dict.fromkeys(("png", "jpg", "jpeg", "gif", "svg", "webp"), "IMAGE"),
}


def content(call: Call) -> Response:
    """Answer with the bytes of a file of an execution, always as an attachment: task output is not trusted."""
    uri = _allowed(call)
    storage = call.services.host.storage
    size = storage.size(uri)
    name = PurePosixPath(uri).name or "file"
    headers = {
        "content-length": str(size),
        "content-disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "content-security-policy": "sandbox; default-src 'none'",
    }
    return StreamingResponse(_chunks(storage.open(uri)), media_type="application/octet-stream", headers=headers)


def metas(call: Call) -> dict[str, Any]:
    """Answer with the size of a file of an execution."""
    return {"size": call.services.host.storage.size(_allowed(call))}


def preview(call: Call) -> dict[str, Any]:
    """Answer with the beginning of a file, as people can look at it: text, a list of rows, or an image."""
    uri = _allowed(call)
    rows = call.count("maxRows")
    extension = PurePosixPath(uri).suffix.lstrip(".").lower()
    kind = _KINDS.get(extension, "TEXT")
    with call.services.host.storage.open(uri) as source:
        content = source.read(_PREVIEW_BYTES + 1)
    truncated = len(content) > _PREVIEW_BYTES
    if kind in {"IMAGE", "PDF"}:
        shown: Any = base64.b64encode(content[:_PREVIEW_BYTES]).decode()
    else:
        lines = _text(content[:_PREVIEW_BYTES], call.query("encoding") or "").splitlines(keepends=True)
        truncated = truncated or len(lines) > rows
        shown = "".join(lines[:rows]) if kind != "LIST" else _rows("".join(lines[:rows]))
    return {"extension": extension, "type": kind, "content": shown, "maxLine": rows, "truncated": truncated}


def _text(content: bytes, encoding: str) -> str:
    try:
        if codecs.lookup(encoding).name not in _NO_CHARSETS:
            return content.decode(encoding, errors="replace")
    except (LookupError, ValueError):
        pass  # there is none of this name, or it is one of bytes
    raise InvalidError("request.parameter.invalid", f"encoding={encoding[:40]} is no encoding of text")


def _rows(text: str) -> list[Any]:
    try:
        return from_ion(text)
    except ExpressionError:
        return text.splitlines()


def _allowed(call: Call) -> str:
    execution = visible_execution(call, call.path("id"))
    uri = call.required("path")
    if not is_uri(uri):
        raise InvalidError("storage.uri.invalid", f"{uri[:200]!r} is no address of a stored file")
    flow = call.services.catalogue.get(execution.namespace, execution.flow_id, execution.flow_revision)
    allowed = may_read(uri, execution, flow, lookup=visible_of(call), sees=call.sees)
    if namespace_file_of(uri) is not None or not allowed:
        # The same answer as for a file that is gone: who asks for the files of others must not learn which there are.
        raise NotFoundError("storage.file.missing", f"the execution {execution.id} has no such file")
    return uri


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    with source:
        while chunk := source.read(_CHUNK):
            yield chunk


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, octets, tag = Permission.EXECUTION_READ, "application/octet-stream", "executions"
    path = required("path", "Address of the file, as outputs and inputs name it.")
    shown = (
        path,
        number("maxRows", "Lines at most.", _PREVIEW_ROWS, least=1),
        text("encoding", "How the bytes are read as text.", default="UTF-8"),
    )
    return [
        Endpoint(
            "GET",
            BASE + "/{id}/file",
            read,
            content,
            "A file of an execution",
            tag,
            gives=octets,
            query=(path, text("format", "Not looked at: the file comes as it is stored.")),
            answer=BYTES,
        ),
        Endpoint(
            "GET",
            BASE + "/{id}/file/preview",
            read,
            preview,
            "The beginning of a file",
            tag,
            query=shown,
            answer=FILE_PREVIEW,
        ),
        Endpoint(
            "GET", BASE + "/{id}/file/metas", read, metas, "The size of a file", tag, query=(path,), answer=FILE_SIZE
        ),
    ]
