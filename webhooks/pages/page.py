"""A page: who may see it, what it is made of, and how it is answered, errors included."""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote, urlencode

import jinja2
from markupsafe import Markup, escape
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

import runner
from runner.access import Identity, Permission
from runner.errors import AccessError, MainstemError, NotFoundError
from runner.executions.models import ACTOR, Execution
from runner.links import PAGES, execution_page
from runner.reports.text import MARKS, moment, plain, seconds
from runner.states import State
from sync.signatures.verdict import described
from webhooks.call import Call
from webhooks.following import as_long_as
from webhooks.parameters import Parameter
from webhooks.problems import answer as answer_problem
from webhooks.routes import TENANT

if TYPE_CHECKING:
    from webhooks.pages.session import Sessions
    from webhooks.services import Services

EVENTS: Final = "text/event-stream"
ASSETS: Final = Path(__file__).parent / "assets"
LOGIN: Final = "/ui/login"
HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
}
_JOINTS: Final = re.compile(r"(?<=[._-])(?=\w)")
_SIGNS: Final = {State.RUNNING: "▶", State.PAUSED: "‖", State.QUEUED: "…", State.CREATED: "…", State.RETRYING: "↻"}


@dataclass(frozen=True, slots=True)
class Page:
    """A page below `/ui/{tenant}`: its path, what the caller must be allowed to, and what answers a `Call`.

    `query` are the parameters that the handler may read.
    """

    path: str
    permission: Permission
    handler: Callable[[Call], Any]
    query: tuple[Parameter, ...] = ()


def served(page: Page, services: Services, sessions: Sessions) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers a page: only to who signed in and may see it; errors are pages too."""
    is_async = inspect.iscoroutinefunction(page.handler)
    declared = {parameter.name: parameter for parameter in page.query}

    async def serve(request: Request) -> Response:
        call = Call(request, services, page.permission, None, declared)
        try:
            call.identity = await run_in_threadpool(_identity, request, services, sessions)
            if call.identity is None:
                return _to_login(request)
            if request.path_params["tenant"] != TENANT:
                raise NotFoundError("tenant.missing", "there is no such page")
            services.access.require(call.identity, page.permission, request.path_params.get("namespace"))
            answer = await page.handler(call) if is_async else await run_in_threadpool(page.handler, call)
            if isinstance(answer, StreamingResponse) and answer.media_type == EVENTS:
                frames = cast("AsyncGenerator[bytes, None]", answer.body_iterator)
                answer.body_iterator = as_long_as(partial(_is_in, request, services, sessions), frames)
        except MainstemError as error:
            return answer_problem(error) if by_program(request) else failed(call, error)
        return answer if isinstance(answer, Response) else HTMLResponse(answer, headers=HEADERS)

    return serve


def by_program(request: Request) -> bool:
    """Whether a program asks, as it would the API, and not a person with a browser."""
    return "authorization" in request.headers and "text/html" not in request.headers.get("accept", "")


def _identity(request: Request, services: Services, sessions: Sessions) -> Identity | None:
    header = request.headers.get("authorization")
    return services.access.authenticate(header) if header else sessions.identity(request)


async def _is_in(request: Request, services: Services, sessions: Sessions) -> bool:
    try:
        return await run_in_threadpool(_identity, request, services, sessions) is not None
    except AccessError:
        return False


def _to_login(request: Request) -> Response:
    if request.headers.get("hx-request"):
        # The whole page must go there, not the part of it that was asked for.
        return Response(status_code=HTTPStatus.NO_CONTENT, headers={"hx-redirect": LOGIN})
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"{LOGIN}?{urlencode({'next': wanted})}", HTTPStatus.SEE_OTHER)


def failed(call: Call, error: MainstemError) -> Response:
    """Return the page that says what is wrong."""
    title = HTTPStatus(error.status).phrase
    return render(call, "failed.html", status=error.status, title=title, detail=error.message, hint=error.hint)


def render(call: Call, template: str, *, status: int = 200, **values: Any) -> Response:
    """Return a page made by a template."""
    return HTMLResponse(fragment(call, template, **values), status_code=status, headers=HEADERS)


def fragment(call: Call, template: str, **values: Any) -> str:
    """Return the text that a template makes; everything in it that is not a template's own is escaped."""
    shown = {"identity": call.identity, "path": call.request.url.path, "root": PAGES, "version": runner.__version__}
    return _templates().get_template(template).render(**shown, **values)


def query_with(query: Mapping[str, Any], **changes: Any) -> str:
    """Return a query string with some parameters changed; what is None or empty is left out."""
    return "?" + urlencode({key: value for key, value in {**query, **changes}.items() if value not in {None, ""}})


@cache
def _templates() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("webhooks.pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    made.filters |= {
        "seconds": seconds,
        "moment": moment,
        "iso": _iso,
        "short": _short,
        "signed": described,
        "sign": _sign,
        "part": _part,
        "breakable": _breakable,
        "cause": _cause,
    }
    made.globals |= {"asset": asset, "execution_path": execution_page, "query_with": query_with}
    return made


def _shown(value: Any) -> Any:
    """Return what is printed: text of others without control characters and marks that turn its direction."""
    if value is None:
        return ""
    # Most texts are plain already, and a long log is thousands of them.
    is_foreign = isinstance(value, str) and not isinstance(value, Markup)
    return plain(value) if is_foreign and not (value.isascii() and value.isprintable()) else value


@cache
def asset(name: str) -> str:
    """Return the address of an asset, which changes with its content, so that browsers may keep it."""
    digest = hashlib.sha256((ASSETS / name).read_bytes()).hexdigest()[:12]
    return f"/ui/assets/{digest}/{name}"


def _iso(at: datetime | None) -> str:
    return "" if at is None else at.isoformat(timespec="seconds")


def _short(commit: str | None) -> str:
    return (commit or "")[:7]


def _sign(state: State) -> str:
    return MARKS.get(state) or _SIGNS.get(state, "·")


def _cause(execution: Execution) -> str:
    """Return what or who started an execution."""
    return execution.trigger.id if execution.trigger else execution.labels.get(ACTOR) or "hand"


def _breakable(text: str) -> Markup:
    """Return a name that a narrow screen breaks at its joints, not within its words."""
    return Markup("<wbr>").join(escape(part) for part in _JOINTS.split(plain(text)))


def _part(text: str) -> str:
    """Return text as one segment of a path."""
    return quote(text, safe="")
