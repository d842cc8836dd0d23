"""The figures for Prometheus."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.responses import Response

from runner.access import Permission
from runner.metrics import CONTENT_TYPE, of_process, of_store, render
from webhooks.call import Call
from webhooks.routes import Endpoint


def metrics(call: Call) -> Response:
    """Answer with the figures of this moment; needs a token like everything else."""
    services, now = call.services, datetime.now(UTC)
    families = [*of_process(services.process(), services.store, now), *of_store(services.store, now)]
    return Response(render(families), headers={"content-type": CONTENT_TYPE})


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    kind = "text/plain"
    return [
        Endpoint("GET", "/metrics", Permission.METRICS_READ, metrics, "Figures for Prometheus", "health", gives=kind)
    ]
