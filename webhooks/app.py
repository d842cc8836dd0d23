"""The web application: guard, routes, error answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runner.access import Permission
from runner.errors import MainstemError
from webhooks.api import endpoints
from webhooks.guard import Guard, RefusedError
from webhooks.pages import pages_app
from webhooks.problems import answer_http, answer_ours, unexpected
from webhooks.routes import Mounted, build
from webhooks.services import Services

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (
        b"content-security-policy",
        b"default-src 'self'; script-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'none'",
    ),
)


class _Shell:
    """Adds the security headers and turns what nobody caught into an answer that names only an id."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                given = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(pair for pair in _HEADERS if pair[0] not in given)]
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except RefusedError:
            raise  # the guard answers it
        except Exception as error:  # the HTTP boundary: whatever a handler did, the client gets an answer
            if started:
                raise
            await unexpected(error)(scope, receive, send_with_headers)


def create_app(services: Services) -> Starlette:
    """Return the application for `services`.

    Raises:
        UndeclaredRouteError: when a route declares no permission.
    """

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, Any]]:
        yield {"services": services}

    pages = Mounted("/ui", pages_app(services), Permission.OWN_PROOF)
    app = Starlette(
        routes=build(endpoints(), (*services.mounted, pages), services),
        middleware=[Middleware(Guard), Middleware(_Shell)],
        exception_handlers={MainstemError: answer_ours, HTTPException: answer_http},
        lifespan=lifespan,
    )
    app.state.closing = services.closing
    # A redirect for a slash at the end would give one resource two addresses, of which only one was thought about.
    app.router.redirect_slashes = False
    return app
