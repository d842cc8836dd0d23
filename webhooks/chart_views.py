"""From the body of a request to how a chart is looked at: time, namespace, labels, page and filters of its viewer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from runner.dashboards.models import Filter, TimeWindow
from runner.dashboards.query import comparable
from runner.dashboards.view import MOST_ROWS, View, period
from runner.dashboards.vocabulary import FILTERS, SOURCES, FieldKind, FilterShape
from runner.errors import InvalidError
from runner.store.logs import LEVELS
from webhooks.filters import duration_of, instant

_MOST_FILTERS: Final = 50
_FIELDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "namespace": "NAMESPACE",
        "flowid": "FLOW_ID",
        "state": "STATE",
        "labels": "LABELS",
        "level": "LEVEL",
        "minlevel": "LEVEL",
        "taskid": "TASK_ID",
        "triggerid": "TRIGGER_ID",
        "executionid": "EXECUTION_ID",
        "triggerexecutionid": "TRIGGER_EXECUTION_ID",
    }
)
_TIMES: Final = frozenset({"startdate", "enddate", "timerange"})
_KINDS: Final[Mapping[str, str]] = MappingProxyType({"EQUALS": "EQUAL_TO", "NOT_EQUALS": "NOT_EQUAL_TO"})


def view_of(
    body: Mapping[str, Any], source: str, window: TimeWindow, namespaces: tuple[str, ...] | None, now: datetime
) -> View:
    """Return how somebody wants to look at the data of `source`.

    A condition on what the source has no field for restricts nothing, since one view is for all charts of a dashboard.

    Raises:
        InvalidError: `dashboard.period.invalid`, `dashboard.filter.invalid`, `request.page.invalid`.
        RequestError: `request.filter.invalid` for times that are none.
    """
    given = _listed(body)
    since, until = period(window, now, *_times(body, given, now))
    filters = (*_plain(body, source), *(each for item in given for each in _filters(item, source)))
    page, size = _whole(body, "pageNumber", 1, 1_000_000), _whole(body, "pageSize", MOST_ROWS, MOST_ROWS)
    return View(since, until, filters, namespaces, page, size)


def _listed(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    given = body.get("filters") or []
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise _wrong("`filters` is a list of objects with field, operation and value")
    if len(given) > _MOST_FILTERS:
        raise _wrong(f"more than {_MOST_FILTERS} filters")
    return given


def _times(
    body: Mapping[str, Any], given: list[dict[str, Any]], now: datetime
) -> tuple[datetime | None, datetime | None]:
    since, until = (instant(str(body[key])) if body.get(key) else None for key in ("startDate", "endDate"))
    for item in given:
        name, value = _name(item), str(item.get("value"))
        if name == "timerange":
            since = _before(now, duration_of(value))
        elif name == "startdate":
            since = instant(value)
        elif name == "enddate":
            until = instant(value)
    return since, until


def _before(now: datetime, span: timedelta) -> datetime:
    try:
        return now - span
    except OverflowError:
        raise InvalidError("dashboard.period.invalid", "the time range reaches back to no year") from None


def _plain(body: Mapping[str, Any], source: str) -> Iterator[Filter]:
    if body.get("namespace"):
        yield Filter("PREFIX", "NAMESPACE", (_text(body["namespace"]),))
    if body.get("labels") and "LABELS" in SOURCES[source]:
        yield from _labels("EQUAL_TO", body["labels"])


def _filters(item: Mapping[str, Any], source: str) -> Iterator[Filter]:
    name = _name(item)
    if name in _TIMES:
        return
    if name not in _FIELDS:
        raise _wrong(f"no filter on {name[:80]!r} here; there are {', '.join(sorted({*_FIELDS, *_TIMES}))}")
    field, said = _FIELDS[name], str(item.get("operation", "EQUALS")).upper()
    kind = _KINDS.get(said, said)
    if kind not in FILTERS or kind == "OR":
        raise _wrong(f"no operation is named {said[:80]!r}")
    if field not in SOURCES[source]:
        return
    value = item.get("value")
    if field == "LABELS":
        yield from _labels(kind, value)
    elif name == "minlevel":
        yield Filter("IN", field, _levels(_text(value)))
    else:
        yield Filter(kind, field, _values(kind, field, source, value))


def _values(kind: str, field: str, source: str, value: Any) -> tuple[Any, ...]:
    shape = FILTERS[kind]
    if shape is FilterShape.NOTHING:
        return ()
    if shape is FilterShape.MANY or isinstance(value, list):
        every = value if isinstance(value, list) else str(value).split(",")
        if shape is not FilterShape.MANY:
            raise _wrong(f"{kind} compares {field} with one value")
        return tuple(_text(each) for each in every)
    return (comparable(kind, SOURCES[source][field], _text(value)),)


def _labels(kind: str, value: Any) -> Iterator[Filter]:
    pairs = value if isinstance(value, dict) else dict([str(value).partition(":")[::2]])
    if len(pairs) > _MOST_FILTERS or FILTERS[kind] is not FilterShape.ONE:
        raise _wrong(f"labels cannot be filtered by {kind}, or are more than {_MOST_FILTERS}")
    for key, each in pairs.items():
        yield Filter(kind, "LABELS", (comparable(kind, FieldKind.LABELS, _text(each)),), str(key))


def _levels(least: str) -> tuple[str, ...]:
    if least not in LEVELS:
        raise _wrong(f"no level is named {least[:80]!r}; there are {', '.join(LEVELS)}")
    return LEVELS[LEVELS.index(least) :]


def _name(item: Mapping[str, Any]) -> str:
    return str(item.get("field", "")).replace("_", "").lower()


def _text(value: Any) -> str:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    raise _wrong("a filter compares with a text or a number")


def _whole(body: Mapping[str, Any], key: str, default: int, most: int) -> int:
    value = body.get(key)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise InvalidError("request.page.invalid", f"{key} is a whole number of 1 to {most}")
    return value


def _wrong(text: str) -> InvalidError:
    return InvalidError("dashboard.filter.invalid", text)
