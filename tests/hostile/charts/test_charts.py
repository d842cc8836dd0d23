"""Charts of somebody who wants to see what is not theirs, to stop the server, or to run a formula elsewhere."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runner.executions.models import Execution
from runner.states import State
from runner.store.records import FlowDraft, TriggerState
from webhooks.tables import as_csv

BASE = "/api/v1/main/dashboards/charts"
NOW = datetime.now(UTC)
COUNT = {"agg": "COUNT"}
WORDS = ["'; DROP TABLE executions; --", '"', "c0", "%s", "%(a)s", ":x", "?", "{0}", "\\", "$.a"]


def chart(source: str = "Executions", kind: str = "Table", **data: Any) -> str:
    told = {"type": f"core.dashboard.data.{source}", "columns": {"n": COUNT}, **data}
    return json.dumps({"id": "c", "type": f"core.dashboard.chart.{kind}", "data": told})


@pytest.fixture
def filled(api: Any) -> Any:
    """The API over two namespaces, of which the token `other` reaches one, each with a flow, a trigger and a run."""

    def put(db: Any) -> None:
        for space in ("company", "other"):
            db.flows.put(FlowDraft(space, "f", "blob", "id: f\nnamespace: x\ntasks: []", at=NOW))
            db.triggers.put(TriggerState(space, "f", "t", next_at=NOW, execution_id=None))
            db.executions.insert(
                Execution(
                    id=f"e-{space}",
                    namespace=space,
                    flow_id="f",
                    flow_revision=1,
                    state=State.SUCCESS,
                    created_at=NOW - timedelta(minutes=1),
                    labels={"word": "=cmd()|' /C calc'!A0", "of": space},
                    histories=((State.CREATED, NOW),),
                )
            )

    api.services.store.write(put)
    return api


def asked(api: Any, source: str, view: Any = None, **more: Any) -> Any:
    return api.post(f"{BASE}/preview", json={"chart": source, "globalFilter": view}, **more)


def rows(api: Any, source: str, view: Any = None, **more: Any) -> Any:
    answer = asked(api, source, view, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


def test_no_word_of_a_chart_is_read_as_sql(filled: Any) -> None:
    columns = {word: {"field": "LABELS", "labelKey": word} for word in WORDS}
    order = [{"column": word, "order": "DESC"} for word in WORDS]
    where = [
        {"field": "NAMESPACE", "type": kind, "value": word}
        for word in WORDS
        for kind in ("NOT_EQUAL_TO", "NOT_CONTAINS", "GREATER_THAN")
        if kind != "GREATER_THAN" or word < "a"
    ]

    found = rows(filled, chart(columns=columns, orderBy=order, where=where))
    wrong: list[str] = []
    for word in WORDS:
        wrong += [chart(columns={"n": {"field": word}}), chart(columns={"n": {"agg": word}}), chart(word)]
        wrong += [chart(where=[{"field": word, "type": "IS_NULL"}])]
        wrong += [chart(where=[{"field": "ID", "type": word, "value": "x"}])]
        wrong += [chart(orderBy=[{"column": word}]), chart(orderBy=[{"column": "n", "order": word}])]
    refused = [asked(filled, each).status_code for each in wrong]

    assert found == [dict.fromkeys(WORDS)]
    assert set(refused) == {422}
    assert rows(filled, chart()) == [{"n": 2}]


def nested(depth: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"field": "ID", "type": "IS_NOT_NULL"}
    for _ in range(depth):
        inner = {"type": "OR", "values": [inner]}
    return inner


def test_filters_are_counted_before_they_are_asked(filled: Any) -> None:
    fifty = {"type": "OR", "values": [{"field": "ID", "type": "EQUAL_TO", "value": "x"}] * 50}
    listed = {"field": "ID", "type": "NOT_IN", "values": ["x"] * 500}
    good = [[nested(20)], [nested(2), *[fifty] * 9], [listed] * 10]
    bad = [[nested(21)], [nested(30)], [fifty] * 10, [listed] * 11]

    answers = [asked(filled, chart(where=where)) for where in good]
    refused = [asked(filled, chart(where=where)).json()["code"] for where in bad]
    wide = asked(filled, chart(columns={str(number): {"field": "LABELS"} for number in range(4)}))

    assert [answer.status_code for answer in answers] == [200] * 3, answers[0].text
    assert refused == ["dashboard.query.large"] * 4
    assert wide.json()["code"] == "dashboard.query.large"


def test_no_moment_and_no_number_stops_the_server(filled: Any) -> None:
    moments: list[Any] = [
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:59.999999-23:59",
        "99999-01-01",
        "-1",
        "2026-02-30",
        "P1D",
        "1e400",
        "\x00",
        10**18,
        -(2**63),
        1e308,
        True,
        [],
        {"a": 1},
    ]
    views = [{key: moment} for moment in moments for key in ("startDate", "endDate", "pageNumber", "pageSize")]
    views += [
        {"filters": [{"field": field, "value": moment}]}
        for moment in moments
        for field in ("startDate", "endDate", "timeRange", "labels", "state")
    ]
    compared = [
        {"field": field, "type": "LESS_THAN", "value": moment}
        for moment in moments
        for field in ("START_DATE", "END_DATE", "DURATION", "FLOW_REVISION")
    ]

    answers = [asked(filled, chart(), view) for view in views]
    answers += [asked(filled, chart(where=[each])) for each in compared]

    assert {answer.status_code for answer in answers} <= {200, 400, 422}, [
        answer.text for answer in answers if answer.status_code >= 500
    ]


@pytest.mark.parametrize(
    "pattern", ["(", r"(a)\1", "(?=a)", r"\pL{1000}", "[^a]{1000}" * 50, "a" * 1001, "(a{100}){100}"]
)
def test_a_pattern_that_re2_refuses_or_finds_too_large_reaches_no_database(filled: Any, pattern: str) -> None:
    views = [
        {"filters": [{"field": "labels", "operation": "REGEX", "value": f"word:{pattern}"}]},
        {"filters": [{"field": "labels", "operation": "REGEX", "value": {"word": pattern}}]},
        {"filters": [{"field": "flowId", "operation": "REGEX", "value": pattern}]},
    ]
    where = [{"field": "LABELS", "labelKey": "word", "type": "REGEX", "value": pattern}]

    answers = [asked(filled, chart(), view) for view in views] + [asked(filled, chart(where=where))]

    assert [answer.json()["code"] for answer in answers] == ["dashboard.filter.invalid"] * 4


def test_hard_patterns_are_given_up_in_time(filled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.store.charts.LONGEST_S", 0.05)
    filled.services.store.write(
        lambda db: db.executions.insert(
            Execution(
                id="long",
                namespace="other",
                flow_id="f",
                flow_revision=1,
                state=State.SUCCESS,
                created_at=NOW - timedelta(minutes=1),
                labels={"word": "é" * 4000},
                histories=((State.CREATED, NOW),),
            )
        )
    )
    each = {"field": "LABELS", "labelKey": "word", "type": "REGEX"}
    hard = [{**each, "value": f"(.{{1,20}}){{1,20}}x{number}"} for number in range(50)]
    where = [{"type": "OR", "values": hard} for _ in range(8)]

    began = time.monotonic()
    answer = asked(filled, chart(where=where))
    took_s = time.monotonic() - began

    assert answer.json()["code"] == "store.query.slow"
    assert took_s < 20  # all of them take more than a minute


def test_more_groups_than_anybody_reads_are_cut(filled: Any) -> None:
    file = filled.services.settings.database_url.removeprefix("sqlite:///")
    micros = int((NOW - timedelta(minutes=1)).timestamp() * 1_000_000)
    with sqlite3.connect(file) as connection:
        connection.execute(
            "INSERT INTO metrics "
            "(execution_id, namespace, flow_id, task_id, task_run_id, tags, name, kind, value, timestamp) "
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 100100) "
            "SELECT 'e', 'other', 'f', 't', 'r', '{}', 'm' || x, 'counter', x, ? FROM n",
            (micros,),
        )
    connection.close()
    groups = chart("Metrics", columns={"name": {"field": "NAME"}, "n": COUNT})

    found = asked(filled, groups).json()
    last = asked(filled, chart(columns={"id": {"field": "ID"}}), {"pageNumber": 1_000_000}).json()

    assert (len(found["results"]), found["total"]) == (10_000, 100_000)
    assert (last["results"], last["total"]) == ([], 2)


def test_no_cell_of_a_table_is_a_formula(filled: Any) -> None:
    names = ["=1+1", "+1", "-1", "@SUM(A1)", "＝1"]  # noqa: RUF001 - programs take it for =
    columns = {name: {"field": "LABELS", "labelKey": "word"} for name in names} | {"all": {"field": "LABELS"}}

    table = filled.post(f"{BASE}/export", json={"chart": chart(columns=columns)}).text

    cells = [cell for row in csv.reader(io.StringIO(table, newline="")) for cell in row]
    assert len(cells) == 18
    assert [cell for cell in cells if not cell.startswith(("'", "{", "all"))] == []
    assert json.loads(cells[-1])["word"].startswith("=cmd")


@pytest.mark.parametrize("cell", ["\t=1", "\r=1", "\n=1", "＠1"])  # noqa: RUF001 - programs take both widths
def test_no_white_space_hides_a_formula(cell: str) -> None:
    table = as_csv("a.csv", [cell], [[cell]]).body

    written = list(csv.reader(io.StringIO(bytes(table).decode(), newline="")))
    assert written == [[f"'{cell}"]] * 2


def test_a_token_counts_nothing_of_other_namespaces_however_it_asks(filled: Any) -> None:
    open_doors = [
        {"type": "OR", "values": [{"field": "NAMESPACE", "type": kind} for kind in ("IS_NULL", "IS_NOT_NULL")]},
        {"field": "NAMESPACE", "type": "NOT_EQUAL_TO", "value": "other"},
        {"field": "NAMESPACE", "type": "NOT_IN", "values": []},
        {"field": "NAMESPACE", "type": "REGEX", "value": ".*"},
    ]
    grouped = {"space": {"field": "NAMESPACE"}, "n": COUNT}
    views = [None, {"namespace": "company"}, {"filters": [{"field": "namespace", "operation": "IS_NOT_NULL"}]}]

    found = [
        row
        for source in ("Executions", "Flows", "Triggers")
        for where in ([], *([door] for door in open_doors))
        for view in views
        for row in rows(filled, chart(source, columns=grouped, where=where), view, token="other")
    ]
    every = rows(filled, chart("Triggers", columns=grouped))
    share = rows(filled, chart("ExecutionsKPI", "KPI", columns=COUNT, numerator=open_doors[:1]), token="other")
    labels = rows(filled, chart(columns={"of": {"field": "LABELS", "labelKey": "of"}, "n": COUNT}), token="other")

    assert {row["space"] for row in found} == {"other"}
    assert {row["n"] for row in found} == {1}
    assert [row["space"] for row in every] == ["company", "other"]
    assert share == [{"value": 1}]
    assert labels == [{"of": "other", "n": 1}]


def test_a_preview_shows_no_description_of_a_hidden_flow_and_nothing_to_nobody(filled: Any) -> None:
    told = {"type": "FlowDescription", "namespace": "company", "flowId": "f"}
    text = json.dumps({"id": "c", "type": "core.dashboard.chart.Markdown", "source": told})

    hidden = asked(filled, text, token="other")
    nobody = [
        filled.post(f"{BASE}/{end}", json={"chart": chart()}, token=None).status_code
        for end in ("preview", "export", "export/to-csv")
    ]

    assert (hidden.status_code, hidden.json()["code"]) == (404, "flow.missing")
    assert nobody == [401] * 3
