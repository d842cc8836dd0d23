"""The routes that give the data of charts: who asks for what, in which form, and what is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runner.executions.models import Execution, LogEntry
from runner.states import State
from runner.store.records import StoredDashboard

BASE = "/api/v1/main/dashboards"
NOW = datetime.now(UTC)
SOURCE = """\
id: night
title: Night
timeWindow: {default: P7D, max: P30D}
charts:
  - id: states
    type: core.dashboard.chart.Pie
    data:
      type: core.dashboard.data.Executions
      columns: {state: {field: STATE}, total: {agg: COUNT}}
      orderBy: [{column: total, order: DESC}]
  - id: failed
    type: core.dashboard.chart.KPI
    chartOptions: {numberType: PERCENTAGE}
    data:
      type: core.dashboard.data.ExecutionsKPI
      columns: {agg: COUNT}
      numerator: [{field: STATE, type: EQUAL_TO, value: FAILED}]
  - id: words
    type: core.dashboard.chart.Table
    data: {type: core.dashboard.data.Logs, columns: {message: {field: MESSAGE}, level: {field: LEVEL}}}
  - {id: text, type: core.dashboard.chart.Markdown, content: hi}
"""
CHART = json.dumps(
    {
        "id": "c",
        "type": "core.dashboard.chart.Bar",
        "data": {
            "type": "core.dashboard.data.Executions",
            "columns": {"space": {"field": "NAMESPACE"}, "n": {"agg": "COUNT"}},
        },
    }
)


@pytest.fixture
def filled(api: Any) -> Any:
    """The API with a dashboard over four executions of two namespaces, and three lines of log."""
    store = api.services.store
    row = StoredDashboard("night", "Night", SOURCE, "default", "_dashboards/night.yaml", NOW, NOW)
    store.write(lambda db: db.dashboards.put(row))
    made = [
        ("company.a", State.SUCCESS),
        ("company.a", State.FAILED),
        ("company.b", State.SUCCESS),
        ("other", State.SUCCESS),
    ]
    for number, (namespace, state) in enumerate(made):
        at = NOW - timedelta(days=number)
        one = Execution(
            id=f"e{number}",
            namespace=namespace,
            flow_id="f",
            flow_revision=1,
            state=state,
            created_at=at,
            ended_at=at,
            labels={"tier": str(number % 2)},
            histories=((State.CREATED, at),),
        )
        store.write(lambda db, one=one: db.executions.insert(one))
    levels = (("INFO", "=cmd()"), ("WARN", "look"), ("ERROR", "oh"))
    store.logs.append([LogEntry("e0", "company.a", "f", NOW - timedelta(minutes=1), *pair) for pair in levels])
    return api


def asked(api: Any, chart: str, body: Any = None, **more: Any) -> Any:
    return api.post(f"{BASE}/night/charts/{chart}", json=body or {}, **more)


def test_a_chart_counts_what_is_in_its_window(filled: Any) -> None:
    states, share = asked(filled, "states").json(), asked(filled, "failed").json()

    assert states == {"results": [{"state": "SUCCESS", "total": 3}, {"state": "FAILED", "total": 1}], "total": 2}
    assert share == {"results": [{"value": 25.0}], "total": 1}


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ({"namespace": "company"}, 3),
        ({"labels": {"tier": "0"}}, 2),
        ({"startDate": (NOW - timedelta(days=1, hours=1)).isoformat()}, 2),
        ({"endDate": (NOW - timedelta(days=1, hours=1)).isoformat()}, 2),
        ({"filters": [{"field": "NAMESPACE", "operation": "EQUALS", "value": "company.a"}]}, 2),
        ({"filters": [{"field": "namespace", "operation": "REGEX", "value": "^comp.*b$"}]}, 1),
        ({"filters": [{"field": "STATE", "operation": "IN", "value": ["FAILED", "KILLED"]}]}, 1),
        ({"filters": [{"field": "labels", "operation": "EQUALS", "value": {"tier": "1"}}]}, 2),
        ({"filters": [{"field": "labels", "operation": "NOT_EQUALS", "value": "tier:1"}]}, 2),
        ({"filters": [{"field": "timeRange", "operation": "EQUALS", "value": "PT36H"}]}, 2),
        ({"filters": [{"field": "MIN_LEVEL", "operation": "EQUALS", "value": "WARN"}]}, 4),
    ],
)
def test_who_looks_narrows_what_is_counted(filled: Any, body: Any, count: int) -> None:
    answer = asked(filled, "states", body)

    assert sum(row["total"] for row in answer.json()["results"]) == count, answer.text


def test_the_least_level_and_pages_are_of_logs(filled: Any) -> None:
    level = {"filters": [{"field": "minLevel", "value": "WARN"}]}

    warned = asked(filled, "words", level).json()
    second = asked(filled, "words", {"pageNumber": 2, "pageSize": 2}).json()

    assert {row["level"] for row in warned["results"]} == {"WARN", "ERROR"}
    assert (len(second["results"]), second["total"]) == (1, 3)


def test_a_token_counts_what_its_namespaces_hold_alone(filled: Any) -> None:
    found = asked(filled, "states", token="other").json()
    logs = asked(filled, "words", token="other").json()
    without = asked(filled, "states", token=None)

    assert found["results"] == [{"state": "SUCCESS", "total": 1}]
    assert logs == {"results": [], "total": 0}
    assert without.status_code == 401


def test_a_chart_that_is_being_written_is_previewed_and_exported(filled: Any) -> None:
    body = {"chart": CHART, "globalFilter": {"namespace": "company"}}

    preview = filled.post(f"{BASE}/charts/preview", json=body).json()
    tables = [filled.post(f"{BASE}/charts/export{end}", json=body) for end in ("", "/to-csv", "?format=csv")]

    assert preview == {"results": [{"space": "company.a", "n": 2}, {"space": "company.b", "n": 1}], "total": 2}
    assert {table.text for table in tables} == {"space,n\r\ncompany.a,2\r\ncompany.b,1\r\n"}
    assert tables[0].headers["content-type"].startswith("text/csv")


def test_a_table_of_a_dashboard_runs_no_formula(filled: Any) -> None:
    tables = [filled.post(f"{BASE}/night/charts/words/export{end}", json={}) for end in ("", "/to-csv")]

    assert "'=cmd(),INFO" in tables[0].text
    assert tables[0].text == tables[1].text


@pytest.mark.parametrize(
    ("chart", "body", "code"),
    [
        ("nothing", {}, "dashboard.chart.missing"),
        ("text", {}, "dashboard.chart.dataless"),
        ("states", [1], "request.json.invalid"),
        ("states", {"startDate": "soon"}, "request.filter.invalid"),
        ("states", {"startDate": "2020-01-01T00:00:00Z"}, "dashboard.period.invalid"),
        (
            "states",
            {"startDate": "2026-02-01T00:00:00Z", "endDate": "2026-01-01T00:00:00Z"},
            "dashboard.period.invalid",
        ),
        ("states", {"endDate": "0001-01-01T00:00:00Z"}, "dashboard.period.invalid"),
        ("states", {"filters": [{"field": "timeRange", "value": "P9999999D"}]}, "dashboard.period.invalid"),
        ("states", {"pageSize": 10_001}, "request.page.invalid"),
        ("states", {"pageNumber": "2"}, "request.page.invalid"),
        ("states", {"filters": {"field": "state"}}, "dashboard.filter.invalid"),
        ("states", {"filters": [{"field": "x'; --", "value": "1"}]}, "dashboard.filter.invalid"),
        ("states", {"filters": [{"field": "state", "operation": "LIKE", "value": "1"}]}, "dashboard.filter.invalid"),
        ("states", {"filters": [{"field": "state", "operation": "REGEX", "value": "("}]}, "dashboard.filter.invalid"),
        (
            "states",
            {"filters": [{"field": "state", "operation": "REGEX", "value": r"(a)\1"}]},
            "dashboard.filter.invalid",
        ),
        ("states", {"filters": [{"field": "state", "value": {"a": 1}}]}, "dashboard.filter.invalid"),
        ("words", {"filters": [{"field": "minLevel", "value": "LOUD"}]}, "dashboard.filter.invalid"),
    ],
)
def test_what_cannot_be_asked_is_told(filled: Any, chart: str, body: Any, code: str) -> None:
    answer = asked(filled, chart, body) if body else asked(filled, chart)

    assert answer.status_code in {400, 404, 422}
    assert answer.json()["code"] == code, answer.text


@pytest.mark.parametrize("body", [{}, {"chart": 7}, {"chart": "id: ["}, {"chart": CHART.replace("COUNT", "COUNTS")}])
def test_a_chart_with_mistakes_is_422(api: Any, body: Any) -> None:
    assert api.post(f"{BASE}/charts/preview", json=body).status_code == 422
