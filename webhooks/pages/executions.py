"""The page of executions: filtered and paged by its address, so that it can be shared."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from runner.access import Permission
from runner.states import State
from webhooks.api.executions import found
from webhooks.call import Call, Paging
from webhooks.filters import Filter, Group
from webhooks.pages.page import Page, query_with, render
from webhooks.parameters import paging, text
from webhooks.search import narrow_executions

SIZE: Final = 25
RANGES: Final = {"PT1H": "last hour", "P1D": "last day", "P7D": "last week", "P30D": "last 30 days"}
_FIELDS: Final = {"namespace": "PREFIX", "flowId": "EQUALS", "state": "EQUALS", "timeRange": "EQUALS", "q": "EQUALS"}
_QUERY: Final = (
    text("namespace", "In this namespace or below it."),
    text("flowId", "Of the flow with this id."),
    text("state", "In this state.", choices=tuple(state.value for state in State)),
    text("timeRange", "Begun within this time.", choices=tuple(RANGES)),
    text("q", "A part of an id."),
    text("label", "With this label, as `key:value`."),
    *paging(),
)


def show(call: Call) -> Any:
    """Answer with a page of executions, the newest first."""
    number = call.count("page")
    given = {name: call.query(name) for name in (*_FIELDS, "label")}
    query, rest = narrow_executions(_filters(given), datetime.now(UTC))
    rows, total = found(call, query, rest, Paging(number, SIZE))
    return render(
        call,
        "executions.html",
        rows=rows,
        total=total,
        given=given,
        states=[state.value for state in State],
        ranges=RANGES,
        page=number,
        pages=max(-(-total // SIZE), 1),
        address=lambda to: query_with(given, page=to),
        now=datetime.now(UTC),
        is_moving=any(not row.state.is_terminal for row in rows),
    )


def _filters(given: dict[str, str | None]) -> Group:
    """Return what the address says as the filters of the API; a label is `key:value`."""
    parts = [Filter(name, op, value) for name, op in _FIELDS.items() if (value := given[name])]
    key, colon, value = (given["label"] or "").partition(":")
    if colon and key:
        parts.append(Filter("labels", "EQUALS", value, key))
    return Group(tuple(parts))


def pages() -> list[Page]:
    """Return the pages of this file."""
    return [Page("/executions", Permission.EXECUTION_READ, show, _QUERY)]
