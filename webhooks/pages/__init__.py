"""Pages for people: what is active, what a commit changes, flows, executions. They read only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from runner.access import Permission
from runner.secrets.encryption import Encryption
from webhooks.answers.executions import EXECUTION
from webhooks.pages import environments, execution, executions, flows, login, plan
from webhooks.pages.page import Page, served
from webhooks.pages.session import Sessions
from webhooks.problems import answer_http
from webhooks.routes import Operation

if TYPE_CHECKING:
    from webhooks.services import Services

PAGES: Final[tuple[Page, ...]] = (
    *environments.pages(),
    *plan.pages(),
    *flows.pages(),
    *executions.pages(),
    *execution.pages(),
)
# For programs; what else is below /ui is for people.
OPERATIONS: Final = (
    Operation(
        method="GET",
        path="/ui/{tenant}/executions/{namespace}/{flowId}/{id}",
        summary="One execution, at the address that answers name as its `url`",
        tag="executions",
        permission=Permission.EXECUTION_READ,
        or_gives=("text/html",),
        answer=EXECUTION,
    ),
)


def pages_app(services: Services) -> Starlette:
    """Return the application below `/ui`: the pages, the form to sign in, and what they are shown with."""
    is_secure = services.settings.public_url.startswith("https://")
    encryption = services.host.encryption or Encryption.of(services.settings)
    sessions = Sessions(services.access, encryption, is_secure=is_secure)
    routes = [Route(f"/{{tenant}}{page.path}", served(page, services, sessions), methods=["GET"]) for page in PAGES]
    handlers = {HTTPException: answer_http}
    app = Starlette(routes=[*login.routes(services, sessions), *routes], exception_handlers=handlers)
    app.router.redirect_slashes = False
    return app
