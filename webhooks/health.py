"""What a process answers on its health port: whether it lives and can work, and its figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from runner.metrics import CONTENT_TYPE, Family, render


def health_app(problems: Callable[[], list[str]], figures: Callable[[], Iterable[Family]]) -> Starlette:
    """Return an application with `/health/live`, `/health/ready` (503 while there are problems) and `/metrics`.

    It says no more than an orchestrator needs: whoever reaches the port may ask. Figures name no flow and no namespace.
    """

    async def live(_request: Request) -> Response:
        return JSONResponse({"status": "UP"})

    async def ready(_request: Request) -> Response:
        missing = await run_in_threadpool(problems)
        body = {"status": "DOWN" if missing else "UP", "missing": missing}
        return JSONResponse(body, status_code=503 if missing else 200)

    async def metrics(_request: Request) -> Response:
        text = await run_in_threadpool(lambda: render(figures()))
        return Response(text, headers={"content-type": CONTENT_TYPE})

    return Starlette(
        routes=[Route("/health/live", live), Route("/health/ready", ready), Route("/metrics", metrics)],
    )
