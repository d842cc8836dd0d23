"""The page of flows: what is active, from which commit, how it ran last, when it runs next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from runner.access import Permission
from runner.executions.models import Execution
from runner.store import Session
from runner.store.records import FlowVersion
from webhooks.api.flows import FLOW_SEARCH, found_flows
from webhooks.call import Call
from webhooks.pages.page import Page, query_with, render
from webhooks.parameters import paging

SIZE: Final = 25


@dataclass(frozen=True, slots=True)
class Row:
    """A flow as the page shows it: its newest executions, and the earliest date of its schedules."""

    version: FlowVersion
    last: tuple[Execution, ...]
    next_at: datetime | None


def show(call: Call) -> Any:
    """Answer with a page of the active flows."""
    number = call.count("page")
    found = sorted(found_flows(call), key=lambda each: (each.namespace, each.flow_id))
    page = found[(number - 1) * SIZE : number * SIZE]
    rows = call.services.store.read(lambda db: [_row(db, version) for version in page])
    given = {"q": call.query("q"), "namespace": call.query("namespace")}
    return render(
        call,
        "flows.html",
        rows=rows,
        total=len(found),
        given=given,
        page=number,
        pages=max(-(-len(found) // SIZE), 1),
        address=lambda to: query_with(given, page=to),
    )


def _row(db: Session, version: FlowVersion) -> Row:
    triggers = db.triggers.of_flow(version.namespace, version.flow_id)
    dates = [each.next_at for each in triggers if each.next_at is not None and not each.disabled]
    last = db.executions.last_of_flow(version.namespace, version.flow_id, 5)
    return Row(version, tuple(last), min(dates, default=None))


def pages() -> list[Page]:
    """Return the pages of this file."""
    return [Page("/flows", Permission.FLOW_READ, show, (*FLOW_SEARCH, *paging()))]
