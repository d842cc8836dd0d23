"""What stands before a stand-in and answers for it: refusals, faults, answers that break off."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

CUT = 0


@dataclass
class _Fault:
    left: int
    status: int
    pattern: re.Pattern[str]


class Gate:
    """Passes requests on, but for the next ones that a test has chosen."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application
        self._faults: list[_Fault] = []
        self._lock = threading.Lock()

    def fail(self, count: int, status: int, pattern: str) -> None:
        """Answer the next `count` requests whose `METHOD path` matches with a status, or break off (`CUT`)."""
        self._faults.append(_Fault(count, status, re.compile(pattern)))

    @property
    def waiting(self) -> int:
        """How many faults nobody met."""
        return sum(fault.left for fault in self._faults)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = self._due(f"{scope['method']} {scope['path']}") if scope["type"] == "http" else None
        if fault is None:
            await self._application(scope, receive, send)
        elif fault.status == CUT:
            await self._application(scope, receive, lambda message: _half(message, send))
        else:
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": fault.status, "headers": headers})
            await send({"type": "http.response.body", "body": b'{"error": {"message": "as ordered"}}'})

    def _due(self, request: str) -> _Fault | None:
        with self._lock:
            for fault in self._faults:
                if fault.left and fault.pattern.fullmatch(request):
                    fault.left -= 1
                    return fault
        return None


async def _half(message: Any, send: Send) -> None:
    """Pass on half of a body, under headers that promise all of it."""
    if message["type"] == "http.response.body":
        body = message.get("body", b"")
        message = {**message, "body": body[: len(body) // 2]}
    await send(message)
