"""An application on a free port of this machine, until the end of a block."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from socket import socket

import uvicorn
from starlette.types import ASGIApp

_START_S = 60.0
_END_S = 10.0
_LOOKS, _LOOK_S = 500, 0.002  # for connections to be gone, a second in all


@contextlib.contextmanager
def serving(application: ASGIApp, name: str) -> Iterator[str]:
    """Give the address of the application; `name` is that of its thread."""
    server = StandIn(application)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), name=name, daemon=True)
    thread.start()
    assert server.is_up.wait(_START_S), name
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.end()
        thread.join(_END_S)


class StandIn(uvicorn.Server):
    """A server that ends when it is told to: uvicorn looks ten times a second, and gives connections as long again."""

    def __init__(self, application: ASGIApp) -> None:
        options = uvicorn.Config(
            application, port=0, log_level="critical", timeout_graceful_shutdown=1, ws="none", lifespan="off"
        )
        super().__init__(options)
        self.is_up = threading.Event()
        self._ending = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop

    def end(self) -> None:
        """Have it end, from another thread."""
        self._loop.call_soon_threadsafe(self._ending.set)

    async def main_loop(self) -> None:
        """Wait for the end."""
        self._loop = asyncio.get_running_loop()
        await self.on_tick(0)  # makes the headers that all answers have
        self.is_up.set()
        await self._ending.wait()

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Close what is open; while something is being answered, as uvicorn does."""
        if self.server_state.tasks:
            await super().shutdown(sockets)
            return
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        for _ in range(_LOOKS):
            if not self.server_state.connections:
                break
            await asyncio.sleep(_LOOK_S)
