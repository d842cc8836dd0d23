"""An application on a free port of this machine, until the end of a block."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from tests.servers.program import wait_until


@contextlib.contextmanager
def serving(application: ASGIApp, name: str) -> Iterator[str]:
    """Give the address of the application."""
    server = uvicorn.Server(
        uvicorn.Config(application, port=0, log_level="critical", timeout_graceful_shutdown=1, ws="none")
    )
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), name=name, daemon=True)
    thread.start()
    wait_until(lambda: server.started, name, 20)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
