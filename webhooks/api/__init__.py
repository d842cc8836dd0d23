"""The resources of the API, one file each; every file gives its routes by `endpoints()`."""

from __future__ import annotations

from webhooks.routes import Endpoint


def endpoints() -> list[Endpoint]:
    """Return the routes of all resources."""
    from webhooks.api import (
        audit,
        catalogue,
        deliveries,
        environments,
        execution_bulk,
        execution_lists,
        execution_verbs,
        execution_views,
        executions,
        files,
        flow_archives,
        flow_bulk,
        flow_relations,
        flow_sources,
        flow_views,
        flows,
        follow,
        health,
        kv,
        logs,
        metrics,
        namespace_files,
        namespaces,
        openapi,
        results,
        tokens,
        trigger_backfills,
        trigger_bulk,
        triggers,
        webhook,
    )

    modules = (
        webhook,
        health,
        openapi,
        metrics,
        executions,
        execution_verbs,
        execution_bulk,
        execution_views,
        execution_lists,
        results,
        follow,
        files,
        flows,
        flow_views,
        flow_relations,
        flow_sources,
        flow_bulk,
        flow_archives,
        logs,
        triggers,
        trigger_backfills,
        trigger_bulk,
        kv,
        namespaces,
        namespace_files,
        catalogue,
        environments,
        deliveries,
        tokens,
        audit,
    )
    return [endpoint for module in modules for endpoint in module.endpoints()]
