"""A real server on a free port of the loopback, for tests that need sockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest
from starlette.types import ASGIApp

from webhooks.server import address_of, bind, serve

Serving = Callable[[ASGIApp], int]


@pytest.fixture
def serving() -> Iterator[Serving]:
    """Return a function that serves an application and returns its port."""
    stops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event, threading.Thread]] = []

    def start(app: ASGIApp) -> int:
        listener = bind("127.0.0.1", 0)
        loop, stop, ready = asyncio.new_event_loop(), asyncio.Event(), threading.Event()

        async def main() -> None:
            ready.set()
            await serve(app, "127.0.0.1", 0, stop, listener=listener)

        def run() -> None:
            loop.run_until_complete(main())
            loop.close()

        thread = threading.Thread(target=run)
        thread.start()
        assert ready.wait(5)
        stops.append((loop, stop, thread))
        return address_of(listener)[1]

    yield start
    for loop, stop, thread in stops:
        loop.call_soon_threadsafe(stop.set)
        thread.join(15)
        assert not thread.is_alive()
