"""Texts in the sources of flows: found in a part of them, and replaced by one commit."""

from __future__ import annotations

from typing import Any

import pytest

SOURCES = "/api/v1/main/flows/source"
FLOW = """id: {id}
namespace: company.team
description: old words
inputs:
  - {{id: who, type: STRING, defaults: old}}
tasks:
  - {{id: say, type: core.log.Log, message: "old, old and Older"}}
"""


@pytest.fixture
def two(git_api: Any) -> Any:
    """Two flows in git."""
    for flow_id in ("a", "b"):
        assert git_api.post("/api/v1/main/flows", content=FLOW.format(id=flow_id)).status_code == 200
    return git_api


def body(query: str = "old", replacement: str = "new", **more: Any) -> dict[str, Any]:
    return {"query": query, "replacement": replacement, **more}


@pytest.mark.parametrize(("scope", "lines"), [("ALL", [3, 5, 7]), ("TASKS", [7]), ("INPUTS", [5]), ("TRIGGERS", [])])
def test_a_scope_names_the_part_that_is_looked_through(two: Any, scope: str, lines: list[int]) -> None:
    rows = two.get(f"{SOURCES}?q=old&scope={scope}").json()["results"]

    assert [match["line"] for row in rows if row["id"] == "a" for match in row["matches"]] == lines


def test_a_preview_shows_the_lines_and_changes_nothing(two: Any) -> None:
    answer = two.post(f"{SOURCES}/replace/preview", json=body(caseSensitive=True, wholeWord=True, scope="TASKS")).json()

    assert (answer["totalMatches"], answer["totalFlows"], answer["editableFlowCount"]) == (2, 2, 2)
    assert answer["flows"][0]["matches"][0]["after"].endswith('"new, new and Older"}')
    assert two.get("/api/v1/main/flows/company.team/a").json()["revision"] == 1
    seen = two.post(f"{SOURCES}/replace/preview", json=body(), token="viewer").json()
    assert (seen["totalFlows"], seen["editableFlowCount"]) == (2, 0)


def test_a_replacement_is_one_commit_and_tells_what_it_left(two: Any) -> None:
    names = [{"namespace": "company.team", "id": name} for name in ("a", "b", "nothing")]

    answer = two.post(f"{SOURCES}/replace/apply", json=body(flows=names)).json()
    again = two.post(f"{SOURCES}/replace/apply", json=body(flows=names[:1])).json()

    assert [(flow["id"], flow["revision"]) for flow in answer["updated"]] == [("a", 2), ("b", 2)]
    assert len({flow["commit"] for flow in answer["updated"]}) == 1
    assert "description: new words" in answer["updated"][0]["source"]
    assert [(row["id"], row["reason"]) for row in answer["skipped"]] == [("nothing", "NOT_FOUND")]
    assert [row["reason"] for row in again["skipped"]] == ["NO_MATCH"]


@pytest.mark.parametrize(
    ("query", "replacement", "reason"),
    [("id: a", "id: other", "INVALID_FLOW"), ("tasks:", "nothing:", "INVALID_FLOW"), ("old", "old", "NO_CHANGE")],
)
def test_what_would_break_a_flow_or_change_nothing_is_left(two: Any, query: str, replacement: str, reason: str) -> None:
    flows = [{"namespace": "company.team", "id": "a"}]

    answer = two.post(f"{SOURCES}/replace/apply", json=body(query, replacement, flows=flows, caseSensitive=True)).json()

    assert [row["reason"] for row in answer["skipped"]] == [reason]
    assert answer["updated"] == []


def test_groups_of_an_expression_are_put_in(two: Any) -> None:
    answer = two.post(f"{SOURCES}/replace/preview", json=body("message: .(\\w+)", 'message: "$1!$1', regex=True)).json()
    wrong = two.post(f"{SOURCES}/replace/preview", json=body("message", "$7", regex=True))

    assert 'message: "old!old, old' in answer["flows"][0]["matches"][0]["after"]
    assert wrong.status_code == 400


def test_one_line_is_replaced_alone(two: Any) -> None:
    place = {"namespace": "company.team", "id": "a"}

    changed = two.post(f"{SOURCES}/replace/line", json=body(**place, line=3)).json()
    unchanged = two.post(f"{SOURCES}/replace/line", json=body(**place, line=4)).json()
    missing = two.post(f"{SOURCES}/replace/line", json=body(namespace="company.team", id="x", line=1))

    assert changed["source"] == FLOW.format(id="a").replace("old words", "new words")
    assert (changed["revision"], unchanged["revision"]) == (2, 2)
    assert missing.status_code == 404


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"query": "", "replacement": "x"},
        {"query": "a", "replacement": 1},
        {"query": "(", "replacement": "x", "regex": True},
        {"query": "a", "replacement": "x", "scope": "ODD"},
        {"query": "a" * 257, "replacement": "x"},
        {"query": "a?", "replacement": "x" * 10_001, "regex": True},
    ],
)
def test_a_replacement_that_cannot_be_read_is_refused(two: Any, given: dict[str, Any]) -> None:
    assert two.post(f"{SOURCES}/replace/preview", json=given).status_code in {400, 422}


def test_a_short_request_cannot_be_made_to_swell(two: Any) -> None:
    source = f"id: a\nnamespace: company.team\ntasks:\n  - {{id: say, type: core.log.Log, message: {'a' * 100_000}}}\n"
    two.put("/api/v1/main/flows/company.team/a", content=source)

    answer = two.post(f"{SOURCES}/replace/preview", json=body("a", "x" * 10_000))

    assert (answer.status_code, answer.json()["code"]) == (400, "request.search.wide")
