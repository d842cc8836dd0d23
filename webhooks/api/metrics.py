"""The figures for Prometheus."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.responses import Response

from runner.access import Permission
from runner.metrics import CONTENT_TYPE, of_process, of_store, render
from webhooks.call import Call
from webhooks.routes import Endpoint
from webhooks.schemas import TEXT


def metrics(call: Call) -> Response:
    """Answer with the figures of this moment; needs a token like everything else."""
    services, now = call.services, datetime.now(UTC)
    families = [*of_process(services.process(), services.store, now), *of_store(services.store, now)]
    return Response(render(families), headers={"content-type": CONTENT_TYPE})


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, summary = Permission.METRICS_READ, "Figures for Prometheus"
    return [Endpoint("GET", "/metrics", read, metrics, summary, "health", gives="text/plain", answer=TEXT)]
