"""What every request passes before anything else looks at it: limits of size, time and number.

Uvicorn has no deadline for a body and no limit for its size, so a sender that nobody knows could hold memory and
connections for as long as it likes. The limits apply before the caller is known. Nothing is ever decompressed here.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from webhooks.problems import PROBLEM_TYPE, problem_bytes

_MIB: Final = 1024 * 1024
_SLOWEST_BYTES_PER_S: Final = 1024
_SLOW_GRACE_S: Final = 5.0  # the rate is not judged before
_LINGER_BYTES: Final = 8 * _MIB
_LINGER_S: Final = 2.0
_LONGEST_PATH: Final = 4096
_ODD_PATH: Final = re.compile(r"//|/\.{1,2}(?:/|$)|[\x00-\x1f\x7f\\;\ufffd]")
_SINGLE_HEADERS: Final = frozenset({b"host", b"content-length", b"content-type", b"authorization"})


@dataclass(frozen=True, slots=True)
class Traffic:
    """The limits of one class of requests: body bytes, seconds for the whole body, how many at once."""

    name: str
    max_bytes: int
    body_s: float
    at_once: int
    takes_encoding: bool = False


DEFAULT: Final = Traffic("api", _MIB, 30.0, 512)
CLASSES: Final = MappingProxyType(
    {
        "hooks": Traffic("hooks", 25 * _MIB, 30.0, 128, takes_encoding=True),
        "git": Traffic("git", 256 * _MIB, 600.0, 32, takes_encoding=True),
        # Archives of jobs, whose grants say how large each may be; the sum of the limits of files stands above them.
        "staging": Traffic("staging", 5 * 1024 * _MIB, 3600.0, 128),
        # Many at once, because who waits for an execution to end counts too. Their bodies are read only after the
        # caller is known.
        "files": Traffic("files", 256 * _MIB, 600.0, 512),
        # A file of a namespace, and what a form puts around it.
        "uploads": Traffic("uploads", 11 * _MIB, 60.0, 32),
        "streams": Traffic("streams", _MIB, 30.0, 512),
        # Apart from the rest of the API: callers whose webhook waits for its execution must not use up its places.
        "webhooks": Traffic("webhooks", _MIB, 30.0, 1024),
        "health": Traffic("health", 1024, 5.0, 64),
    }
)


def traffic_of(method: str, path: str) -> Traffic:
    """Return the class of a request by its method and path."""
    if path.startswith("/api/"):
        if "/executions/webhook/" in path:
            return CLASSES["webhooks"]
        if path.endswith(("/follow", "/follow-dependencies")):
            return CLASSES["streams"]
        if path.endswith("/files") and "/namespaces/" in path:
            return CLASSES["uploads"]
        # The start of an execution and the resume of one may bring files.
        return CLASSES["files"] if method == "POST" and "/executions/" in path else DEFAULT
    if path.startswith("/ui/") and path.endswith("/stream"):
        return CLASSES["streams"]
    return CLASSES.get(path.lstrip("/").partition("/")[0], DEFAULT)


def refuse_path(path: str, raw_path: bytes) -> str | None:
    """Return why a path is refused, or None.

    Routes are matched on the decoded path and carry their own permission, so none of these shapes would get past
    them; refusing keeps proxies and logs from reading a path differently from us (CVE-2026-53576 and its like).
    """
    if not path.startswith("/") or len(raw_path) > _LONGEST_PATH:
        return "the path is too long or does not begin with a slash"
    if _ODD_PATH.search(path):
        return "the path has an empty or a dot segment, or a character that is not allowed"
    return None


class RefusedError(Exception):
    """The request went over a limit while its body was read."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail


class Guard:
    """ASGI middleware that stands first in the stack."""

    def __init__(self, app: ASGIApp, *, classes: tuple[Traffic, ...] | None = None) -> None:
        self._app = app
        self._overrides = {item.name: item for item in classes or ()}
        self._running: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it here."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        traffic = traffic_of(scope["method"], scope["path"])
        traffic = self._overrides.get(traffic.name, traffic)
        exchange = _Exchange(traffic, receive, send)
        refusal = _refuse_head(scope, traffic)
        if refusal is not None:
            await exchange.refuse(refusal)
            return
        if self._running[traffic.name] >= traffic.at_once:
            await exchange.refuse(RefusedError(503, "server.busy", "too many requests at once; try again shortly"))
            return
        self._running[traffic.name] += 1
        try:
            exchange.announce(scope)
            await self._app(scope, exchange.receive, exchange.send)
        except RefusedError as refused:
            await exchange.refuse(refused)
        finally:
            self._running[traffic.name] -= 1


def _refuse_head(scope: Scope, traffic: Traffic) -> RefusedError | None:
    reason = refuse_path(scope["path"], scope.get("raw_path") or scope["path"].encode())
    if reason is not None:
        return RefusedError(400, "request.path.invalid", reason)
    seen: set[bytes] = set()
    for name, value in scope["headers"]:
        if name in _SINGLE_HEADERS:
            if name in seen:
                return RefusedError(400, "request.header.repeated", f"the header {name.decode()} is given twice")
            seen.add(name)
        if name == b"content-encoding" and value.lower() != b"identity" and not traffic.takes_encoding:
            return RefusedError(415, "request.encoding.refused", "compressed bodies are not accepted here")
        if name == b"content-length" and (not value.isdigit() or int(value) > traffic.max_bytes):
            return _too_large(traffic)
    return None


def _too_large(traffic: Traffic) -> RefusedError:
    return RefusedError(413, "request.body.large", f"the body is larger than {traffic.max_bytes} bytes")


class _Exchange:
    """One request and its answer: counts and times the body, and ends politely when the body was not read."""

    def __init__(self, traffic: Traffic, receive: Receive, send: Send) -> None:
        self._traffic = traffic
        self._receive = receive
        self._send = send
        self._bytes = 0
        self._is_read = False
        self._refused: RefusedError | None = None
        self._started = False
        self._begin = asyncio.get_running_loop().time()

    def announce(self, scope: Scope) -> None:
        """Take note of whether a body follows at all."""
        names = {name: value for name, value in scope["headers"] if name in {b"content-length", b"transfer-encoding"}}
        self._is_read = b"transfer-encoding" not in names and names.get(b"content-length", b"0") == b"0"

    async def receive(self) -> Message:
        """Return the next part of the body, within the limits."""
        if self._is_read:
            return await self._receive()
        message = await self._timed()
        if message["type"] != "http.request":
            self._is_read = True
            return message
        self._bytes += len(message.get("body", b""))
        self._is_read = not message.get("more_body", False)
        if self._bytes > self._traffic.max_bytes:
            self._stop(_too_large(self._traffic))
        spent = asyncio.get_running_loop().time() - self._begin
        if not self._is_read and spent > _SLOW_GRACE_S and self._bytes < spent * _SLOWEST_BYTES_PER_S:
            self._stop(RefusedError(408, "request.body.slow", "the body comes too slowly"))
        return message

    async def _timed(self) -> Message:
        loop = asyncio.get_running_loop()
        # A sender that is silent must be met before the whole deadline is over, when it is too slow already.
        late = max(self._begin + _SLOW_GRACE_S, self._begin + self._bytes / _SLOWEST_BYTES_PER_S) + 1.0
        try:
            async with asyncio.timeout_at(min(self._begin + self._traffic.body_s, max(late, loop.time()))):
                return await self._receive()
        except TimeoutError:
            self._stop(RefusedError(408, "request.body.slow", "the body did not arrive in time"))
            raise  # unreachable: `_stop` raises

    def _stop(self, refused: RefusedError) -> None:
        self._refused = refused
        raise refused

    async def send(self, message: Message) -> None:
        """Send a part of the answer; the last one waits until the unread body is out of the way."""
        if message["type"] == "http.response.start":
            if self._refused is not None:
                return  # a handler turned our refusal into an answer of its own; ours comes after it
            self._started = True
            if not self._is_read:
                message["headers"] = [*message["headers"], (b"connection", b"close")]
        elif self._refused is not None and not self._started:
            raise self._refused
        if message["type"] == "http.response.body" and not message.get("more_body", False) and not self._is_read:
            await self._send({**message, "more_body": True})
            await self._linger()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        await self._send(message)

    async def refuse(self, refused: RefusedError) -> None:
        """Answer with an error, close, and let the sender finish a little so that it can read the answer."""
        if self._started:
            return
        body = problem_bytes(refused.status, refused.code, refused.detail)
        headers = [
            (b"content-type", PROBLEM_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            (b"x-content-type-options", b"nosniff"),
        ]
        if refused.status == 503:
            headers.append((b"retry-after", b"1"))
        await self._send({"type": "http.response.start", "status": refused.status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        if refused.status != 408 and not self._is_read:
            await self._linger()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _linger(self) -> None:
        """Throw away what still comes, within bounds.

        Closing a socket that holds unread bytes resets the connection, and the sender would see that instead of the
        answer.
        """
        left = _LINGER_BYTES
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while left > 0:
                    message = await self._receive()
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        return
                    left -= len(message.get("body", b""))
