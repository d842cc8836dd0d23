"""Schemas of dashboards."""

from __future__ import annotations

from typing import Final

from webhooks.schemas import DURATION, FLAG, TEXT, TIME, Shape, listed, nullable, opened, optional, page, record

CHART: Final = Shape("Chart", opened(record(id=TEXT, type=TEXT)))
DASHBOARD: Final = Shape(
    "Dashboard",
    record(
        tenantId=TEXT,
        id=TEXT,
        title=TEXT,
        description=nullable(TEXT),
        timeWindow=record(default=DURATION, max=DURATION),
        charts=listed(CHART),
        deleted=FLAG,
        created=TIME,
        updated=TIME,
        namespace=nullable(TEXT),
        environment=TEXT,
        path=TEXT,
        sourceCode=optional(TEXT),
    ),
)
DASHBOARDS: Final = page(DASHBOARD)
DEFAULTS: Final = Shape(
    "DefaultDashboards",
    record(
        defaultHomeDashboard=nullable(TEXT),
        defaultFlowOverviewDashboard=nullable(TEXT),
        defaultNamespaceOverviewDashboard=nullable(TEXT),
    ),
)
