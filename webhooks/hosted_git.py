"""The hosted repository over smart HTTP: `GET info/refs`, `POST git-upload-pack`, `POST git-receive-pack`.

Only the transport: who asks, how large the body may be, and bytes in both directions. The server has already taken
chunked bodies apart, so they are not taken apart again; compressed ones are inflated here, within the same limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
import zlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import IO, Any, Final, TypeVar
from urllib.parse import parse_qs

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from runner.access import REFUSED, AccessControl, Identity, Permission, allows
from runner.errors import AccessError, InvalidError, MainstemError
from sync.hosted import RECEIVE, SERVICES, HostedRepository
from webhooks.parameters import required
from webhooks.routes import Operation, client_of
from webhooks.schemas import BYTES

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_BODY_BYTES: Final = 256 << 20
NAME: Final = "flows.git"
_IN_MEMORY: Final = 1 << 20
_THREADS: Final = 8
_CHUNK: Final = 32 << 10
_WAITING_CHUNKS: Final = 16
_PATIENCE_S: Final = 60.0
_NO_CACHE: Final = {"Cache-Control": "no-cache, max-age=0, must-revalidate"}
_LOGIN: Final = {"WWW-Authenticate": 'Basic realm="Mainstem", charset="UTF-8"'}


def _service_operation(service: str, summary: str) -> Operation:
    return Operation(
        method="POST",
        path=f"/git/{NAME}/{service}",
        summary=summary,
        tag="git",
        security=_PROOFS,
        takes=f"application/x-{service}-request",
        gives=f"application/x-{service}-result",
        body=BYTES,
        answer=BYTES,
    )


_PROOFS: Final[tuple[dict[str, list[str]], ...]] = ({"basic": []}, {"bearer": []})
OPERATIONS: Final = (
    Operation(
        method="GET",
        path=f"/git/{NAME}/info/refs",
        summary="What a git client asks first: the refs",
        tag="git",
        security=_PROOFS,
        gives="application/x-git-upload-pack-advertisement",
        query=(required("service", "Which service follows.", choices=tuple(SERVICES)),),
        answer=BYTES,
    ),
    _service_operation("git-upload-pack", "Fetch from the hosted repository"),
    _service_operation(RECEIVE, "Push to the hosted repository"),
)
"""What is answered at `/git`."""


class _GoneError(Exception):
    """The client hung up while it was answered."""


class HostedGit:
    """An ASGI application to mount at `/git`; it serves `flows.git` and proves its callers itself.

    A viewer may fetch, a developer may push; the token is the password of Basic, whatever the user name, or a Bearer.
    """

    def __init__(
        self, hosted: HostedRepository, access: AccessControl, *, max_body_bytes: int = MAX_BODY_BYTES
    ) -> None:
        self._hosted = hosted
        self._access = access
        self._max_body_bytes = max_body_bytes
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="git")

    def close(self) -> None:
        """Stop the threads; pushes in progress are carried out."""
        self._threads.shutdown(wait=True)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            response = await self._answer(request, send)
        except ClientDisconnect:
            log.info("a git client hung up while it sent", extra={"path": scope["path"]})
            return
        except AccessError as error:
            headers = _LOGIN if error.status == HTTPStatus.UNAUTHORIZED else {}
            response = PlainTextResponse(f"{error}\n", error.status, headers)
        except MainstemError as error:
            response = PlainTextResponse(f"{error.code}: {error}\n", _status(error))
        if response is not None:
            await response(scope, receive, send)

    async def _answer(self, request: Request, send: Send) -> Response | None:
        # Starlette leaves the whole path in `path` and what the mount took in `root_path`.
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        repository, _, rest = path.lstrip("/").partition("/")
        if repository != NAME:
            return PlainTextResponse("there is no such repository\n", HTTPStatus.NOT_FOUND)
        if request.method == "GET" and rest == "info/refs":
            return await self._refs(request)
        if request.method == "POST" and rest in SERVICES:
            return await self._service(request, rest, send)
        return PlainTextResponse("only git's smart protocol is spoken here\n", HTTPStatus.NOT_FOUND)

    async def _refs(self, request: Request) -> Response:
        service = parse_qs(request.scope["query_string"].decode("latin-1")).get("service", [""])[0]
        if service not in SERVICES:
            return PlainTextResponse("only git's smart protocol is spoken here\n", HTTPStatus.FORBIDDEN)
        await self._in_thread(self._caller, request, service)
        content = await self._in_thread(self._hosted.advertise, service)
        return Response(content, media_type=f"application/x-{service}-advertisement", headers=_NO_CACHE)

    async def _service(self, request: Request, service: str, send: Send) -> Response | None:
        caller = await self._in_thread(self._caller, request, service)
        if request.headers.get("content-type") != f"application/x-{service}-request":
            # The type is one that a browser may not send to another site without asking first.
            return PlainTextResponse("wrong content type\n", HTTPStatus.UNSUPPORTED_MEDIA_TYPE)
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as body:
            await self._spool(request, body)
            body.seek(0)
            answer = _Answer(send, f"application/x-{service}-result", eager=service == RECEIVE)
            work = self._in_thread(lambda: self._carry_out(service, body, answer, caller.name))
            await answer.send_while(work)
        return None

    def _carry_out(self, service: str, body: IO[bytes], answer: _Answer, actor: str) -> None:
        with contextlib.suppress(_GoneError):
            self._hosted.answer(service, body, answer.write, actor=actor)  # type: ignore[arg-type]  # a spooled file is one

    def _caller(self, request: Request, service: str) -> Identity:
        header, target = request.headers.get("authorization"), f"{NAME} {service}"
        # git asks without a token first, each time: that is no news.
        asked = target if header else ""
        identity = self._access.authenticate(header, target=asked, client=client_of(request))
        wanted = Permission.GIT_PUSH if service == RECEIVE else Permission.GIT_FETCH
        if not allows(identity, wanted):
            self._access.note(identity.name, str(wanted), target, result=REFUSED, role=identity.role)
            verb = "push" if service == RECEIVE else "fetch"
            raise AccessError(
                "access.denied",
                f"the token {identity.name!r} ({identity.role}) may not {verb}",
                hint="a developer of all namespaces may push, a viewer of all may fetch",
            )
        return identity

    async def _spool(self, request: Request, body: IO[bytes]) -> None:
        encoding = request.headers.get("content-encoding", "identity")
        if encoding not in {"identity", "gzip", "x-gzip"}:
            raise InvalidError("git.encoding.unknown", f"content encoding {encoding!r} is not known here")
        inflate = None if encoding == "identity" else zlib.decompressobj(wbits=31)
        left = self._max_body_bytes
        async for chunk in request.stream():
            data = chunk
            while data:
                try:
                    piece = inflate.decompress(data, _CHUNK) if inflate else data
                except zlib.error as error:
                    raise InvalidError("git.encoding.broken", f"the body is not gzip: {error}") from error
                left -= len(piece)
                if left < 0:
                    raise InvalidError("git.body.large", f"a push may have {self._max_body_bytes:,} bytes")
                body.write(piece)
                data = inflate.unconsumed_tail if inflate else b""

    async def _in_thread(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: call(*arguments))


class _Answer:
    """What a thread of git writes, handed to the event loop piece by piece; a slow client slows the thread."""

    def __init__(self, send: Send, media_type: str, *, eager: bool) -> None:
        self._send = send
        self._media_type = media_type
        self._eager = eager
        self._loop = asyncio.get_running_loop()
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(_WAITING_CHUNKS)
        self._buffer = bytearray()
        self._is_gone = False

    def write(self, data: bytes) -> None:
        """Take bytes from the thread of git. A push's lines go out at once, packs in larger pieces."""
        self._buffer += data
        if self._eager or len(self._buffer) >= _CHUNK:
            self._hand_over()

    def _hand_over(self) -> None:
        piece, self._buffer = bytes(self._buffer), bytearray()
        if self._is_gone and not self._eager:
            raise _GoneError
        if piece and not self._is_gone:
            try:
                asyncio.run_coroutine_threadsafe(self._pieces.put(piece), self._loop).result(_PATIENCE_S)
            except TimeoutError:
                self._is_gone = True

    async def send_while(self, work: Awaitable[None]) -> None:
        """Send what is written until `work` has ended; what it raises before the first byte is raised here."""
        task = asyncio.ensure_future(work)
        task.add_done_callback(lambda _: self._loop.create_task(self._pieces.put(None)))
        started = False
        while (piece := await self._pieces.get()) is not None:
            if not started:
                await self._start()
                started = True
            await self._pass(piece)
        if not started and task.exception() is not None:
            await task
        if not started:
            await self._start()
        await self._pass(bytes(self._buffer), more=False)
        if task.exception() is not None:
            log.error("a git request failed after its first bytes", exc_info=task.exception())

    async def _start(self) -> None:
        headers = [(b"content-type", self._media_type.encode())]
        headers += [(name.lower().encode(), value.encode()) for name, value in _NO_CACHE.items()]
        await self._send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": headers})

    async def _pass(self, piece: bytes, *, more: bool = True) -> None:
        if self._is_gone:
            return
        try:
            await self._send({"type": "http.response.body", "body": piece, "more_body": more})
        except OSError:
            self._is_gone = True  # a fetch ends at its next write; a push is carried out though nobody listens


def _status(error: MainstemError) -> int:
    return HTTPStatus.REQUEST_ENTITY_TOO_LARGE if error.code == "git.body.large" else error.status
