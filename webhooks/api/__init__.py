"""The resources of the API, one file each; every file gives its routes by `endpoints()`."""

from __future__ import annotations

from webhooks.routes import Endpoint


def endpoints() -> list[Endpoint]:
    """Return the routes of all resources."""
    from webhooks.api import health, openapi

    return [endpoint for module in (health, openapi) for endpoint in module.endpoints()]
