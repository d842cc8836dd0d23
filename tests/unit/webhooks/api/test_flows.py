from __future__ import annotations

from typing import Any

import pytest

HELLO = """id: hello
namespace: company.team
description: says hello
labels: {team: data}
tasks:
  - id: say
    type: io.kestra.plugin.core.log.Log
    message: "hello {{ flow.id }}"
"""
FLOWS = "/api/v1/main/flows"


def test_a_flow_is_read_as_it_was_written(api: Any) -> None:
    api.store_flow(HELLO)

    plain = api.get(f"{FLOWS}/company.team/hello").json()
    with_source = api.get(f"{FLOWS}/company.team/hello?source=true").json()

    assert (plain["id"], plain["revision"], plain["disabled"], plain["deleted"], plain["draft"]) == (
        "hello",
        1,
        False,
        False,
        False,
    )
    assert plain["labels"] == [{"key": "team", "value": "data"}]
    assert plain["tasks"] == [{"id": "say", "type": "io.kestra.plugin.core.log.Log", "message": "hello {{ flow.id }}"}]
    assert "source" not in plain
    assert with_source["source"] == HELLO


def test_revisions_come_oldest_first_and_a_named_one_can_be_read(api: Any) -> None:
    api.store_flow(HELLO)
    api.store_flow(HELLO.replace("says", "shouts"))

    rows = api.get(f"{FLOWS}/company.team/hello/revisions").json()
    first = api.get(f"{FLOWS}/company.team/hello?revision=1").json()

    assert [row["revision"] for row in rows] == [1, 2]
    assert first["description"] == "says hello"


def test_a_deleted_flow_is_gone_unless_asked_for(api: Any) -> None:
    from datetime import UTC, datetime

    api.store_flow(HELLO)
    api.services.store.write(lambda db: db.flows.remove("company.team", "hello", datetime.now(UTC), None))

    gone = api.get(f"{FLOWS}/company.team/hello")
    last = api.get(f"{FLOWS}/company.team/hello?allowDeleted=true").json()
    before = api.get(f"{FLOWS}/company.team/hello/revisions").json()
    history = api.get(f"{FLOWS}/company.team/hello/revisions?allowDelete=true").json()

    assert gone.status_code == 404
    assert last["deleted"] is True
    assert [row["deleted"] for row in before] == [False]
    assert history[-1]["deleted"] is True
    assert api.get(f"{FLOWS}/company.team/nothing/revisions").status_code == 404
    assert api.get(f"{FLOWS}/expressions").status_code == 404


def test_a_flow_that_no_longer_parses_is_listed_with_its_fault(api: Any) -> None:
    api.store_flow("id: hello\nnamespace: company.team\ntasks: nonsense\n")

    rows = api.get(f"{FLOWS}/search").json()["results"]

    assert rows[0]["id"] == "hello"
    assert "valid" in rows[0]["exception"]


def test_flows_are_searched_by_fragment_namespace_and_label(api: Any) -> None:
    api.store_flow(HELLO)
    other = HELLO.replace("company.team", "company-evil").replace("data", "ops")
    api.store_flow(other, namespace="company-evil")

    def ids(query: str) -> list[str]:
        return [row["namespace"] for row in api.get(f"{FLOWS}/search?{query}").json()["results"]]

    assert sorted(ids("")) == ["company-evil", "company.team"]
    assert ids("filters[q][EQUALS]=TEAM") == ["company.team"]
    assert ids("filters[namespace][PREFIX]=company") == ["company.team"]
    assert ids("filters[labels][EQUALS][team]=ops") == ["company-evil"]
    assert ids("sort=namespace:asc&size=1&page=2") == ["company.team"]
    assert api.get(f"{FLOWS}/company.team").json()[0]["id"] == "hello"
    assert api.get(f"{FLOWS}/unknown").json() == []
    assert api.get(f"{FLOWS}/distinct-namespaces?q=company.").json() == ["company.team"]


def test_a_token_sees_only_the_flows_of_its_namespaces(api: Any) -> None:
    api.store_flow(HELLO)
    api.store_flow(HELLO.replace("company.team", "other.x"), namespace="other.x")

    rows = api.get(f"{FLOWS}/search", token="other").json()

    assert ([row["namespace"] for row in rows["results"]], rows["total"]) == (["other.x"], 1)
    assert api.get(f"{FLOWS}/distinct-namespaces", token="other").json() == ["other.x"]


def test_validation_answers_for_each_document_and_always_well(api: Any) -> None:
    broken = "id: broken\nnamespace: company.team\ntasks:\n  - id: a\n    type: core.log.Lgo\n"

    answer = api.post(
        f"{FLOWS}/validate", content=f"{HELLO}---\n{broken}", headers={"content-type": "application/x-yaml"}
    )

    good, bad = answer.json()
    assert answer.status_code == 200
    assert (good["index"], good["flow"], good["constraints"]) == (0, "hello", None)
    assert (bad["index"], bad["flow"]) == (1, "broken")
    assert "core.log.Lgo" in bad["constraints"]
    assert bad["problems"][0]["code"] == "task.type.unknown"


def test_tests_that_follow_a_flow_are_not_taken_for_flows(api: Any) -> None:
    tests = "---\nid: suite\ntestCases: [{id: one}]\n"

    checked = api.post(f"{FLOWS}/validate", content=HELLO + tests).json()

    assert [(each["flow"], each["constraints"]) for each in checked] == [("hello", None)]


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"[" * 5000, b"&a [*a]", b"id: x\nid: y\n"])
def test_validation_of_anything_is_answered(api: Any, body: bytes) -> None:
    answer = api.post(f"{FLOWS}/validate", content=body)

    assert answer.status_code == 200
    assert all(item["constraints"] for item in answer.json())


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", FLOWS, 409, "flow.exists"),
        ("PUT", f"{FLOWS}/company.team/unknown", 404, "flow.missing"),
        ("PUT", f"{FLOWS}/company.team/second", 422, "flow.identity.changed"),
        ("DELETE", f"{FLOWS}/company.team/unknown", 404, "flow.missing"),
        ("GET", f"{FLOWS}/company.team/unknown", 404, "flow.missing"),
        ("GET", f"{FLOWS}/company.team/hello?revision=x", 422, "request.parameter.invalid"),
    ],
)
def test_a_write_that_cannot_be_says_why(api: Any, method: str, path: str, status: int, code: str) -> None:
    api.store_flow(HELLO)
    api.store_flow(HELLO.replace("id: hello", "id: second"), flow_id="second")

    answer = api.request(method, path, content=HELLO)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_an_invalid_flow_is_refused_with_all_its_problems(api: Any) -> None:
    answer = api.post(FLOWS, content="id: x\nnamespace: company.team\ntasks:\n  - {id: a, type: core.log.Lgo}\n")

    assert answer.status_code == 422
    assert answer.json()["problems"][0]["line"] == 4


def test_a_developer_cannot_write_into_another_namespace(api: Any) -> None:
    answer = api.post(FLOWS, content=HELLO, token="other")

    assert (answer.status_code, answer.json()["code"]) == (403, "access.denied")
