"""Answers: JSON bodies, and errors as RFC 9457 `application/problem+json`."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from runner.errors import FlowError, MainstemError, OverloadedError
from runner.ids import new_id

log = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"
_WORDS = {404: "Not Found", 409: "Illegal state", 422: "Illegal argument"}


class RequestError(MainstemError):
    """The request itself is malformed: a parameter is missing or cannot be read (400)."""

    status = 400


class Json(Response):
    """A JSON answer."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the bytes of `content`."""
        try:
            return orjson.dumps(content, option=orjson.OPT_NON_STR_KEYS, default=str)
        except TypeError:
            # Whole numbers over 64 bits and lone surrogates: rare, but a flow may well have made them.
            return json.dumps(content, default=str).encode()


def problem(status: int, code: str, detail: str, **extra: Any) -> dict[str, Any]:
    """Return the body of an error: `type title status code detail` and what is given and not None."""
    phrase = HTTPStatus(status).phrase if status in set(HTTPStatus) else "Error"
    body = {"type": "about:blank", "title": phrase, "status": status, "code": code, "detail": detail}
    # `message` is what clients of the 1.x API show to people, in its words.
    body["message"] = f"{_WORDS[status]}: {detail}" if status in _WORDS else detail
    body.update({key: value for key, value in extra.items() if value is not None})
    return body


def problem_bytes(status: int, code: str, detail: str, **extra: Any) -> bytes:
    """Return `problem(...)` as JSON."""
    return orjson.dumps(problem(status, code, detail, **extra))


def answer(error: MainstemError) -> Response:
    """Return the answer for an error of ours."""
    problems = [item.as_json() for item in error.problems] if isinstance(error, FlowError) else None
    body = problem(error.status, error.code, error.message, hint=error.hint, problems=problems)
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, OverloadedError):
        body["id"] = new_id()
        log.error("request failed", exc_info=error, extra={"error_id": body["id"], "code": error.code})
    headers = {}
    if isinstance(error, OverloadedError):
        headers["retry-after"] = str(error.retry_after_s)
    if error.status == HTTPStatus.UNAUTHORIZED:
        # Basic is understood but not offered: a browser would ask for a password, keep it, and send it with requests
        # that other sites make.
        headers["www-authenticate"] = 'Bearer realm="mainstem"'
    return Json(body, status_code=error.status, headers=headers, media_type=PROBLEM_TYPE)


def answer_http(_request: Request, error: Exception) -> Response:
    """Return the answer for an error of the router: no such route, wrong method."""
    assert isinstance(error, HTTPException)
    codes = {404: "route.missing", 405: "route.method.wrong", 413: "request.body.large", 400: "request.malformed"}
    body = problem(error.status_code, codes.get(error.status_code, "request.refused"), str(error.detail))
    return Json(body, status_code=error.status_code, headers=dict(error.headers or {}), media_type=PROBLEM_TYPE)


def answer_ours(_request: Request, error: Exception) -> Response:
    """Return the answer for a `MainstemError` that left a handler."""
    assert isinstance(error, MainstemError)
    return answer(error)


def unexpected(error: Exception) -> Response:
    """Return an answer that names only an id; the trace goes to the log under the same id."""
    error_id = new_id()
    log.error("request failed unexpectedly", exc_info=error, extra={"error_id": error_id})
    body = problem(500, "server.failed", "the server failed; its log tells why", id=error_id)
    return Json(body, status_code=500, media_type=PROBLEM_TYPE)
