"""Dashboards as they are written: what is read of them, and where each mistake stands."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from runner.dashboards.models import Column, Dashboard, Filter, Order, Query
from runner.dashboards.parse import parse_chart, parse_dashboard
from runner.dashboards.vocabulary import CHARTS, SOURCES, Aggregation
from runner.errors import FlowError

KESTRA = "io.kestra.plugin.core.dashboard"
GOOD = f"""\
id: night
title: What happens at night
description: for those on call
timeWindow: {{default: P7D, max: P90D}}
charts:
  - id: runs
    type: {KESTRA}.chart.TimeSeries
    chartOptions: {{displayName: Runs, column: day, colorByColumn: state, legend: {{enabled: true}}, width: 12}}
    data:
      type: {KESTRA}.data.Executions
      columns:
        day: {{field: START_DATE, displayName: Day}}
        state: {{field: STATE}}
        total: {{agg: COUNT, graphStyle: BARS}}
        took: {{field: DURATION, agg: AVG, graphStyle: LINES}}
      where:
        - {{field: NAMESPACE, type: STARTS_WITH, value: team}}
        - type: OR
          values:
            - {{field: STATE, type: IN, values: [FAILED, WARNING]}}
            - {{field: DURATION, type: GREATER_THAN, value: PT1M}}
        - {{field: START_DATE, type: LESS_THAN, value: 2026-01-31T08:00:00Z}}
        - {{field: LABELS, type: EQUAL_TO, labelKey: shift, value: late}}
      orderBy: [{{column: total, order: DESC}}, {{column: day}}]
  - id: share
    type: core.dashboard.chart.KPI
    chartOptions: {{displayName: Good runs, numberType: PERCENTAGE}}
    data:
      type: core.dashboard.data.ExecutionsKPI
      columns: {{field: ID, agg: COUNT}}
      numerator: [{{field: STATE, type: EQUAL_TO, value: SUCCESS}}]
  - id: words
    type: {KESTRA}.chart.Markdown
    source: {{type: FlowDescription, namespace: team, flowId: load}}
  - {{id: more, type: {KESTRA}.chart.Markdown, content: "**Call** the desk"}}
"""


def chart(text: str) -> str:
    return f"id: a\ntitle: A\ncharts:\n{text}"


def table(data: str, *, kind: str = "Table") -> str:
    return chart(f"  - id: t\n    type: {KESTRA}.chart.{kind}\n    data:\n{data}")


def found(text: str) -> list[tuple[str, int | None, int | None]]:
    return [(each.code, each.line, each.column) for each in parse_dashboard(text, file="d.yaml").problems]


def test_a_dashboard_is_read_with_its_charts_columns_filters_and_order() -> None:
    parsed = parse_dashboard(GOOD)

    dashboard = parsed.require()
    assert parsed.problems == ()
    assert (dashboard.id, dashboard.title, dashboard.window.default) == (
        "night",
        "What happens at night",
        timedelta(days=7),
    )
    assert [(each.id, each.kind) for each in dashboard.charts] == [
        ("runs", "TimeSeries"),
        ("share", "KPI"),
        ("words", "Markdown"),
        ("more", "Markdown"),
    ]
    assert _query(dashboard, "runs") == Query(
        source="Executions",
        columns=(
            Column("day", "START_DATE"),
            Column("state", "STATE"),
            Column("total", None, Aggregation.COUNT),
            Column("took", "DURATION", Aggregation.AVG),
        ),
        where=(
            Filter("STARTS_WITH", "NAMESPACE", ("team",)),
            Filter(
                "OR",
                either=(Filter("IN", "STATE", ("FAILED", "WARNING")), Filter("GREATER_THAN", "DURATION", (60.0,))),
            ),
            Filter("LESS_THAN", "START_DATE", (datetime(2026, 1, 31, 8, tzinfo=UTC),)),
            Filter("EQUAL_TO", "LABELS", ("late",), "shift"),
        ),
        order=(Order("total", is_descending=True), Order("day")),
    )
    assert _query(dashboard, "share").numerator == (Filter("EQUAL_TO", "STATE", ("SUCCESS",)),)


def _query(dashboard: Dashboard, chart_id: str) -> Query:
    chart = dashboard.chart(chart_id)
    assert chart is not None
    assert chart.query is not None
    return chart.query


@pytest.mark.parametrize("source", SOURCES)
def test_every_field_can_be_a_column_and_a_kpi_counts_it(source: str) -> None:
    columns = "".join(f"        c{index}: {{field: {name}}}\n" for index, name in enumerate(SOURCES[source]))
    name = next(iter(SOURCES[source]))

    assert found(table(f"      type: {KESTRA}.data.{source}\n      columns:\n{columns}")) == []
    kpi = f"      type: {KESTRA}.data.{source}KPI\n      columns: {{field: {name}, agg: COUNT}}\n"
    assert found(table(kpi, kind="KPI")) == []


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("[1]", [("dashboard.file.invalid", 1, 1)]),
        ("charts: []", [("dashboard.property.missing", 1, 1), ("dashboard.property.missing", 1, 1)]),
        ("id: a b\ntitle: ''", [("dashboard.property.invalid", 1, 5), ("dashboard.property.invalid", 2, 8)]),
        (f"id: a\ntitle: {'x' * 251}", [("dashboard.property.invalid", 2, 8)]),
        ("id: a\ntitle: A\nchart: []", [("dashboard.property.unknown", 3, 1)]),
        ("id: a\ntitle: A\ncharts: {}", [("dashboard.property.invalid", 3, 9)]),
        ("id: a\ntitle: A\ntimeWindow: P3D", [("dashboard.property.invalid", 3, 13)]),
        ("id: a\ntitle: A\ntimeWindow: {default: P9D, max: P3D}", [("dashboard.property.invalid", 3, 23)]),
        (
            "id: a\ntitle: A\ntimeWindow: {default: soon, max: P900D}",
            [("dashboard.property.invalid", 3, 34), ("dashboard.property.invalid", 3, 23)],
        ),
        (chart("  - 7"), [("dashboard.property.invalid", 4, 5)]),
        (chart("  - id: t"), [("dashboard.property.missing", 4, 5)]),
        (chart(f"  - {{id: t, type: {KESTRA}.chart.Donut}}"), [("dashboard.chart.unknown", 4, 19)]),
        (chart("  - {id: t, type: Table}"), [("dashboard.chart.unknown", 4, 19)]),
        (chart(f"  - {{id: t, type: {KESTRA}.chart.Table}}"), [("dashboard.property.missing", 4, 5)]),
        (chart(f"  - {{id: t, type: {KESTRA}.chart.Markdown}}"), [("dashboard.property.missing", 4, 5)]),
        (
            chart(f"  - {{id: t, type: {KESTRA}.chart.Markdown, content: a}}\n" * 2),
            [("dashboard.chart.duplicate", 5, 10)],
        ),
        (
            chart(f"  - {{id: t, type: {KESTRA}.chart.Markdown, content: a, chartOptions: {{width: 13}}}}"),
            [("dashboard.property.invalid", 4, 101)],
        ),
    ],
)
def test_each_mistake_around_a_chart_has_its_place(text: str, problems: list[tuple[str, int, int]]) -> None:
    assert found(text) == problems


@pytest.mark.parametrize(
    ("data", "problems"),
    [
        (f"      type: {KESTRA}.data.Runs", [("dashboard.data.unknown", 7, 13)]),
        (
            f"      type: {KESTRA}.data.LogsKPI\n      columns: {{a: {{agg: COUNT}}}}",
            [("dashboard.data.mismatch", 7, 13)],
        ),
        (f"      type: {KESTRA}.data.Logs\n      columns: {{a: {{}}}}", [("dashboard.property.missing", 8, 20)]),
        (
            f"      type: {KESTRA}.data.Logs\n      columns: {{a: {{field: STATE}}}}",
            [("dashboard.field.unknown", 8, 28)],
        ),
        (
            f"      type: {KESTRA}.data.Logs\n      columns: {{a: {{field: LEVEL, agg: SUM}}}}",
            [("dashboard.agg.invalid", 8, 40)],
        ),
        (f"      type: {KESTRA}.data.Logs\n      columns: {{a: {{agg: MEAN}}}}", [("dashboard.agg.invalid", 8, 26)]),
        (
            f"      type: {KESTRA}.data.Logs\n      columns: {{a: {{agg: MAX}}}}",
            [("dashboard.property.missing", 8, 20)],
        ),
        (
            f"      type: {KESTRA}.data.Logs\n      columns: {{a: {{agg: COUNT}}}}\n      orderBy: [{{column: b}}]",
            [("dashboard.column.unknown", 9, 26)],
        ),
        (f"      type: {KESTRA}.data.Logs\n      wher: []\n", [("dashboard.property.unknown", 8, 7)]),
    ],
)
def test_each_mistake_in_data_has_its_place(data: str, problems: list[tuple[str, int, int]]) -> None:
    assert [each for each in found(table(data)) if each != ("dashboard.property.missing", 7, 7)] == problems


@pytest.mark.parametrize(
    ("said", "code", "column"),
    [
        ("{type: EQUAL_TO, value: x}", "dashboard.property.missing", 11),
        ("{field: STATE, value: x}", "dashboard.property.missing", 11),
        ("{field: STATE, type: EQUALS, value: x}", "dashboard.filter.invalid", 32),
        ("{field: STATE, type: EQUAL_TO}", "dashboard.property.missing", 11),
        ("{field: STATE, type: IN, value: x}", "dashboard.property.missing", 11),
        ("{field: STATE, type: IN, values: [{a: 1}]}", "dashboard.filter.invalid", 45),
        ("{field: START_DATE, type: CONTAINS, value: x}", "dashboard.filter.invalid", 54),
        ("{field: START_DATE, type: LESS_THAN, value: soon}", "dashboard.filter.invalid", 55),
        ("{field: DURATION, type: LESS_THAN, value: long}", "dashboard.filter.invalid", 53),
        ("{field: FLOW_REVISION, type: EQUAL_TO, value: nan}", "dashboard.filter.invalid", 57),
        ("{field: STATE, type: REGEX, value: '('}", "dashboard.filter.invalid", 46),
        ("{field: STATE, type: REGEX, value: '(a)\\1'}", "dashboard.filter.invalid", 46),
        ("{field: LABELS, type: EQUAL_TO, value: x}", "dashboard.filter.invalid", 11),
        ("{field: STATE, type: IS_NULL, valeu: x}", "dashboard.property.unknown", 41),
    ],
)
def test_each_mistake_in_a_filter_has_its_place(said: str, code: str, column: int) -> None:
    data = (
        f"      type: {KESTRA}.data.Executions\n      columns: {{a: {{field: ID}}}}\n      where:\n        - {said}\n"
    )

    assert found(table(data)) == [(code, 10, column)]


@pytest.mark.parametrize(("kind", "count"), [("TimeSeries", 0), ("TimeSeries", 3), ("Bar", 0), ("Pie", 2)])
def test_a_chart_has_as_many_aggregates_as_it_can_show(kind: str, count: int) -> None:
    columns = "".join(f"        c{index}: {{agg: COUNT}}\n" for index in range(count)) + "        s: {field: STATE}\n"

    assert found(table(f"      type: {KESTRA}.data.Executions\n      columns:\n{columns}", kind=kind)) == [
        ("dashboard.agg.invalid", 8, 7)
    ]


def test_all_mistakes_of_a_file_are_told_at_once_with_the_word_that_was_meant() -> None:
    text = (
        GOOD.replace("STATE}", "STAET}").replace("agg: AVG", "agg: AVERAGE").replace("column: day}]", "column: dya}]")
    )

    problems = parse_dashboard(text, file="d.yaml").problems

    assert {each.code for each in problems} == {
        "dashboard.field.unknown",
        "dashboard.agg.invalid",
        "dashboard.column.unknown",
    }
    assert problems[0].hint == "did you mean 'STATE'?"
    assert problems[0].file == "d.yaml"


def test_what_is_no_yaml_is_no_dashboard_and_says_where() -> None:
    with pytest.raises(FlowError) as refused:
        parse_dashboard("id: [").require()

    assert refused.value.code.startswith("yaml.")


def test_a_chart_alone_is_read_as_one_of_a_dashboard() -> None:
    good, _ = parse_chart("id: a\ntype: io.kestra.plugin.core.dashboard.chart.Markdown\ncontent: hi")
    bad, problems = parse_chart("id: a\ntype: Table")

    assert good is not None
    assert (good.id, good.kind) == ("a", "Markdown")
    assert bad is None
    assert [each.code for each in problems] == ["dashboard.chart.unknown"]


def test_every_kind_of_chart_is_known_by_its_long_and_its_short_name() -> None:
    names = [f"{prefix}core.dashboard.chart.{kind}" for kind in CHARTS for prefix in ("", "io.kestra.plugin.")]

    told = {problem.code for name in names for problem in parse_chart(f"id: a\ntype: {name}")[1]}

    assert told == {"dashboard.property.missing"}
