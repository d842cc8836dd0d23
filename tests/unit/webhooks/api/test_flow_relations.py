from __future__ import annotations

from typing import Any

import pytest

BASE = "/api/v1/main"


def flow(flow_id: str, calls: str = "", extra: str = "") -> str:
    task = f"  - {{id: call, type: core.flow.Subflow, namespace: company.team, flowId: {calls}}}\n" if calls else ""
    log = '  - {id: say, type: core.log.Log, message: "Total (a+b)"}\n'
    return f"id: {flow_id}\nnamespace: company.team\n{extra}tasks:\n{log}{task}"


@pytest.fixture
def chain(api: Any) -> Any:
    """Three flows, of which each calls the next, and one by itself."""
    for flow_id, calls, extra in (
        ("a", "b", ""),
        ("b", "c", "concurrency: {limit: 2}\n"),
        ("c", "", ""),
        ("d", "", ""),
    ):
        api.store_flow(flow(flow_id, calls, extra), flow_id=flow_id)
    return api


def names(graph: dict[str, Any]) -> list[str]:
    return [node["id"] for node in graph["nodes"]]


def test_dependencies_are_the_neighbours_or_all_that_hangs_together(chain: Any) -> None:
    place = f"{BASE}/flows/company.team"

    middle = chain.get(f"{place}/b/dependencies").json()

    assert names(middle) == ["a", "b", "c"]
    assert [(edge["source"], edge["target"]) for edge in middle["edges"]] == [
        ("main_company.team_a", "main_company.team_b"),
        ("main_company.team_b", "main_company.team_c"),
    ]
    assert names(chain.get(f"{place}/b/dependencies?destinationOnly=true").json()) == ["b", "c"]
    assert names(chain.get(f"{place}/a/dependencies").json()) == ["a", "b"]
    assert names(chain.get(f"{place}/a/dependencies?expandAll=true").json()) == ["a", "b", "c"]
    assert names(chain.get(f"{place}/d/dependencies").json()) == ["d"]
    assert names(chain.get(f"{BASE}/namespaces/company.team/dependencies").json()) == ["a", "b", "c", "d"]
    assert chain.get(f"{place}/nothing/dependencies").status_code == 404


def test_texts_are_found_with_line_and_column(chain: Any) -> None:
    found = chain.get(f"{BASE}/flows/source?q=total%20(A%2Bb)&size=2").json()
    exact = chain.get(f"{BASE}/flows/source?q=total&caseSensitive=true").json()
    word = chain.get(f"{BASE}/flows/source?q=tot&wholeWord=true").json()
    pattern = chain.get(f"{BASE}/flows/source?q=limit:%20[0-9]&regex=true").json()

    assert (found["total"], len(found["results"])) == (4, 2)
    assert found["results"][0]["matches"][0]["line"] == 4
    assert found["results"][0]["matches"][0]["column"] == 45
    assert (exact["total"], word["total"]) == (0, 0)
    assert [row["id"] for row in pattern["results"]] == ["b"]
    assert chain.get(f"{BASE}/flows/source").json()["total"] == 4
    assert chain.get(f"{BASE}/flows/source", token="other").json()["total"] == 0


@pytest.mark.parametrize("query", ["q=(&regex=true", "q=a&scope=CONDITIONS", f"q={'a' * 257}"])
def test_searches_that_cannot_be_done_are_refused(chain: Any, query: str) -> None:
    assert chain.get(f"{BASE}/flows/source?{query}").status_code == 400


def test_limits_and_durations_are_told(chain: Any) -> None:
    none = chain.get(f"{BASE}/executions/namespaces/company.team/flows/d/average-duration").json()
    started = chain.post(f"{BASE}/executions/company.team/d").json()
    chain.wait_for(started["id"], "SUCCESS")

    some = chain.get(f"{BASE}/executions/namespaces/company.team/flows/d/average-duration").json()
    limits = chain.get(f"{BASE}/concurrency-limit/search").json()

    assert none == {"avgDurationMs": None, "count": 0}
    assert some["count"] == 1
    assert some["avgDurationMs"] >= 0
    assert [(row["flowId"], row["running"]) for row in limits["results"]] == [("b", 0)]
