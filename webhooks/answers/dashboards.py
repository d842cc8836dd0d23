"""Schemas of dashboards."""

from __future__ import annotations

from typing import Final

from webhooks.schemas import (
    ANYTHING,
    DURATION,
    FLAG,
    MAP,
    TEXT,
    TIME,
    WHOLE,
    Shape,
    listed,
    mapped,
    nullable,
    opened,
    optional,
    page,
    record,
)

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
_FILTER: Final = opened(record(field=TEXT, operation=optional(TEXT), value=optional(ANYTHING)))
CHART_VIEW: Final = Shape(
    "ChartView",
    record(
        startDate=optional(nullable(TIME)),
        endDate=optional(nullable(TIME)),
        pageSize=optional(nullable(WHOLE)),
        pageNumber=optional(nullable(WHOLE)),
        namespace=optional(nullable(TEXT)),
        labels=optional(nullable(mapped(TEXT))),
        filters=optional(nullable(listed(_FILTER))),
    ),
)
CHART_REQUEST: Final = Shape("ChartRequest", record(chart=TEXT, globalFilter=optional(nullable(CHART_VIEW))))
CHART_DATA: Final = page(MAP)
