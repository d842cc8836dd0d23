"""Graphs of flows and executions, and the stream of executions that hang together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from runner.executions.models import Metric

BASE = "/api/v1/main"
CALLED = """id: called
namespace: company.team
tasks:
  - {id: inside, type: core.log.Log, message: hi}
"""
CALLING = """id: calling
namespace: company.team
tasks:
  - id: each
    type: core.flow.ForEach
    values: [1, 2, 3]
    tasks:
      - {id: say, type: core.log.Log, message: "{{ taskrun.value }}"}
  - {id: call, type: core.flow.Subflow, namespace: company.team, flowId: called}
triggers:
  - {id: hook, type: core.trigger.Webhook, key: s3cret-key}
"""


@pytest.fixture
def two(api: Any) -> Any:
    """Two flows, of which one calls the other."""
    api.store_flow(CALLED, flow_id="called")
    api.store_flow(CALLING, flow_id="calling")
    return api


def uids(graph: dict[str, Any]) -> list[str]:
    return [node["uid"] for node in graph["nodes"]]


def test_the_graph_of_a_flow_opens_the_flows_it_is_asked_to(two: Any) -> None:
    place = f"{BASE}/flows/company.team/calling/graph"

    closed = two.get(f"{place}?subflows=unknown").json()
    opened = two.get(f"{place}?subflows=root.call").json()
    drawn = two.post(f"{BASE}/flows/graph", content=CALLED).json()

    assert "root.call" in uids(closed)
    assert set(uids(opened)) - set(uids(closed)) == {"root.call:start", "root.call:end", "root.call.inside"}
    assert uids(drawn) == ["root:start", "root:end", "root.inside"]
    assert two.get(f"{BASE}/flows/company.team/nothing/graph").status_code == 404
    assert two.post(f"{BASE}/flows/graph", content="a: [").status_code == 422


def test_the_graph_of_an_execution_says_what_became_of_its_tasks(two: Any) -> None:
    execution = two.post(f"{BASE}/executions/company.team/calling?wait=true").json()

    graph = two.get(f"{BASE}/executions/{execution['id']}/graph?subflows=root.call").json()

    nodes = {node["uid"]: node for node in graph["nodes"]}
    assert nodes["root.each.say"]["states"] == {"SUCCESS": 3}
    assert nodes["root.each.say"]["taskRun"]["value"] == "3"
    assert nodes["root.call"]["taskRun"]["state"] == "SUCCESS"
    assert "taskRun" not in nodes["root.call.inside"]
    assert two.get(f"{BASE}/executions/{execution['id']}/graph", token="other").status_code == 404


def followed(two: Any, execution_id: str, query: str = "") -> list[tuple[str, str]]:
    text = two.get(f"{BASE}/executions/{execution_id}/follow-dependencies{query}").text
    frames = [orjson.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    assert frames[-1] == {}
    return [(frame["flowId"], frame["state"]["current"]) for frame in frames[:-1]]


def test_an_execution_is_followed_with_those_that_hang_on_it(two: Any) -> None:
    outer = two.post(f"{BASE}/executions/company.team/calling?wait=true").json()["id"]
    inner = two.get(f"{BASE}/executions?namespace=company.team&flowId=called").json()["results"][0]["id"]

    assert followed(two, outer) == [("calling", "SUCCESS"), ("called", "SUCCESS")]
    assert followed(two, inner) == [("called", "SUCCESS"), ("calling", "SUCCESS")]
    assert followed(two, inner, "?destinationOnly=true") == [("called", "SUCCESS")]
    assert two.get(f"{BASE}/executions/{outer}/follow-dependencies", token="other").status_code == 404


def test_the_expressions_of_a_flow_are_told_by_what_they_give(two: Any) -> None:
    two.put(f"{BASE}/namespaces/company.team/kv/answer", content="42")
    source = CALLING + "inputs: [{id: who, type: STRING}]\nvariables: {greeting: hi}\n"

    found = two.post(f"{BASE}/flows/expressions?taskId=call", content=source).json()["categories"]
    broken = two.post(f"{BASE}/flows/expressions", content="a: [").json()["categories"]
    theirs = two.post(f"{BASE}/flows/expressions", content=source, token="other").json()["categories"]

    assert found["taskOutputs"] == ["outputs.each", "outputs.say"]
    assert (found["inputs"], found["variables"]) == (["inputs.who"], ["vars.greeting"])
    assert found["kvPairs"] == ["kv('answer')"]
    assert "upper" in found["filters"]
    assert broken["inputs"] == theirs["kvPairs"] == []


def test_deprecated_types_are_told_with_what_should_stand_there(two: Any) -> None:
    old = CALLED.replace("core.log.Log", "io.kestra.core.tasks.debugs.Echo").replace("message: hi", "format: hi")
    two.store_flow(old, flow_id="called")

    found = two.get(f"{BASE}/flows/deprecated").json()

    assert [(row["flowId"], row["revision"]) for row in found] == [("called", 2)]
    assert found[0]["deprecatedTasks"] == [
        {
            "taskId": "inside",
            "taskType": "io.kestra.core.tasks.debugs.Echo",
            "replacement": "io.kestra.plugin.core.log.Log",
        }
    ]
    assert two.get(f"{BASE}/flows/deprecated?namespace=company.team.below").json() == []
    assert two.get(f"{BASE}/flows/deprecated", token="other").json() == []


def test_each_type_has_an_icon_and_a_version(api: Any) -> None:
    name = "io.kestra.plugin.core.flow.ForEach"

    every = api.get("/api/v1/plugins/icons").json()
    image = api.get(f"/api/v1/plugins/icons/{name}/icon.svg")
    versions = api.get(f"/api/v1/plugins/{name}/versions").json()

    assert every[name] == api.get(f"/api/v1/plugins/icons/{name}").json()
    assert every[name]["flowable"] is True
    assert (image.headers["content-type"], "FE</text>" in image.text) == ("image/svg+xml", True)
    assert "io.kestra.plugin.core.flow" in api.get("/api/v1/plugins/icons/groups").json()
    assert api.get(f"/api/v1/plugins/{name}/versions/{versions['versions'][0]}").json()["markdown"]
    assert api.get(f"/api/v1/plugins/{name}/versions/0.0.0").status_code == 404
    assert api.get("/api/v1/plugins/icons/nothing.of.it").status_code == 404


@pytest.mark.parametrize(("how", "value"), [("", 6.0), ("avg", 2.0), ("MAX", 3.0), ("min", 1.0)])
def test_metrics_are_put_together_over_time(api: Any, how: str, value: float) -> None:
    start = datetime(2026, 3, 1, 12, tzinfo=UTC)
    metrics = [
        Metric("x", "company.team", "hello", "count", "run", "rows", "gauge", number, start + timedelta(seconds=second))
        for number, second in ((1.0, 61), (2.0, 62), (3.0, 119), (10.0, 180))
    ]
    api.services.store.write(lambda db: db.metrics.add(metrics))
    place = f"{BASE}/metrics/aggregates/company.team/hello"
    query = f"?startDate=2026-03-01T12:00:30Z&endDate=2026-03-01T12:05:00Z&aggregation={how}"

    found = api.get(f"{place}/rows{query}").json()

    assert found["groupBy"] == "minute"
    assert [row["value"] for row in found["aggregations"]] == [None, value, None, 10.0, None]
    assert found["aggregations"][1]["date"] == "2026-03-01T12:01:00.000000Z"
    assert api.get(f"{place}/count/rows{query}").json() == found
    assert {row["value"] for row in api.get(f"{place}/other/rows{query}").json()["aggregations"]} == {None}
    assert api.get(f"{place}/rows?startDate=2024-01-01&endDate=2026-06-01").json()["groupBy"] == "week"
    assert api.get(f"{place}/rows?startDate=2026-01-02&endDate=2026-01-01").status_code == 422
    assert api.get(f"{place}/rows?aggregation=median").status_code == 400


def test_lines_are_read_on_from_a_cursor(api: Any) -> None:
    lines = "".join(f"  - {{id: t{number}, type: core.log.Log, message: 'line {number}'}}\n" for number in range(5))
    api.store_flow(f"id: hello\nnamespace: company.team\ntasks:\n{lines}")
    api.post(f"{BASE}/executions/company.team/hello?wait=true")
    seen: list[str] = []
    cursor: str | None = ""

    while cursor is not None:
        page = api.get(f"{BASE}/logs/search?size=2&cursor={cursor}").json()
        seen += [row["message"] for row in page["results"]]
        cursor = page["nextCursor"]
    judged = api.get(f"{BASE}/logs/search?size=1&cursor=&filters[taskId][ENDS_WITH]=3").json()

    assert seen == [f"line {number}" for number in range(4, -1, -1)]
    assert (page["type"], page["total"]) == ("CURSOR", None)
    assert [row["message"] for row in judged["results"]] == ["line 3"]
    assert api.get(f"{BASE}/logs/search?cursor=", token="other").json()["results"] == []
    assert api.get(f"{BASE}/logs/search?cursor=a").status_code == 400
    assert api.get(f"{BASE}/logs/search?cursor=&sort=level:asc").status_code == 400
