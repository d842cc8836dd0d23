"""Signing in and out, and the files that pages are shown with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route

from runner.access import REFUSED, UNKNOWN, Permission
from runner.links import PAGES
from webhooks.call import Call
from webhooks.pages.page import ASSETS, LOGIN, asset, render
from webhooks.pages.session import PATH, Sessions
from webhooks.routes import client_of

if TYPE_CHECKING:
    from webhooks.services import Services

_START: Final = f"{PAGES}/environments"
_LONGEST_TOKEN: Final = 512
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def routes(services: Services, sessions: Sessions) -> list[Route]:
    """Return the routes that need no session."""

    async def show(request: Request) -> Response:
        return _form(_call(request, services), _wanted(request.query_params.get("next")))

    async def enter(request: Request) -> Response:
        form = await request.form(max_files=0, max_fields=4)
        token, wanted = str(form.get("token", "")).strip(), _wanted(str(form.get("next", "")))
        answer = RedirectResponse(wanted, HTTPStatus.SEE_OTHER)
        if len(token) > _LONGEST_TOKEN or await run_in_threadpool(sessions.begin, token, answer) is None:
            target = f"POST {LOGIN}"
            services.access.note(UNKNOWN, "token.use", target, result=REFUSED, client=client_of(request))
            return _form(_call(request, services), wanted, status=HTTPStatus.FORBIDDEN)
        return answer

    async def leave(_request: Request) -> Response:
        answer = RedirectResponse(LOGIN, HTTPStatus.SEE_OTHER)
        sessions.end(answer)
        return answer

    return [
        Route("/", lambda _request: RedirectResponse(_START, HTTPStatus.SEE_OTHER), methods=["GET"]),
        Route("/login", show, methods=["GET"]),
        Route("/login", _from_here(enter), methods=["POST"]),
        Route("/logout", _from_here(leave), methods=["POST"]),
        Route("/assets/{digest}/{name}", _asset, methods=["GET"]),
    ]


def _call(request: Request, services: Services) -> Call:
    return Call(request, services, Permission.PUBLIC, None)


def _form(call: Call, wanted: str, *, status: int = HTTPStatus.OK) -> Response:
    return render(call, "login.html", status=status, wanted=wanted, is_wrong=status != HTTPStatus.OK)


def _wanted(path: str | None) -> str:
    """Return where to go after signing in: a page of ours, whatever a link to the form says."""
    is_ours = path is not None and path.startswith(f"{PATH}/") and "\\" not in path and "//" not in path
    return path if is_ours and path is not None and path.isprintable() else _START


def _from_here(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def serve(request: Request) -> Response:
        # Browsers say where a form was; one on another site must not sign anybody in or out.
        if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
            raise HTTPException(HTTPStatus.FORBIDDEN, "a page of another site may not change anything here")
        return await handler(request)

    return serve


async def _asset(request: Request) -> Response:
    name = request.path_params["name"]
    path = ASSETS / name
    if path.parent != ASSETS or path.suffix not in _TYPES or not path.is_file():
        raise HTTPException(HTTPStatus.NOT_FOUND, "there is no such file")
    # An address of another version gets what is there now, and is not kept.
    is_current = request.url.path == asset(name)
    kept = "public, max-age=31536000, immutable" if is_current else "no-store"
    return FileResponse(path, media_type=_TYPES[path.suffix], headers={"cache-control": kept})
