"""Uvicorn as we need it: no signal handlers of its own, deadlines for headers, the socket bound before it says so."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Generator
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runner.errors import ConflictError

KEEP_ALIVE_S: Final = 75
_HEADER_S: Final = 5.0
_MAX_HEADER_BYTES: Final = 64 * 1024
_BACKLOG: Final = 2048
_DRAIN_S: Final = 10
_ANSWER: Final = b"HTTP/1.1 %s\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class HttpProtocol(HttpToolsProtocol):
    """HTTP/1.1 whose head must be complete within five seconds and 64 KiB; uvicorn itself waits for ever."""

    _deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Start waiting for the first head."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; count what belongs to a head."""
        if self._in_head:
            if self._deadline is None:
                self._await_head()
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > _MAX_HEADER_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")

    def on_headers_complete(self) -> None:
        """Hand the request on; what follows is its body."""
        self._stop_waiting()
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect the next head, which may take its time to begin (keep-alive) but not to end."""
        self._in_head = True
        self._head_bytes = 0
        super().on_message_complete()

    def _await_head(self) -> None:
        self._deadline = self.loop.call_later(_HEADER_S, self._refuse, b"408 Request Timeout")

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, status: bytes) -> None:
        self._stop_waiting()
        if not self.transport.is_closing():
            # Something may still be on its way out for an earlier request of this connection.
            cycle: Any = self.cycle  # None before the first request, whatever uvicorn's annotation says
            if cycle is None or cycle.response_complete:
                self.transport.write(_ANSWER % status)
            self.transport.close()


class Server(uvicorn.Server):
    """A server that leaves signals alone: the program's own handlers decide when it stops."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Install nothing. Uvicorn would restore handlers and raise the signal again after `serve`."""
        yield


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket, so that "ready" is printed only when connections are taken.

    Raises:
        ConflictError: `server.address.taken` when the address is in use or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it. asyncio sets it only on sockets that were made with the protocol named, uvloop always;
        # without it the second half of an answer waits 40 ms for the client's acknowledgement of the first.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ConflictError(
            "server.address.taken",
            f"cannot listen on {host}:{port}: {error.strerror}",
            hint="another program has this port, or the address is not one of this machine; choose with --port",
        ) from None
    return listener


def server_for(app: ASGIApp) -> Server:
    """Return the server for an application, not yet started."""
    config = uvicorn.Config(
        app,
        http=HttpProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=_DRAIN_S,
    )
    return Server(config)


async def serve(
    app: ASGIApp, host: str, port: int, stop: asyncio.Event, *, listener: socket.socket | None = None
) -> None:
    """Serve `app` until `stop` is set, then let open requests end (at most ten seconds).

    Runs on the caller's loop, uvloop or asyncio. Give `listener` (see `bind`) when the port must be known, or taken,
    before anything else starts.

    Raises:
        ConflictError: `server.address.taken`.
    """
    server = server_for(app)
    sockets = [listener or bind(host, port)]

    async def watch() -> None:
        await stop.wait()
        # Streams would keep their connections open for as long as something runs.
        if isinstance(app, Starlette) and isinstance(closing := getattr(app.state, "closing", None), threading.Event):
            closing.set()
        server.should_exit = True

    watcher = asyncio.create_task(watch())
    try:
        await server.serve(sockets=sockets)
    finally:
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher
        for item in sockets:
            item.close()


def address_of(listener: socket.socket) -> tuple[str, int]:
    """Return the host and port that a listening socket has, of interest when port 0 was asked for."""
    name: Any = listener.getsockname()
    return str(name[0]), int(name[1])
