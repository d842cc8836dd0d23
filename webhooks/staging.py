"""Gives archives to jobs and takes those that they hand in, at `/staging/GRANT`: no account, a signed grant instead."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import IO, Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from runner.errors import AccessError, ConflictError, InvalidError, MainstemError
from runner.plugin import Storage
from runner.stage import Direction, Grant, Grants
from runner.store import Store
from webhooks.problems import answer
from webhooks.routes import Operation
from webhooks.schemas import BYTES

_CHUNK: Final = 256 * 1024
_TAR: Final = "application/x-tar"
_DIRECTIONS: Final[dict[str, Direction]] = {"GET": "get", "PUT": "put", "POST": "put"}

_PLACE: Final = "/staging/{grant}"
OPERATIONS: Final = (
    Operation(
        method="GET", path=_PLACE, summary="The files of a job, as a tar", tag="staging", gives=_TAR, answer=BYTES
    ),
    *(
        Operation(
            method=method,
            path=_PLACE,
            summary="Hand in what a job made, as a tar; once",
            tag="staging",
            takes=_TAR,
            status=201,
            body=BYTES,
        )
        for method in ("PUT", "POST")
    ),
)
"""What is answered at `/staging`; the grant in the address is the proof."""


class Staging:
    """The ASGI application below `/staging`. An archive is streamed both ways; on disk it is never whole in memory."""

    def __init__(self, grants: Grants, store: Store, storage: Storage, *, clock: Callable[[], datetime]) -> None:
        self._grants = grants
        self._store = store
        self._storage = storage
        self._clock = clock
        self._coming: set[str] = set()
        """Addresses of archives that are on their way here."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except MainstemError as error:
            response = answer(error)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        direction = _DIRECTIONS.get(request.method)
        if direction is None:
            return Response(status_code=405, headers={"allow": "GET, PUT, POST"})
        token = request.scope["path"].rpartition("/")[2]
        grant = self._grants.read(token, direction, self._clock())
        await run_in_threadpool(self._demand_running, grant)
        if direction == "get":
            return await run_in_threadpool(self._give, grant)
        return await self._take(grant, request)

    def _demand_running(self, grant: Grant) -> None:
        if not self._store.read(lambda db: db.claims.is_open(grant.task_run_id, grant.attempt)):
            raise AccessError("staging.grant.invalid", "the address opens nothing: its attempt has ended")

    def _give(self, grant: Grant) -> Response:
        size = self._storage.size(grant.uri)
        content = _chunks(self._storage.open(grant.uri))
        return StreamingResponse(content, media_type=_TAR, headers={"content-length": str(size)})

    async def _take(self, grant: Grant, request: Request) -> Response:
        if grant.uri in self._coming:
            raise _handed_in()
        self._coming.add(grant.uri)  # else one address would fill the disk by many requests at once
        try:
            if await run_in_threadpool(self._storage.exists, grant.uri):
                raise _handed_in()
            await self._keep(grant, request)
        finally:
            self._coming.discard(grant.uri)
        return Response(status_code=201)

    async def _keep(self, grant: Grant, request: Request) -> None:
        with tempfile.TemporaryFile() as file:
            size = 0
            async for chunk in request.stream():
                size += len(chunk)
                if size > grant.max_bytes:
                    raise InvalidError("staging.archive.large", f"the archive has more than {grant.max_bytes} bytes")
                await run_in_threadpool(file.write, chunk)
            file.seek(0)
            await run_in_threadpool(self._demand_running, grant)  # nobody removes what comes after the end
            await run_in_threadpool(self._storage.put, grant.uri, file)


def _handed_in() -> ConflictError:
    return ConflictError("staging.archive.exists", "the archive was handed in before; an address serves once")


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(_CHUNK):
            yield piece
