"""Gives archives to jobs and takes those that they hand in, at `/staging/GRANT`: no account, a signed grant instead."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
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
_SILENT_S: Final = 5.0  # an upload of which nothing came for so long gives way to one that begins
_GOES_ON_S: Final = 0.1  # between two looks at whether something comes of it
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


@dataclass(eq=False, slots=True)
class _Coming:
    """An archive that is on its way here; its connection may be dead without a sign of it."""

    heard_at: float = field(default_factory=time.monotonic)
    is_ended: bool = False
    """Whether another upload has taken its place: nothing more of it may be kept."""
    is_whole: bool = False
    """Whether it came to its end, and is being kept."""
    reading: asyncio.Timeout | None = None

    def end(self) -> None:
        """Have it end where it waits for more."""
        self.is_ended = True
        if self.reading is not None:
            self.reading.reschedule(asyncio.get_running_loop().time())

    async def write(self, request: Request, file: IO[bytes], most: int) -> None:
        """Write what comes to its end.

        Raises:
            ConflictError: another upload has taken its place.
            InvalidError: more comes than `most` bytes.
        """
        size = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None) as self.reading:
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > most:
                        raise InvalidError("staging.archive.large", f"the archive has more than {most} bytes")
                    await run_in_threadpool(file.write, chunk)
                    self.heard_at = time.monotonic()
        if self.is_ended:
            raise ConflictError("staging.archive.exists", "another upload to this address took the place of this one")
        self.is_whole = True


class Staging:
    """The ASGI application below `/staging`. An archive is streamed both ways; on disk it is never whole in memory.

    Of an address one upload counts. While one comes, others are refused, so that an address does not fill the disk;
    but one of which nothing has come for `silent_s` seconds gives way: its sender may be gone and have begun again.
    """

    def __init__(
        self,
        grants: Grants,
        store: Store,
        storage: Storage,
        *,
        clock: Callable[[], datetime],
        silent_s: float = _SILENT_S,
    ) -> None:
        self._grants = grants
        self._store = store
        self._storage = storage
        self._clock = clock
        self._silent_s = silent_s
        self._coming: dict[str, _Coming] = {}
        """Archives that are on their way here, by their addresses."""

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
        await self._outlast(grant.uri)
        coming = self._coming[grant.uri] = _Coming()
        try:
            if await run_in_threadpool(self._storage.exists, grant.uri):
                raise _handed_in()
            await self._keep(grant, request, coming)
        finally:
            if self._coming.get(grant.uri) is coming:
                del self._coming[grant.uri]
        return Response(status_code=201)

    async def _outlast(self, uri: str) -> None:
        """Return once no other upload to an address is under way: the one before has ended, or was silent too long.

        Raises:
            ConflictError: it goes on.
        """
        while (older := self._coming.get(uri)) is not None:
            heard_at = older.heard_at
            rest = heard_at + self._silent_s - time.monotonic()
            if older.is_whole:
                raise _handed_in()
            if rest <= 0:
                older.end()
                return
            await asyncio.sleep(min(rest, _GOES_ON_S))
            if older.heard_at != heard_at:
                raise _handed_in()

    async def _keep(self, grant: Grant, request: Request, coming: _Coming) -> None:
        with tempfile.TemporaryFile() as file:
            await coming.write(request, file, grant.max_bytes)
            file.seek(0)
            await run_in_threadpool(self._demand_running, grant)  # nobody removes what comes after the end
            await run_in_threadpool(self._storage.put, grant.uri, file)


def _handed_in() -> ConflictError:
    return ConflictError("staging.archive.exists", "the archive was handed in before; an address serves once")


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(_CHUNK):
            yield piece
