"""What the server says when it does not do what was asked: `Status` objects."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

__all__ = ["Refusal"]


class Refusal(Exception):  # noqa: N818 - it is an answer
    """A request that is answered with a `Status`: HTTP code, reason, message."""

    def __init__(self, code: int, reason: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.retry_after = code, reason, message, retry_after

    @property
    def status(self) -> dict[str, Any]:
        """The `Status` object."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.retry_after is not None:
            status["details"] = {"retryAfterSeconds": int(self.retry_after)}
        return status

    def response(self) -> JSONResponse:
        """Return the answer to a request."""
        headers = {} if self.retry_after is None else {"Retry-After": f"{self.retry_after:g}"}
        return JSONResponse(self.status, self.code, headers)
