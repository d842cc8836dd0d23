"""From filters to questions for the store, and what the store cannot narrow down is looked through here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from runner.access import covers
from runner.errors import InvalidError
from runner.executions.models import Execution, LogEntry
from runner.states import State
from runner.store import ExecutionQuery, LogQuery, Page
from webhooks.call import Paging
from webhooks.filters import (
    CHOICE_OPS,
    DATE_OPS,
    LABEL_OPS,
    PLAIN_OPS,
    RANGE_OPS,
    TEXT_OPS,
    Filter,
    Group,
    duration_of,
    holds,
    instant,
)

T = TypeVar("T")
_SCAN_PAGE: Final = 1_000
_MAX_SCANNED: Final = 20_000
_MICROSECOND: Final = timedelta(microseconds=1)
SYSTEM_NAMESPACE: Final = "system"

EXECUTION_FIELDS: Final = {
    "q": PLAIN_OPS,
    "scope": PLAIN_OPS,
    "namespace": TEXT_OPS,
    "flowId": TEXT_OPS,
    "id": TEXT_OPS,
    "state": CHOICE_OPS,
    "kind": CHOICE_OPS,
    "labels": LABEL_OPS,
    "startDate": DATE_OPS,
    "endDate": DATE_OPS,
    "timeRange": RANGE_OPS,
    "triggerExecutionId": TEXT_OPS,
    "parentId": TEXT_OPS,
    "childFilter": PLAIN_OPS,
}
LOG_FIELDS: Final = {
    "q": PLAIN_OPS,
    "scope": PLAIN_OPS,
    "namespace": TEXT_OPS,
    "flowId": TEXT_OPS,
    "executionId": TEXT_OPS,
    "taskId": TEXT_OPS,
    "taskRunId": TEXT_OPS,
    "triggerId": TEXT_OPS,
    "level": PLAIN_OPS,
    "startDate": DATE_OPS,
    "endDate": DATE_OPS,
    "timeRange": RANGE_OPS,
}
FLOW_FIELDS: Final = {
    "q": PLAIN_OPS,
    "scope": PLAIN_OPS,
    "namespace": TEXT_OPS,
    "flowId": TEXT_OPS,
    "labels": LABEL_OPS,
}
TRIGGER_FIELDS: Final = {
    "q": PLAIN_OPS,
    "scope": PLAIN_OPS,
    "namespace": TEXT_OPS,
    "flowId": TEXT_OPS,
    "triggerId": TEXT_OPS,
    "workerId": TEXT_OPS,
    "triggerState": PLAIN_OPS,
    "startDate": DATE_OPS,
    "endDate": DATE_OPS,
    "timeRange": RANGE_OPS,
    "locked": PLAIN_OPS,
    "lastTriggeredDate": DATE_OPS,
    "nextExecutionDate": DATE_OPS,
}
NAMESPACE_FIELDS: Final = {"q": PLAIN_OPS, "namespace": TEXT_OPS}
SECRET_FIELDS: Final = {"q": PLAIN_OPS, "namespace": TEXT_OPS}
KEY_FIELDS: Final = {"q": PLAIN_OPS, "namespace": TEXT_OPS, "updated": DATE_OPS}
NAMESPACE_FIELD_OPS: Final = frozenset({"EQUALS", "PREFIX"})


def scope_of(namespace: str) -> str:
    """Return `SYSTEM` for the system's own namespace, else `USER`."""
    return "SYSTEM" if covers([SYSTEM_NAMESPACE], namespace) else "USER"


def narrow_executions(filters: Group, now: datetime) -> tuple[ExecutionQuery, Group]:
    """Return a query that lets through everything that `filters` do, and the filters it does not cover."""
    query = ExecutionQuery()
    rest: list[Filter | Group] = []
    for part in filters.parts:
        narrowed = _narrow_execution(query, part, now) if isinstance(part, Filter) and not filters.is_any else None
        if narrowed is None:
            rest.append(part)
        else:
            query = narrowed
    return query, Group(tuple(rest), is_any=filters.is_any)


def _narrow_execution(query: ExecutionQuery, part: Filter, now: datetime) -> ExecutionQuery | None:
    plain = {"flowId": "flow_id", "triggerExecutionId": "trigger_execution_id", "kind": "kind", "q": "q"}
    if part.field == "namespace" and part.op in NAMESPACE_FIELD_OPS and query.namespace is None:
        return replace(query, namespace=part.value, exact=part.op == "EQUALS")
    if part.field in plain and part.op == "EQUALS" and getattr(query, plain[part.field]) is None:
        changed: dict[str, Any] = {plain[part.field]: part.value}
        return replace(query, **changed)
    states = tuple(State(item) for item in part.choices if item in set(State)) if part.field == "state" else ()
    if states and part.op in {"EQUALS", "IN"} and not query.states:
        return replace(query, states=states)
    if part.field == "labels" and part.op == "EQUALS" and part.key is not None:
        return replace(query, labels={**query.labels, part.key: part.value})
    since, until = _period(part, now) if part.field in {"startDate", "timeRange"} else (None, None)
    if since is None and until is None:
        return None
    return replace(query, since=_latest(query.since, since), until=_earliest(query.until, until))


def narrow_logs(filters: Group, now: datetime) -> tuple[LogQuery, Group]:
    """Return a query that lets through everything that `filters` do, and the filters it does not cover."""
    query = LogQuery()
    rest: list[Filter | Group] = []
    for part in filters.parts:
        narrowed = _narrow_log(query, part, now) if isinstance(part, Filter) and not filters.is_any else None
        if narrowed is None:
            rest.append(part)
        else:
            query = narrowed
    return query, Group(tuple(rest), is_any=filters.is_any)


def _narrow_log(query: LogQuery, part: Filter, now: datetime) -> LogQuery | None:
    plain = {
        "flowId": "flow_id",
        "executionId": "execution_id",
        "taskId": "task_id",
        "taskRunId": "task_run_id",
        "triggerId": "trigger_id",
        "level": "min_level",
        "q": "q",
    }
    if part.field in plain and part.op == "EQUALS" and getattr(query, plain[part.field]) is None:
        changed: dict[str, Any] = {plain[part.field]: part.value}
        return replace(query, **changed)
    if part.field == "namespace" and part.op == "PREFIX" and query.namespace is None:
        return replace(query, namespace=part.value)
    since, until = _period(part, now) if part.field in {"startDate", "endDate", "timeRange"} else (None, None)
    if since is None and until is None:
        return None
    return replace(query, since=_latest(query.since, since), until=_earliest(query.until, until))


def _period(part: Filter, now: datetime) -> tuple[datetime | None, datetime | None]:
    if part.field == "timeRange":
        return now - duration_of(part.value), None
    time = instant(part.value) if part.op not in {"IS_NULL", "IS_NOT_NULL"} else now
    starts = {"GREATER_THAN_OR_EQUAL_TO": time, "GREATER_THAN": time + _MICROSECOND}
    ends = {"LESS_THAN": time, "LESS_THAN_OR_EQUAL_TO": time + _MICROSECOND}
    return starts.get(part.op), ends.get(part.op)


def _latest(one: datetime | None, other: datetime | None) -> datetime | None:
    return max(one, other) if one and other else one or other


def _earliest(one: datetime | None, other: datetime | None) -> datetime | None:
    return min(one, other) if one and other else one or other


def execution_value(execution: Execution, field: str) -> Any:
    """Return the value of a filter field of an execution."""
    cause = execution.trigger.variables.get("executionId") if execution.trigger else None
    values: Mapping[str, Callable[[], Any]] = {
        "q": lambda: f"{execution.id} {execution.namespace} {execution.flow_id}",
        "scope": lambda: scope_of(execution.namespace),
        "namespace": lambda: execution.namespace,
        "flowId": lambda: execution.flow_id,
        "id": lambda: execution.id,
        "state": lambda: str(execution.state),
        "kind": lambda: execution.kind,
        "labels": lambda: execution.labels,
        "startDate": lambda: execution.created_at,
        "timeRange": lambda: execution.created_at,
        "endDate": lambda: execution.ended_at,
        "triggerExecutionId": lambda: cause or execution.parent_execution_id,
        "parentId": lambda: execution.parent_id or execution.parent_execution_id,
        "childFilter": lambda: "CHILD" if cause or execution.parent_execution_id else "MAIN",
    }
    return values[field]()


def log_value(entry: LogEntry, field: str) -> Any:
    """Return the value of a filter field of a line of log."""
    values = {
        "q": entry.message,
        "scope": scope_of(entry.namespace),
        "namespace": entry.namespace,
        "flowId": entry.flow_id,
        "executionId": entry.execution_id,
        "taskId": entry.task_id,
        "taskRunId": entry.task_run_id,
        "triggerId": entry.trigger_id,
        "level": entry.level,
        "startDate": entry.timestamp,
        "endDate": entry.timestamp,
        "timeRange": entry.timestamp,
    }
    return values[field]


def restrict(namespace: str | None, visible: tuple[str, ...] | None) -> tuple[str | None, bool]:
    """Return the namespace to ask the store for, and whether rows must still be judged one by one.

    `visible` are the prefixes of the caller's token, None for all.
    """
    if visible is None:
        return namespace, False
    if namespace is not None and covers(visible, namespace):
        return namespace, False
    if namespace is None and len(visible) == 1:
        return visible[0], False
    return namespace, True


def look_through(
    fetch: Callable[[int, int], Page[T]], is_wanted: Callable[[T], bool], paging: Paging
) -> tuple[list[T], int]:
    """Return a page of the rows that are wanted, and how many there are; `fetch(page, size)` asks the store.

    Raises:
        InvalidError: `request.search.wide` when more rows would have to be looked at than a request may cost.
    """
    found: list[T] = []
    page, seen = 1, 0
    while True:
        batch = fetch(page, _SCAN_PAGE)
        if batch.total > _MAX_SCANNED:
            raise InvalidError(
                "request.search.wide",
                f"these filters would have to be checked on {batch.total} rows one by one, at most {_MAX_SCANNED}",
                hint="add a namespace, a flow id or a time range",
            )
        found += [row for row in batch.items if is_wanted(row)]
        seen += len(batch.items)
        if not batch.items or seen >= batch.total:
            return found[paging.offset : paging.offset + paging.size], len(found)
        page += 1


def judge(rest: Group, visible: tuple[str, ...] | None, value_of: Callable[[Any, str], Any], now: datetime) -> Any:
    """Return a function that tells whether a row passes `rest` and lies in a visible namespace."""

    def is_wanted(row: Any) -> bool:
        if visible is not None and not covers(visible, row.namespace):
            return False
        return holds(rest, lambda field: value_of(row, field), now)

    return is_wanted
