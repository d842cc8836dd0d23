"""The routes of dashboards: what commits brought is read, and what may be committed is checked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from runner.store.records import StoredDashboard

BASE = "/api/v1/main/dashboards"
SOURCE = """\
id: night
title: At Night
description: for those on call
timeWindow: {default: P7D}
charts:
  - {id: a, type: core.dashboard.chart.Markdown, content: hi, chartOptions: {displayName: Read me}}
"""


def store(api: Any, name: str, title: str, namespace: str | None = None) -> None:
    source = SOURCE.replace("night", name).replace("At Night", title)
    at = datetime(2026, 11, 26, 9, tzinfo=UTC)
    row = StoredDashboard(name, title, source, "default", f"_dashboards/{name}.yaml", at, at, namespace)
    api.services.store.write(lambda db: db.dashboards.put(row))


def test_a_dashboard_is_read_with_its_charts_and_its_source(api: Any) -> None:
    store(api, "night", "At Night", "company.team")

    body = api.get(f"{BASE}/night").json()

    assert body == {
        "tenantId": "main",
        "id": "night",
        "title": "At Night",
        "description": "for those on call",
        "timeWindow": {"default": "P7D", "max": "PT8784H"},
        "charts": [
            {
                "id": "a",
                "type": "core.dashboard.chart.Markdown",
                "content": "hi",
                "chartOptions": {"displayName": "Read me"},
            }
        ],
        "deleted": False,
        "created": "2026-11-26T09:00:00.000000Z",
        "updated": "2026-11-26T09:00:00.000000Z",
        "namespace": "company.team",
        "environment": "default",
        "path": "_dashboards/night.yaml",
        "sourceCode": SOURCE,
    }


def test_dashboards_are_searched_by_title_sorted_and_paged(api: Any) -> None:
    for name, title in (("a", "Runs of May"), ("b", "runs of April"), ("c", "Logs")):
        store(api, name, title)

    every = api.get(f"{BASE}?sort=title:asc").json()
    runs = api.get(f"{BASE}?q=RUNS&sort=title:desc&page=2&size=1").json()

    assert [row["id"] for row in every["results"]] == ["c", "b", "a"]
    assert "sourceCode" not in every["results"][0]
    assert ([row["id"] for row in runs["results"]], runs["total"]) == (["b"], 2)


def test_a_dashboard_that_breaks_the_rules_of_this_version_is_listed_without_charts(api: Any) -> None:
    store(api, "night", "At Night")
    store(api, "old", "Old # \nchart: 7")

    found = api.get(f"{BASE}?sort=id:desc").json()["results"]

    assert [(row["id"], len(row["charts"])) for row in found] == [("old", 0), ("night", 1)]
    assert "chart: 7" in api.get(f"{BASE}/old").json()["sourceCode"]


def test_a_token_sees_dashboards_of_its_namespaces_and_those_of_none(api: Any) -> None:
    store(api, "team", "Team", "company.team")
    store(api, "theirs", "Theirs", "other")
    store(api, "all", "All")

    listed = api.get(f"{BASE}?sort=id:asc", token="other").json()

    assert [row["id"] for row in listed["results"]] == ["all", "theirs"]
    assert listed["total"] == 2
    assert api.get(f"{BASE}/all", token="other").status_code == 200
    assert api.get(f"{BASE}/team", token="other").json()["code"] == "dashboard.missing"


@pytest.mark.parametrize("path", ["", "/night", "/settings/default-dashboards"])
def test_without_a_token_nothing_is_told(api: Any, path: str) -> None:
    store(api, "night", "At Night")

    assert api.get(BASE + path, token=None).status_code == 401


def test_an_unknown_dashboard_or_field_to_sort_by_is_told(api: Any) -> None:
    missing, unsorted = api.get(f"{BASE}/nothing"), api.get(f"{BASE}?sort=size:asc")

    assert (missing.status_code, missing.json()["code"]) == (404, "dashboard.missing")
    assert unsorted.status_code == 422


def test_no_dashboard_stands_in_for_a_page(api: Any) -> None:
    found = api.get(f"{BASE}/settings/default-dashboards").json()

    assert set(found.values()) == {None}


@pytest.mark.parametrize(
    ("route", "source", "told"),
    [
        ("validate", SOURCE, None),
        ("validate", "id: night\ncharts: []\n", "1:1: 'title' is missing"),
        ("validate", "id: [", "2:1: "),
        ("validate", "", "1:1: "),
        ("validate/chart", "id: a\ntype: core.dashboard.chart.Markdown\ncontent: hi\n", None),
        ("validate/chart", "id: a\ntype: core.dashboard.chart.Pi\n", "2:7: no chart is named"),
    ],
)
def test_a_source_is_checked_without_being_kept(api: Any, route: str, source: str, told: str | None) -> None:
    answer = api.post(f"{BASE}/{route}", content=source, headers={"content-type": "application/x-yaml"})

    found = answer.json()
    assert answer.status_code == 200
    assert (found["constraints"] or "").startswith(told or "")
    assert (found["constraints"] is None) is (told is None)
    assert api.get(BASE).json()["total"] == 0


def test_a_process_without_repositories_writes_no_dashboards(api: Any) -> None:
    store(api, "night", "At Night")
    changed, day = SOURCE.replace("At Night", "Later"), SOURCE.replace("night", "day")

    answers = [
        api.put(f"{BASE}/night", content=changed, headers={"content-type": "application/x-yaml"}),
        api.post(BASE, content=day, headers={"content-type": "application/x-yaml"}),
        api.delete(f"{BASE}/night"),
    ]

    assert [answer.json()["code"] for answer in answers] == ["sync.elsewhere"] * 3
    assert api.get(f"{BASE}/night").json()["title"] == "At Night"
