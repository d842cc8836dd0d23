"""The table of routes: each names its permission, or the server does not start.

A handler is a function of a `Call`. A plain function runs in a thread, because the store may make it wait; a
coroutine function runs on the event loop and must not wait for the store. What it returns becomes JSON unless it is
a response already.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp

from runner.access import REFUSED, Identity, Permission
from runner.errors import AccessError, NotFoundError
from webhooks.call import Call
from webhooks.parameters import Parameter
from webhooks.problems import Json
from webhooks.proposing import accepted
from webhooks.schemas import Schema

if TYPE_CHECKING:
    from webhooks.services import Services

TENANT = "main"
_SAFE = frozenset({"GET", "HEAD"})
_OTHER_SITES = frozenset({"cross-site", "same-site"})
Handler = Callable[[Call], Any]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A route: method, path, permission and handler; the rest is for the OpenAPI document, and holds for the handler.

    `takes` is the media type of the body, None without one, and `body` its schema. `reads_body` is off for handlers
    that read the body themselves (multipart, raw webhooks). `query` are the parameters that the handler may read, and
    `answer` is the schema of what it returns, in the media type `gives` or as it pleases in one of `or_gives`, with
    `status` or one of `also`. What `proposes` answers 202 where an environment takes only proposals, see
    `webhooks.proposing`.
    """

    method: str
    path: str
    permission: Permission | None
    handler: Handler
    summary: str
    tag: str
    takes: str | None = None
    gives: str = "application/json"
    status: int = 200
    also: tuple[int, ...] = ()
    or_gives: tuple[str, ...] = ()
    reads_body: bool = True
    query: tuple[Parameter, ...] = ()
    body: Schema = None
    answer: Schema = None
    proposes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What a mounted application answers to a method at a path, for the OpenAPI document.

    `security` names the kinds of proof that it takes, one of which is enough; none when the proof lies in the request.
    """

    method: str
    path: str
    summary: str
    tag: str
    permission: Permission = Permission.OWN_PROOF
    security: tuple[Mapping[str, list[str]], ...] = ()
    takes: str | None = None
    gives: str = "application/json"
    status: int = 200
    also: tuple[int, ...] = ()
    or_gives: tuple[str, ...] = ()
    query: tuple[Parameter, ...] = ()
    body: Schema = None
    answer: Schema = None


@dataclass(frozen=True, slots=True)
class Mounted:
    """An application of another module below a path. It proves its callers itself, and says so by its permission.

    `deliveries` counts the webhook deliveries that it received, by result.
    """

    path: str
    app: ASGIApp
    permission: Permission | None
    deliveries: Callable[[], Mapping[str, int]] = dict


class UndeclaredRouteError(TypeError):
    """A route without a permission: a mistake of the programmer that must keep the server from starting."""


def build(endpoints: Iterable[Endpoint], mounted: Sequence[Mounted], services: Services) -> list[BaseRoute]:
    """Return the routes, the most specific first, so that `search` is never taken for a namespace.

    Raises:
        UndeclaredRouteError: when one declares no permission.
    """
    routes: list[BaseRoute] = []
    for endpoint in sorted(endpoints, key=_order):
        _check(endpoint.permission, f"{endpoint.method} {endpoint.path}")
        route = Route(endpoint.path, _serve(endpoint, services), methods=[endpoint.method])
        if endpoint.gives == "text/event-stream" and route.methods is not None:
            route.methods.discard("HEAD")  # Starlette adds it to GET; a stream would be produced for nobody
        routes.append(route)
    for item in mounted:
        _check(item.permission, item.path)
        routes.append(Mount(item.path, app=item.app))
    return routes


def _check(permission: Permission | None, name: str) -> None:
    if permission is None:
        raise UndeclaredRouteError(f"{name} declares no permission")


def _authenticated(request: Request, services: Services, header: str | None) -> Identity:
    target = f"{request.method} {request.url.path}"
    return services.access.authenticate(header, target=target, client=client_of(request))


def client_of(request: Request) -> str | None:
    """Return the address that a request came from; behind a proxy that is not trusted, that of the proxy."""
    return request.client.host if request.client else None


def _refuse_other_sites(call: Call) -> None:
    # A browser that keeps a Basic password sends it along with the forms of other sites; it tells us that it does.
    request = call.request
    if request.method not in _SAFE and request.headers.get("sec-fetch-site", "none") in _OTHER_SITES:
        call.note(request.url.path, result=REFUSED, site=request.headers["sec-fetch-site"][:20])
        raise AccessError("access.site.refused", "a page of another site may not change anything here")


def _order(endpoint: Endpoint) -> tuple[bool, tuple[int, ...]]:
    # Webhooks come first: they are asked for most, and each pattern before theirs costs them two microseconds.
    segments = endpoint.path.split("/")
    specificity = tuple(2 if ":path}" in part else 1 if part.startswith("{") else 0 for part in segments)
    return endpoint.permission is not Permission.OWN_PROOF, specificity


def _serve(endpoint: Endpoint, services: Services) -> Callable[[Request], Awaitable[Response]]:
    permission = endpoint.permission
    assert permission is not None
    is_open = permission in {Permission.PUBLIC, Permission.OWN_PROOF}
    is_async = inspect.iscoroutinefunction(endpoint.handler)
    guarded = "{namespace}" in endpoint.path
    declared = {parameter.name: parameter for parameter in endpoint.query}

    async def serve(request: Request) -> Response:
        tenant = request.path_params.get("tenant", TENANT)
        call = Call(request, services, permission, None, declared)
        if not is_open:
            header = request.headers.get("authorization")
            call.identity = services.access.known(header)
            if call.identity is None:
                call.identity = await run_in_threadpool(_authenticated, request, services, header)
            _refuse_other_sites(call)
            namespace = request.path_params["namespace"] if guarded else None
            services.access.require(call.identity, permission, namespace)
        if tenant != TENANT:
            raise NotFoundError("tenant.missing", f"no tenant named {tenant!r}", hint=f"the only one is {TENANT!r}")
        if endpoint.reads_body and endpoint.takes is not None:
            call.body = await request.body()
        try:
            result = await endpoint.handler(call) if is_async else await run_in_threadpool(endpoint.handler, call)
        finally:
            await request.close()  # uploaded files lie in temporary files
        if call.proposals:
            return accepted(call, result)
        if isinstance(result, Response):
            return result
        return Json(result, status_code=endpoint.status)

    return functools.wraps(endpoint.handler)(serve)
