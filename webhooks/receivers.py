"""Deliveries of forges: `POST /hooks/{repository}` proves, writes down, and asks for a look at the repository.

No git work happens here. The answer comes after one durable insert; everything that a payload says is a hint, and what
a ref really names is asked from the repository. Senders are unknown until their signature holds, so nothing is parsed
before, an unknown name and a wrong signature get one answer after one and the same time, and memory is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from time import monotonic
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from runner.errors import AccessError, MainstemError, OverloadedError
from runner.store import Store
from runner.store.records import Delivery, Repository
from sync.deliveries import DeliveryLog
from sync.forges.base import Headers, UnprovenError
from sync.receiving import Judged, Receiving
from webhooks.problems import Json, RequestError, answer
from webhooks.routes import Operation
from webhooks.schemas import MAP

log = logging.getLogger(__name__)

_SMALL_BYTES: Final = 256 * 1024
_LARGE_BYTES_AT_ONCE: Final = 64 * 1024 * 1024
_FLOOR_S: Final = 0.05
_SLOWEST_HASH_BYTES_PER_S: Final = 100 * 1024 * 1024
_THREADS: Final = 4

OPERATIONS: Final = (
    Operation(
        method="POST",
        path="/hooks/{repository}",
        summary="Deliver an event of a forge, proved by its signature",
        tag="hooks",
        takes="application/json",
        status=202,
        also=(200,),
        body=MAP,
        answer=MAP,
    ),
)
"""What is answered at `/hooks`."""


class Receivers:
    """An ASGI application to mount at `/hooks`; each delivery proves itself by the webhook secret of its repository.

    Args:
        store: where deliveries are written; its environments say which refs are followed.
        credentials: gives a repository with its secrets in the clear; raises `NotFoundError`.
        request: asks for a look at a repository soon, with who caused it; must return at once.
        clock: the time that deliveries are dated with and signed times are compared to.
        floor_s: a delivery that proves nothing is answered after this many seconds at the earliest, and what its size
            takes to be hashed on top, so that the time an answer takes does not tell which names exist.
    """

    def __init__(
        self,
        store: Store,
        credentials: Callable[[str], Repository],
        request: Callable[[str, str], None],
        *,
        clock: Callable[[], datetime],
        floor_s: float = _FLOOR_S,
    ) -> None:
        self._deliveries = DeliveryLog(store)
        self._receiving = Receiving(store, credentials, self._deliveries, clock)
        self._request = request
        self._floor_s = floor_s
        self._memory = _Memory(_LARGE_BYTES_AT_ONCE)
        self._counts: Counter[str] = Counter(dict.fromkeys(("ACCEPTED", "IGNORED", "DUPLICATE", "REFUSED"), 0))
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="hooks")

    def close(self) -> None:
        """Stop the threads."""
        self._threads.shutdown(wait=True)

    def counts(self) -> Mapping[str, int]:
        """Return how many deliveries came to which result since this process started."""
        return self._counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except ClientDisconnect:
            log.info("a delivery ended before its body did", extra={"path": scope["path"][:200]})
            return
        except MainstemError as error:
            self._counts["REFUSED"] += 1
            response = answer(error)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if request.method != "POST":
            refusal = answer(_WrongMethodError("route.method.wrong", "deliveries are sent with POST"))
            refusal.headers["allow"] = "POST"
            return refusal
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise _EncodedError("request.encoding.refused", "compressed deliveries are not accepted")
        async with self._body(request) as raw:
            judged = await self._judged(request, raw)
        written = await asyncio.wrap_future(self._deliveries.add(judged.delivery, judged.comment))
        if judged.error is not None:
            raise judged.error
        self._counts[written.result] += 1
        if written.result == "ACCEPTED":
            self._request(written.repository, written.actor or "webhook")
        return Json(_told(written), status_code=202 if written.result == "ACCEPTED" else 200)

    @contextlib.asynccontextmanager
    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        """Give the whole body; the part of it that is large counts against the memory of all until it is done with."""
        body, held = bytearray(), 0
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > _SMALL_BYTES:
                    self._memory.take(len(body) - held)
                    held = len(body)
            raw = bytes(body)
            body.clear()
            yield raw
        finally:
            self._memory.give(held)

    async def _judged(self, request: Request, raw: bytes) -> Judged:
        # Starlette leaves the whole path in `path` and what the mount took in `root_path`.
        name = request.scope["path"].removeprefix(request.scope.get("root_path", "")).lstrip("/")
        headers, begun = Headers(request.headers.items()), monotonic()
        # Hashing 25 MiB takes longer than the loop may stand still, and the store may make us wait.
        judging = asyncio.get_running_loop().run_in_executor(self._threads, self._receiving.judge, name, headers, raw)
        try:
            return await judging
        except UnprovenError as error:
            log.info("a delivery proves nothing", extra={"hook": name[:100], "reason": error.message})
            floor_s = self._floor_s + len(raw) / _SLOWEST_HASH_BYTES_PER_S
            await asyncio.sleep(max(0.0, begun + floor_s - monotonic()))
            # One sentence whatever is wrong: who guesses names or secrets learns nothing. Our log says more.
            raise AccessError("hook.unproven", "no webhook of this name has such a signature", status=401) from None


class _WrongMethodError(RequestError):
    status = 405


class _EncodedError(RequestError):
    status = 415


class _Memory:
    """Bytes that large bodies may hold together; used from the event loop only."""

    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, size: int) -> None:
        if size > self._left:
            raise OverloadedError("server.busy", "too many large deliveries at once; try again shortly")
        self._left -= size

    def give(self, size: int) -> None:
        self._left += size


def _told(delivery: Delivery) -> dict[str, object]:
    return {
        "delivery": delivery.id,
        "deliveryId": delivery.delivery_id,
        "result": delivery.result,
        "reason": delivery.reason,
    }
