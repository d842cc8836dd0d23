"""The data of charts: every source, operator and aggregation, against the same rows counted in plain Python."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runner.dashboards.models import Column, Filter, Order, Query
from runner.dashboards.query import comparable
from runner.dashboards.view import View
from runner.dashboards.vocabulary import SOURCES, Aggregation, FieldKind
from runner.errors import InvalidError
from runner.executions.models import LogEntry, Metric
from runner.states import State
from runner.store import Session, Store
from runner.store.charts import ChartFigure, ChartRows
from runner.store.records import FlowDraft, TriggerState

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
VIEW = View(NOW - timedelta(days=30), NOW)
STATES = (State.SUCCESS, State.FAILED, State.RUNNING)
SPACES = ("team", "team.data", "Team", "teamwork", "a%b_c")
Row = dict[str, Any]
COUNT = Column("n", None, Aggregation.COUNT)


def executions(store: Store, rows: Any, chance: random.Random) -> list[Row]:
    made, put = [], []
    for number in range(60):
        began = NOW - timedelta(minutes=chance.randrange(0, 60 * 24 * 40))
        ended = began + timedelta(seconds=chance.randrange(1, 900)) if number % 3 else None
        labels = {"tier": chance.choice(["gold", "Silver", "true"])} if number % 4 else {"o'x": '"1"'}
        one = rows.execution(
            namespace=chance.choice(SPACES),
            flow_id=chance.choice(["etl", "load"]),
            flow_revision=chance.randrange(1, 4),
            state=chance.choice(STATES),
            created_at=began,
            ended_at=ended,
            labels=labels,
            histories=((State.CREATED, began),),
        )
        put += [one, replace(one, id=f"t{number}", kind="TEST")]
        made.append(
            {
                "ID": one.id,
                "NAMESPACE": one.namespace,
                "FLOW_ID": one.flow_id,
                "FLOW_REVISION": one.flow_revision,
                "STATE": one.state.value,
                "DURATION": (ended - began).total_seconds() if ended else None,
                "LABELS": labels,
                "START_DATE": began,
                "END_DATE": ended,
                "TRIGGER_EXECUTION_ID": None,
            }
        )

    def write(db: Session) -> None:
        for each in put:
            db.executions.insert(each)

    store.write(write)
    return made


def logs(store: Store, rows: Any, chance: random.Random) -> list[Row]:
    made, put = [], []
    for number in range(60):
        at = NOW - timedelta(minutes=chance.randrange(0, 60 * 24 * 40))
        entry = LogEntry(
            f"e{number % 5}",
            chance.choice(SPACES),
            chance.choice(["etl", "load"]),
            at,
            chance.choice(["INFO", "ERROR"]),
            chance.choice(["100% done_", "Größe\nzwei", "done", "'; DROP TABLE logs; --"]),
            chance.choice(["say", None]),
            attempt=chance.choice([1, 2, None]),
        )
        put.append(entry)
        made.append(
            {
                "NAMESPACE": entry.namespace,
                "FLOW_ID": entry.flow_id,
                "EXECUTION_ID": entry.execution_id,
                "TASK_ID": entry.task_id,
                "TASK_RUN_ID": None,
                "TRIGGER_ID": None,
                "ATTEMPT_NUMBER": entry.attempt,
                "DATE": at,
                "LEVEL": entry.level,
                "MESSAGE": entry.message,
            }
        )
    store.logs.append(put)
    return made


def metrics(store: Store, rows: Any, chance: random.Random) -> list[Row]:
    made, put = [], []
    for number in range(60):
        at = NOW - timedelta(minutes=chance.randrange(0, 60 * 24 * 40))
        one = Metric(
            f"e{number % 5}",
            chance.choice(SPACES),
            "etl",
            "say",
            "r",
            chance.choice(["rows", "ms"]),
            "counter",
            float(chance.randrange(100)),
            at,
        )
        put.append(one)
        made.append(
            {
                "NAMESPACE": one.namespace,
                "FLOW_ID": one.flow_id,
                "EXECUTION_ID": one.execution_id,
                "TASK_ID": one.task_id,
                "TASK_RUN_ID": one.task_run_id,
                "TYPE": one.kind,
                "NAME": one.name,
                "VALUE": one.value,
                "DATE": at,
            }
        )
    store.write(lambda db: db.metrics.add(put))
    return made


def triggers(store: Store, rows: Any, chance: random.Random) -> list[Row]:
    made, put = [], []
    for number in range(20):
        at = NOW + timedelta(hours=number) if number % 3 else None
        one = TriggerState(chance.choice(SPACES), "etl", f"t{number}", next_at=at, execution_id=None)
        put.append(one)
        made.append(
            {
                "ID": one.trigger_id,
                "NAMESPACE": one.namespace,
                "FLOW_ID": one.flow_id,
                "TRIGGER_ID": one.trigger_id,
                "EXECUTION_ID": None,
                "NEXT_EXECUTION_DATE": at,
                "WORKER_ID": None,
            }
        )

    def write(db: Session) -> None:
        for each in put:
            db.triggers.put(each)

    store.write(write)
    return made


MAKERS: Mapping[str, Callable[..., list[Row]]] = {
    "Executions": executions,
    "Logs": logs,
    "Metrics": metrics,
    "Triggers": triggers,
}
DATES = {"Executions": "START_DATE", "Logs": "DATE", "Metrics": "DATE"}
Operator = Callable[[Any, Any], bool]
ONE: Mapping[str, Operator] = {
    "EQUAL_TO": lambda a, b: a == b,
    "NOT_EQUAL_TO": lambda a, b: a != b,
    "GREATER_THAN": lambda a, b: a > b,
    "GREATER_THAN_OR_EQUAL_TO": lambda a, b: a >= b,
    "LESS_THAN": lambda a, b: a < b,
    "LESS_THAN_OR_EQUAL_TO": lambda a, b: a <= b,
}
TEXTS: Mapping[str, Operator] = {
    "CONTAINS": lambda a, b: b in a,
    "NOT_CONTAINS": lambda a, b: b not in a,
    "STARTS_WITH": lambda a, b: a.startswith(b),
    "ENDS_WITH": lambda a, b: a.endswith(b),
    "PREFIX": lambda a, b: a == b or a.startswith(b + "."),
    "REGEX": lambda a, b: re.search(b, a) is not None,
}
MANY: Mapping[str, Operator] = {"IN": lambda a, b: a in b, "NOT_IN": lambda a, b: a not in b}


def holds(said: Filter, row: Row) -> bool:
    """Whether a row meets a filter, by Python alone."""
    if said.kind == "OR":
        return any(holds(each, row) for each in said.either)
    value = row[said.field or ""]
    if isinstance(value, dict):
        value = value.get(said.label)
    if said.kind in {"IS_NULL", "IS_NOT_NULL"}:
        return (value is None) == (said.kind == "IS_NULL")
    if value is None:
        return False
    if said.kind in MANY:
        return MANY[said.kind](value, said.values)
    if said.kind in {"IS_TRUE", "IS_FALSE"}:
        return bool(value.lower() == said.kind.removeprefix("IS_").lower())
    return {**ONE, **TEXTS}[said.kind](value, said.values[0])


def in_view(rows: Iterable[Row], source: str) -> list[Row]:
    date = DATES.get(source)
    return [row for row in rows if date is None or VIEW.since <= row[date] <= VIEW.until]


def asked(source: str, field: str, rows: list[Row]) -> list[Filter]:
    """Return a filter of every kind that fits a field, with values that some rows have and some have not."""
    kind = SOURCES[source][field]
    label = "tier" if kind is FieldKind.LABELS else None
    values = [row[field].get(label) if label else row[field] for row in rows]
    some = sorted({value for value in values if value is not None}, key=str)[:3] or ["none"]
    if kind is FieldKind.DATE and some == ["none"]:
        some = [NOW]
    filters = [Filter(each, field, (), label) for each in ("IS_NULL", "IS_NOT_NULL")]
    filters += [Filter(each, field, (value,), label) for each in ("EQUAL_TO", "NOT_EQUAL_TO") for value in some[:1]]
    filters += [Filter(each, field, tuple(some[:size]), label) for each in MANY for size in (0, 2)]
    if kind is not FieldKind.LABELS:
        filters += [Filter(each, field, (some[-1],), label) for each in ONE]
    if kind in {FieldKind.TEXT, FieldKind.LABELS}:
        parts: tuple[str, ...] = ("team", "T", "o", "%", "_", str(some[0]), str(some[0])[-2:])
        if some == ["none"]:  # a column without a value has one answer
            parts = parts[:1]
        plain = [each for each in TEXTS if each != "REGEX"]
        filters += [Filter(each, field, (part,), label) for each in plain for part in parts]
        patterns: tuple[str, ...] = ("^team", r"\bd\w+e\b", "(?i)TEAM$", "a.b", "e.zwei", "[A-Z]", r"^(?P<x>g)old")
        filters += [Filter("REGEX", field, (part,), label) for part in patterns[: len(parts)]]
        filters += [Filter(each, field, (), label) for each in ("IS_TRUE", "IS_FALSE")]
    filters.append(Filter("OR", either=(filters[0], filters[2])))
    return filters


@pytest.mark.parametrize("source", MAKERS)
def test_each_filter_finds_the_rows_that_python_finds(store: Store, rows: Any, source: str) -> None:
    made = MAKERS[source](store, rows, random.Random(7))
    seen = in_view(made, source)
    filters = [each for field in SOURCES[source] for each in asked(source, field, made)]

    found = [store.chart(ChartRows(Query(source, (COUNT,), (each,)), VIEW)).items[0]["n"] for each in filters]

    wanted = [sum(holds(each, row) for row in seen) for each in filters]
    assert len(filters) > 100
    assert [pair for pair in zip(filters, found, wanted, strict=True) if pair[1] != pair[2]] == []


AGGREGATES: Mapping[Aggregation, Callable[[list[Any]], Any]] = {
    Aggregation.SUM: sum,
    Aggregation.AVG: lambda values: sum(values) / len(values),
    Aggregation.MIN: min,
    Aggregation.MAX: max,
}


def shown(value: Any) -> Any:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value


@pytest.mark.parametrize("source", MAKERS)
def test_each_aggregation_of_each_group_is_what_python_makes_of_it(store: Store, rows: Any, source: str) -> None:
    made = in_view(MAKERS[source](store, rows, random.Random(8)), source)
    cases = [(agg, field) for field, kind in SOURCES[source].items() for agg in Aggregation if agg.fits(kind)]
    for agg, field in cases:
        query = Query(source, (Column("by", "NAMESPACE"), Column("n", field, agg)))
        groups: dict[str, list[Any]] = {}
        for row in made:
            groups.setdefault(row["NAMESPACE"], []).append(row[field])

        found = {row["by"]: row["n"] for row in store.chart(ChartRows(query, VIEW)).items}

        values = {key: [value for value in group if value is not None] for key, group in groups.items()}
        if agg is Aggregation.COUNT:
            assert found == {key: len(group) for key, group in values.items()}, field
        else:
            wanted = {key: shown(AGGREGATES[agg](group)) if group else None for key, group in values.items()}
            assert found == {
                key: value if isinstance(value, str) or value is None else pytest.approx(value)
                for key, value in wanted.items()
            }, (agg, field)


@pytest.mark.parametrize(
    ("span", "begin"),
    [
        (timedelta(hours=6, minutes=30), lambda at: at.replace(second=0, microsecond=0)),
        (timedelta(hours=30), lambda at: at.replace(minute=0, second=0, microsecond=0)),
        (timedelta(days=40), lambda at: at.replace(hour=0, minute=0, second=0, microsecond=0)),
        (timedelta(days=200), lambda at: (at - timedelta(days=at.weekday())).replace(hour=0, minute=0)),
    ],
)
def test_the_window_says_how_long_a_stretch_of_time_is(
    store: Store, rows: Any, span: timedelta, begin: Callable[[datetime], datetime]
) -> None:
    made = executions(store, rows, random.Random(9))
    view = View(NOW - span, NOW)
    query = Query("Executions", (Column("day", "START_DATE"), COUNT), order=(Order("day", True),))

    found = store.chart(ChartRows(query, view)).items

    wanted: dict[str, int] = {}
    for row in made:
        if view.since <= row["START_DATE"] <= view.until:
            key = shown(begin(row["START_DATE"]))
            wanted[key] = wanted.get(key, 0) + 1
    assert [(row["day"], row["n"]) for row in found] == sorted(wanted.items(), reverse=True)


def test_rows_are_sorted_and_paged_without_gap_or_overlap(store: Store, rows: Any) -> None:
    made = in_view(executions(store, rows, random.Random(10)), "Executions")
    columns = (Column("space", "NAMESPACE"), Column("id", "ID"), Column("end", "END_DATE"), Column("l", "LABELS"))
    query = Query("Executions", columns, order=(Order("space", True),))

    pages = [store.chart(ChartRows(query, replace(VIEW, page=number, size=7))) for number in range(1, 12)]

    wanted = sorted(sorted(made, key=lambda row: row["ID"]), key=lambda row: row["NAMESPACE"], reverse=True)
    assert [row["id"] for page in pages for row in page.items] == [row["ID"] for row in wanted]
    assert [row["l"] for page in pages for row in page.items] == [row["LABELS"] for row in wanted]
    assert {page.total for page in pages} == {len(made)}


def test_a_label_is_a_group_and_its_key_is_never_read_as_sql(store: Store, rows: Any) -> None:
    made = in_view(executions(store, rows, random.Random(11)), "Executions")
    for key in ("tier", "o'x", "'); DROP TABLE executions; --", "\x00", "$.tier", "%s"):
        query = Query("Executions", (Column("by", "LABELS", None, key), COUNT))

        found = {row["by"]: row["n"] for row in store.chart(ChartRows(query, VIEW)).items}

        values = [row["LABELS"].get(key) for row in made]
        assert found == {value: values.count(value) for value in set(values)}


def test_a_figure_is_of_the_numerator_and_its_share_of_all(store: Store, rows: Any) -> None:
    made = in_view(executions(store, rows, random.Random(12)), "Executions")
    part = Filter("IN", "STATE", ("FAILED", "RUNNING"))
    query = Query("Executions", (replace(COUNT, key="value"),), numerator=(part,))
    hits = sum(row["STATE"] in part.values for row in made)

    count, share = store.figure(ChartFigure(query, VIEW)), store.figure(ChartFigure(query, VIEW, is_share=True))
    none = store.figure(ChartFigure(query, View(NOW, NOW), is_share=True))

    assert count == hits
    assert share == pytest.approx(100 * hits / len(made))
    assert none is None


def test_a_token_counts_only_what_its_namespaces_hold(store: Store, rows: Any) -> None:
    made = in_view(executions(store, rows, random.Random(13)), "Executions")
    query = Query("Executions", (Column("by", "NAMESPACE"), COUNT))

    found = store.chart(ChartRows(query, replace(VIEW, namespaces=("team",))))
    nothing = store.chart(ChartRows(query, replace(VIEW, namespaces=())))

    spaces = [row["NAMESPACE"] for row in made if row["NAMESPACE"] in {"team", "team.data"}]
    assert {row["by"]: row["n"] for row in found.items} == {each: spaces.count(each) for each in set(spaces)}
    assert nothing.items == []


def test_active_flows_are_counted_once_whatever_their_revisions(store: Store) -> None:
    def put(db: Any) -> None:
        for revision in (1, 2):
            for name in ("a", "b"):
                db.flows.put(FlowDraft("team", name, f"blob{revision}", f"id: {name}", at=NOW))

    store.write(put)
    query = Query("Flows", (Column("id", "ID"), Column("r", "REVISION"), Column("space", "NAMESPACE")))

    found = store.chart(ChartRows(query, VIEW)).items

    assert found == [{"id": "a", "r": 2, "space": "team"}, {"id": "b", "r": 2, "space": "team"}]


ESCAPES = {
    r"^\x41b$": ["Ab"],
    r"^\x{41}b$": ["Ab"],
    r"^\101b$": ["Ab"],
    r"^[\x40-\x{41}]b$": ["Ab"],
    "()" * 9 + r"^(A)\10$": ["A\b"],
    r"^\\x41$": [r"\x41"],
}


def test_an_escape_is_the_same_character_on_both_and_never_a_group(store: Store, rows: Any) -> None:
    for label in ("Ab", "A\b", "AA", r"\x41", "\u041b"):
        rows.insert(store, rows.execution(labels={"l": label}, created_at=NOW - timedelta(days=1)))
    column = Column("l", "LABELS", None, "l")
    queries = [Query("Executions", (column,), (Filter("REGEX", "LABELS", (each,), "l"),)) for each in ESCAPES]

    found = [[row["l"] for row in store.chart(ChartRows(query, VIEW)).items] for query in queries]

    assert found == list(ESCAPES.values())


def test_what_takes_too_long_is_given_up_and_the_connection_serves_on(
    store: Store, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    executions(store, rows, random.Random(14))
    monkeypatch.setattr("runner.store.charts.LONGEST_S", 0.001)
    pattern = comparable("REGEX", FieldKind.TEXT, "(a*)*" * 50 + "$")
    query = Query("Executions", (COUNT,), tuple(Filter("REGEX", "LABELS", (pattern,), str(n)) for n in range(100)))

    def ask() -> str:
        for _ in range(200):
            try:
                store.chart(ChartRows(query, VIEW))
            except InvalidError as error:
                return error.code
        return "answered"

    slow = ask()
    monkeypatch.undo()

    assert slow == "store.query.slow"
    assert store.chart(ChartRows(Query("Executions", (COUNT,)), VIEW)).total == 1
