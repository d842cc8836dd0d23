"""Waiting for changes of an execution on the event loop, without a thread for each who waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final

from starlette.concurrency import run_in_threadpool

from runner.executions.models import Execution

if TYPE_CHECKING:
    from webhooks.services import Services

_POLL_S: Final = 0.5  # other processes may change an execution too; in this one its changes are heard at once


class Bell:
    """Rings when an execution changed; may be rung from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._event = asyncio.Event()

    def ring(self, _execution: Execution) -> None:
        """Wake the waiting task."""
        self._loop.call_soon_threadsafe(self._event.set)

    async def wait(self, at_most_s: float) -> None:
        """Return when it rang, or after `at_most_s` seconds."""
        try:
            async with asyncio.timeout(at_most_s):
                await self._event.wait()
        except TimeoutError:
            pass
        self._event.clear()


@asynccontextmanager
async def bell_of(services: Services, execution_id: str) -> AsyncIterator[Bell]:
    """Give a bell for an execution. Take it before reading the state, or a change in between is missed."""
    bell = Bell()
    stop = services.engine.changes.subscribe(execution_id, bell.ring)
    try:
        yield bell
    finally:
        stop()


async def as_long_as(
    holds: Callable[[], Awaitable[bool]], frames: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    """Yield the frames of a stream until there are no more, or until something does not hold any longer.

    It is asked before each frame. Silent streams have one every few seconds too.
    """
    async with aclosing(frames):
        async for each in frames:
            if not await holds():
                return
            yield each


async def current(services: Services, execution_id: str) -> Execution | None:
    """Return the stored state of an execution."""
    return await run_in_threadpool(services.store.read, lambda db: db.executions.get(execution_id))


async def until_terminal(services: Services, execution_id: str, timeout_s: float) -> Execution | None:
    """Return an execution when it has ended, or as it is after `timeout_s` or when the server stops; None when gone."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    async with bell_of(services, execution_id) as bell:
        while True:
            execution = await current(services, execution_id)
            left = deadline - asyncio.get_running_loop().time()
            if execution is None or execution.state.is_terminal or left <= 0 or services.closing.is_set():
                return execution
            await bell.wait(min(left, _POLL_S))
