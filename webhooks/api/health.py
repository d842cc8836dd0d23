"""Whether the server lives and can work, what it is, and a page that says where to go."""

from __future__ import annotations

import hashlib
from html import escape
from typing import Any

from starlette.responses import HTMLResponse, Response

import runner
from runner.access import Permission
from webhooks.answers.instance import CONFIGURATION, HEALTH
from webhooks.call import Call
from webhooks.problems import Json
from webhooks.routes import TENANT, Endpoint
from webhooks.schemas import TEXT

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Mainstem</title>
<h1>Mainstem {version}</h1>
<p>Flows come from git, and results go back to it.</p>
<ul>
<li><a href="/ui/">Environments, flows, executions</a></li>
{git}<li><a href="/api/openapi.json">The API, as OpenAPI 3.1</a></li>
<li><a href="/health/ready">Is it ready?</a></li>
</ul>
</html>
"""


_GIT = "<li><code>git remote add mainstem {url}/git/flows.git</code></li>\n"


def live(_call: Call) -> dict[str, str]:
    """Answer: the process serves requests."""
    return {"status": "UP"}


def ready(call: Call) -> Response:
    """Answer 200 when work can be done, 503 with what is missing."""
    missing = call.services.ready()
    status = "UP" if not missing else "DOWN"
    return Json({"status": status, "missing": missing}, status_code=503 if missing else 200)


def home(call: Call) -> Response:
    """Answer with a small page of links."""
    settings = call.services.settings
    line = _GIT.format(url=escape(settings.public_url)) if settings.is_embedded else ""
    page = _PAGE.format(version=escape(runner.__version__), git=line)
    return HTMLResponse(page)


def configs(call: Call) -> dict[str, Any]:
    """Answer what this server is, in the shape that clients of Kestra's API read."""
    settings = call.services.settings
    name = settings.environment_name
    return {
        # Stable for one installation, and nothing that could not be published.
        "uuid": hashlib.sha256(settings.public_url.encode()).hexdigest()[:32],
        "product": "Mainstem",
        "version": runner.__version__,
        "edition": "OSS",
        "url": settings.public_url,
        "environment": {"name": name} if name else {},
        "isCustomDashboardsEnabled": False,
        "isAnonymousUsageEnabled": False,
        "isBasicAuthInitialized": True,
        "systemNamespace": "system",
        "hiddenLabelsPrefixes": ["system."],
        "preview": {"initial": 100, "max": 5000},
        "tenant": TENANT,
    }


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    public, known, what = Permission.PUBLIC, Permission.CONFIG_READ, "What this server is"
    return [
        Endpoint("GET", "/health/live", public, live, "Is the process alive", "health", answer=HEALTH),
        Endpoint("GET", "/health/ready", public, ready, "Can work be done", "health", also=(503,), answer=HEALTH),
        Endpoint("GET", "/", public, home, "A page with links", "health", gives="text/html", answer=TEXT),
        Endpoint("GET", "/api/v1/configs", known, configs, what, "configs", answer=CONFIGURATION),
        Endpoint("GET", "/api/v1/{tenant}/configs", known, configs, what, "configs", answer=CONFIGURATION),
    ]
