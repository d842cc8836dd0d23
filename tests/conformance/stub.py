"""A small HTTP server that answers as the `http_stub` of a case says."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from webhooks.server import address_of, bind, server_for

_FORM = re.compile(r"<form field (\S+?)>")
_HEADER = re.compile(r"<request header (\S+?)>")
_FILE = re.compile(r"<content of the file part `(\S+?)`>")


class Stub:
    """A stub on a port of its own; use it in a `with` statement. `routes` maps `METHOD /path` to status and body.

    Anything else is answered by `otherwise`, with 404 where it is not given.
    """

    def __init__(self, routes: Mapping[str, Mapping[str, Any]], otherwise: Mapping[str, Any] | None = None) -> None:
        self._routes = routes
        self._otherwise = otherwise
        self._listener = bind("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{address_of(self._listener)[1]}"
        app = Starlette(routes=[Route("/{path:path}", self._answer, methods=["GET", "POST", "PUT", "DELETE", "PATCH"])])
        self._server: uvicorn.Server = server_for(app)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return self.url

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(5)
        self._listener.close()

    def _serve(self) -> None:
        anyio.run(lambda: self._server.serve(sockets=[self._listener]))

    async def _answer(self, request: Request) -> Response:
        route = self._routes.get(f"{request.method} {request.url.path}", self._otherwise)
        if route is None:
            return Response(status_code=404)
        form = await request.form() if request.method != "GET" else FormData()
        files = {name: (await part.read()).decode() for name, part in form.items() if isinstance(part, UploadFile)}
        body = _FORM.sub(lambda match: str(form.get(match[1], "")), str(route.get("body", "")))
        body = _HEADER.sub(lambda match: request.headers.get(match[1], ""), body)
        body = _FILE.sub(lambda match: files.get(match[1], ""), body)
        return Response(body, status_code=int(route.get("status", 200)), headers=dict(route.get("headers") or {}))
