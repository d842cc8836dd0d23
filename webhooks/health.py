"""Answers for probes of a process that serves nothing else."""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


def health_app(problems: Callable[[], list[str]]) -> Starlette:
    """Return an application with `/health/live` and `/health/ready`, which is 503 while there are problems.

    It says no more than an orchestrator needs: whoever reaches the port may ask.
    """

    async def live(_request: Request) -> Response:
        return JSONResponse({"status": "UP"})

    async def ready(_request: Request) -> Response:
        missing = await run_in_threadpool(problems)
        body = {"status": "DOWN" if missing else "UP", "missing": missing}
        return JSONResponse(body, status_code=503 if missing else 200)

    return Starlette(routes=[Route("/health/live", live), Route("/health/ready", ready)])
