"""Logs: of one execution as a list, as text, followed live; and searched across executions."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from starlette.responses import PlainTextResponse, Response

from runner.access import Permission
from runner.errors import InvalidError
from runner.executions.models import LogEntry
from runner.store import LogQuery
from runner.store.logs import Place
from webhooks.answers.executions import LOG_LINE, LOG_PAGE
from webhooks.api.executions import visible_execution
from webhooks.call import Call
from webhooks.filters import Group
from webhooks.parameters import filters, number, paging, required, text
from webhooks.problems import RequestError
from webhooks.routes import Endpoint
from webhooks.schemas import TEXT, listed
from webhooks.search import LOG_FIELDS, judge, log_value, look_through, narrow_logs, restrict
from webhooks.shapes import log_json, log_text

_BASE = "/api/v1/{tenant}/logs"
LEVELS: Final = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR")
_MOST_LINES: Final = 10_000  # of one answer; what is longer is paged, followed or downloaded
_BATCH: Final = 1_000
_MOST_LOOKS: Final = 20  # batches of one page, when filters must be looked at line by line
_CURSOR: Final = re.compile(r"(\d{1,18})\.(\d{1,18})")


def of_execution(call: Call) -> list[dict[str, Any]]:
    """Answer with the lines of an execution, the oldest first."""
    query = execution_query(call)
    return [log_json(entry) for entry in call.services.store.logs.search(replace(query, size=_MOST_LINES)).items]


def download(call: Call) -> Response:
    """Answer with the lines of an execution as text, however many there are."""
    query = execution_query(call)
    store = call.services.store.logs
    parts, page = [], 1
    while True:
        found = store.search(replace(query, page=page, size=_BATCH)).items
        parts.append(log_text(found))
        if len(found) < _BATCH:
            break
        page += 1
    name = f"{query.execution_id}.log"
    return PlainTextResponse("".join(parts), headers={"content-disposition": f'attachment; filename="{name}"'})


def search(call: Call) -> dict[str, Any]:
    """Answer with a page of lines, the newest first, where level means at least this one."""
    paging = call.paging()
    now = datetime.now(UTC)
    query, rest = narrow_logs(call.conditions(), now)
    query = _with_plain_parameters(call, query)
    visible = call.namespaces()
    namespace, must_judge = restrict(query.namespace, visible)
    query = replace(query, namespace=namespace, newest_first=not paging.sort, sort=_sort(paging.sort))
    store = call.services.store.logs
    store.flush()
    if call.is_given("cursor"):
        is_wanted = judge(rest, visible, log_value, now) if must_judge or rest.parts else None
        return _read_on(call, query, paging.size, is_wanted)
    if not must_judge and not rest.parts:
        page = store.search(replace(query, page=paging.page, size=paging.size))
        rows, total = page.items, page.total
    else:
        is_wanted = judge(rest, visible, log_value, now)
        rows, total = look_through(lambda at, size: store.search(replace(query, page=at, size=size)), is_wanted, paging)
    return {"results": [log_json(entry) for entry in rows], "type": "OFFSET", "total": total, "nextCursor": None}


def _read_on(call: Call, query: LogQuery, size: int, is_wanted: Callable[[LogEntry], bool] | None) -> dict[str, Any]:
    """Answer with the lines before the cursor, the newest first; an empty cursor begins with the newest of all."""
    if query.sort:
        raise RequestError("request.sort.invalid", "with a cursor lines come the newest first")
    store, place = call.services.store.logs, _place_of(call.query("cursor"))
    found: list[LogEntry] = []
    for _ in range(_MOST_LOOKS):
        batch = store.older(query, place, _BATCH if is_wanted else size)
        for at, entry in batch:
            if is_wanted is None or is_wanted(entry):
                found.append(entry)
            place = at
            if len(found) == size:
                break
        if len(found) == size or not batch:
            break
    is_over = len(found) < size and not batch
    cursor = None if is_over or place is None else f"{place[0]}.{place[1]}"
    return {"results": [log_json(entry) for entry in found], "type": "CURSOR", "total": None, "nextCursor": cursor}


def _place_of(cursor: str | None) -> Place | None:
    if cursor is None:
        return None
    found = _CURSOR.fullmatch(cursor)
    if found is None:
        raise RequestError("request.parameter.invalid", "this is no cursor of a page before")
    return int(found[1]), int(found[2])


def delete(call: Call) -> Response:
    """Remove lines of an execution: all, or those that the parameters name."""
    query = execution_query(call)
    count = call.services.store.logs.delete_matching(query)
    call.note(str(query.execution_id), verb="delete logs", count=count)
    return Response(status_code=204)


def delete_of_trigger(call: Call) -> Response:
    """Remove the lines of a trigger of a flow."""
    namespace, flow_id, trigger = call.path("namespace"), call.path("flowId"), call.required("triggerId")
    query = LogQuery(namespace=namespace, flow_id=flow_id, trigger_id=trigger)
    count = call.services.store.logs.delete_matching(query, exact=True)
    call.note(f"{namespace}.{flow_id}", verb="delete logs", trigger=trigger, count=count)
    return Response(status_code=204)


def execution_query(call: Call) -> LogQuery:
    """Return the query for one execution that the caller may see, from plain parameters and filters alike.

    Raises:
        NotFoundError: `execution.missing`.
        AccessError: 403 when it lies in a namespace the token does not count for.
    """
    execution = visible_execution(call, call.path("id"))
    query, rest = narrow_logs(call.conditions(), datetime.now(UTC))
    if rest.parts:
        raise InvalidError("request.filter.unsupported", f"{_names(rest)} cannot be filtered by here")
    query = _with_plain_parameters(call, query)
    call.services.store.logs.flush()
    return replace(query, execution_id=execution.id, namespace=None)


def _names(rest: Group) -> str:
    return ", ".join(sorted({getattr(part, "field", "groups") for part in rest.parts}))


def _with_plain_parameters(call: Call, query: LogQuery) -> LogQuery:
    level = call.query("minLevel") or query.min_level
    if level is not None and level not in LEVELS:
        raise InvalidError("log.level.unknown", f"no level named {level!r}", hint=f"one of {', '.join(LEVELS)}")
    return replace(
        query,
        min_level=level,
        task_run_id=call.query("taskRunId") or query.task_run_id,
        task_id=call.query("taskId") or query.task_id,
        attempt=call.number("attempt"),
        q=call.query("q") or query.q,
        namespace=call.query("namespace") or query.namespace,
        flow_id=call.query("flowId") or query.flow_id,
    )


def _sort(sort: tuple[tuple[str, bool], ...]) -> tuple[str, ...]:
    for field, _ in sort:
        if field not in {"timestamp", "level"}:
            raise InvalidError("request.sort.invalid", f"cannot sort by {field!r}", hint="there are timestamp, level")
    return tuple(f"{field}:{'asc' if ascending else 'desc'}" for field, ascending in sort)


LINES: Final = (
    filters(LOG_FIELDS),
    text("minLevel", "Lines of this level and of the graver ones."),
    text("taskRunId", "Lines of this task run."),
    text("taskId", "Lines of this task."),
    number("attempt", "Lines of this attempt."),
    text("q", "Lines with this text."),
    text("namespace", "Lines of this namespace and of those below it."),
    text("flowId", "Lines of this flow."),
)
"""What finds lines."""


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, remove, tag = Permission.LOG_READ, Permission.EXECUTION_DELETE, "logs"
    one, trigger = _BASE + "/{id}", (required("triggerId", "Id of the trigger."),)
    cursor = text("cursor", "Where to read on: `nextCursor` of the page before, empty to begin with the newest line.")
    return [
        Endpoint(
            "GET",
            _BASE + "/search",
            read,
            search,
            "A page of log lines",
            tag,
            query=(*LINES, *paging(), cursor),
            answer=LOG_PAGE,
        ),
        Endpoint("GET", one, read, of_execution, "The log of an execution", tag, query=LINES, answer=listed(LOG_LINE)),
        Endpoint("DELETE", one, remove, delete, "Remove lines of an execution", tag, status=204, query=LINES),
        Endpoint(
            "DELETE",
            _BASE + "/{namespace}/{flowId}",
            remove,
            delete_of_trigger,
            "Remove the lines of a trigger",
            tag,
            status=204,
            query=trigger,
        ),
        Endpoint(
            "GET",
            one + "/download",
            read,
            download,
            "The log as text",
            tag,
            gives="text/plain",
            query=LINES,
            answer=TEXT,
        ),
    ]
