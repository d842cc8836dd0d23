"""Files that executions left in the internal storage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Any, Final
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from runner.access import Permission
from runner.errors import InvalidError, NotFoundError
from runner.executions.models import Execution
from runner.storage.access import may_read
from runner.storage.uris import is_uri, namespace_file_of
from webhooks.api.executions import BASE, visible_execution
from webhooks.call import Call
from webhooks.routes import Endpoint

_CHUNK: Final = 256 * 1024


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


def _allowed(call: Call) -> str:
    execution = visible_execution(call, call.path("id"))
    uri = call.required("path")
    if not is_uri(uri):
        raise InvalidError("storage.uri.invalid", f"{uri[:200]!r} is no address of a stored file")
    flow = call.services.catalogue.get(execution.namespace, execution.flow_id, execution.flow_revision)
    lookup = _lookup(call)
    if namespace_file_of(uri) is not None or not may_read(uri, execution, flow, lookup=lookup):
        # The same answer as for a file that is gone: who asks for the files of others must not learn which there are.
        raise NotFoundError("storage.file.missing", f"the execution {execution.id} has no such file")
    return uri


def _lookup(call: Call) -> Any:
    def find(execution_id: str) -> Execution | None:
        found: Execution | None = call.services.store.read(lambda db: db.executions.get(execution_id))
        # A file of another execution of the tree is given only to those who may see that execution.
        return found if found is not None and call.sees(found.namespace) else None

    return find


def _chunks(source: IO[bytes]) -> Iterator[bytes]:
    with source:
        while chunk := source.read(_CHUNK):
            yield chunk


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, octets = Permission.EXECUTION_READ, "application/octet-stream"
    return [
        Endpoint("GET", BASE + "/{id}/file", read, content, "A file of an execution", "executions", gives=octets),
        Endpoint("GET", BASE + "/{id}/file/metas", read, metas, "The size of a file", "executions"),
    ]
