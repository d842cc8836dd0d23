from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from runner.executions.models import LogEntry, Metric

BASE = "/api/v1/main"
FLOW = """id: hello
namespace: company.team
tasks:
  - {id: say, type: core.log.Log, message: hello}
  - {id: give, type: core.debug.Return, format: "value"}
outputs:
  - {id: out, type: STRING, value: "{{ outputs.give.value }}"}
"""


def run(api: Any) -> dict[str, Any]:
    api.store_flow(FLOW)
    started = api.post(f"{BASE}/executions/company.team/hello").json()
    ended: dict[str, Any] = api.wait_for(started["id"], "SUCCESS")
    return ended


def test_outputs_of_flow_and_tasks_have_routes_of_their_own(api: Any) -> None:
    execution = run(api)
    give = next(each["id"] for each in execution["taskRunList"] if each["taskId"] == "give")
    say = next(each["id"] for each in execution["taskRunList"] if each["taskId"] == "say")

    tasks = api.get(f"{BASE}/outputs/tasks/{execution['id']}").json()

    assert api.get(f"{BASE}/outputs/executions/{execution['id']}").json() == {"out": "value"}
    assert [(row["taskId"], row["inline"]) for row in tasks] == [("give", {"value": "value"})]
    assert api.get(f"{BASE}/outputs/tasks/{execution['id']}/{give}").json() == {"value": "value"}
    assert api.get(f"{BASE}/outputs/tasks/{execution['id']}/{say}").json() == {}
    assert api.get(f"{BASE}/outputs/tasks/{execution['id']}/nothing").status_code == 404
    assert api.get(f"{BASE}/outputs/executions/{execution['id']}", token="other").status_code == 404


def test_metrics_of_an_execution_and_their_names_are_listed(api: Any) -> None:
    execution = run(api)
    where = (execution["id"], "company.team", "hello", "say", execution["taskRunList"][0]["id"])
    metric = Metric(*where, "rows", "counter", 3.0, datetime.now(UTC), {"table": "a"})
    api.services.store.write(lambda db: db.metrics.add([metric]))

    page = api.get(f"{BASE}/metrics/{execution['id']}?taskId=say").json()

    assert [(row["name"], row["type"], row["value"], row["tags"]) for row in page["results"]] == [
        ("rows", "counter", 3.0, {"table": "a"})
    ]
    assert api.get(f"{BASE}/metrics/{execution['id']}?taskId=nothing").json()["total"] == 0
    assert "rows" in api.get(f"{BASE}/metrics/names/company.team/hello").json()
    assert api.get(f"{BASE}/metrics/names/company.team/hello/say").json() == ["rows"]
    assert api.get(f"{BASE}/metrics/tasks/company.team/hello").json() == ["give", "say"]
    assert api.get(f"{BASE}/metrics/tasks/company.team/hello", token="other").status_code == 403


def test_executions_are_summed_up_in_lists(api: Any) -> None:
    execution = run(api)
    body = [{"namespace": "company.team", "id": "hello"}, {"namespace": "company.team", "id": "nothing"}]

    latest = api.post(f"{BASE}/executions/latest", json=body).json()
    table = api.get(f"{BASE}/executions/export/by-query/csv").text.splitlines()

    assert [(row["id"], row["status"]) for row in latest] == [(execution["id"], "SUCCESS")]
    assert api.post(f"{BASE}/executions/latest", json=body, token="other").json() == []
    assert api.get(f"{BASE}/executions/distinct-field-values?field=flowId").json() == ["hello"]
    assert api.get(f"{BASE}/executions/distinct-field-values?field=secret").status_code == 400
    assert table[0] == "id,namespace,flowId,flowRevision,state,startDate,endDate"
    assert table[1].startswith(f"{execution['id']},company.team,hello,1,SUCCESS,")
    assert api.get(f"{BASE}/executions/namespaces").json() == ["company.team"]
    assert [row["id"] for row in api.get(f"{BASE}/executions/namespaces/company.team/flows").json()] == ["hello"]


def test_lines_of_an_execution_or_of_a_trigger_are_removed(api: Any) -> None:
    execution = run(api)
    line = {"flow_id": "hello", "timestamp": datetime.now(UTC), "level": "INFO", "message": "fired"}
    for namespace in ("company.team", "company.team.sub"):
        api.services.store.logs.append(
            [LogEntry(execution_id="", namespace=namespace, trigger_id="daily", **line)]  # type: ignore[arg-type]
        )

    kept = api.delete(f"{BASE}/logs/{execution['id']}?minLevel=ERROR").status_code
    before = len(api.get(f"{BASE}/logs/{execution['id']}").json())
    gone = api.delete(f"{BASE}/logs/{execution['id']}").status_code
    trigger = api.delete(f"{BASE}/logs/company.team/hello?triggerId=daily").status_code
    left = api.get(f"{BASE}/logs/search").json()["results"]

    assert (kept, before, gone, trigger) == (204, 1, 204, 204)
    assert api.get(f"{BASE}/logs/{execution['id']}").json() == []
    assert [row["namespace"] for row in left] == ["company.team.sub"]
    assert api.delete(f"{BASE}/logs/{execution['id']}", token="operator").status_code == 403
    assert api.delete(f"{BASE}/logs/company.team/hello").status_code == 400


def test_the_catalogue_names_types_inputs_functions_and_filters(api: Any) -> None:
    plugins = api.get("/api/v1/plugins").json()["results"]
    logs = next(row for row in plugins if row["name"] == "core.log")

    assert "io.kestra.plugin.core.log.Log" in logs["tasks"]
    assert any(row["triggers"] for row in api.get("/api/v1/plugins/triggers").json()["results"])
    assert api.get("/api/v1/plugins/groups/subgroups").json()
    assert "markdown" in api.get("/api/v1/plugins/io.kestra.plugin.core.log.Log").json()
    assert "tasks" in api.get("/api/v1/plugins/properties/FLOW").json()
    assert api.get("/api/v1/plugins/schemas/flow").json()["title"] == "Mainstem flow"
    assert api.get("/api/v1/plugins/schemas/dreams").status_code == 404
    assert api.get("/api/v1/plugins/nothing.of.it").status_code == 404
    assert "STRING" in [row["type"] for row in api.get("/api/v1/plugins/inputs").json()]
    assert api.get("/api/v1/plugins/inputs/string").json()["schema"]["type"] == "STRING"
    assert "upper" in api.get("/api/v1/pebble/filters").json()
    assert "secret" in [row["name"] for row in api.get("/api/v1/pebble/functions").json()]
    assert api.get("/api/v1/plugins", token=None).status_code == 401


def test_inputs_of_a_pause_are_checked_without_going_on(api: Any) -> None:
    pause = "  - {id: gate, type: core.flow.Pause, onResume: [{id: count, type: INT}]}\n"
    api.store_flow(f"id: hello\nnamespace: company.team\ntasks:\n{pause}")
    started = api.post(f"{BASE}/executions/company.team/hello").json()["id"]
    api.wait_for(started, "PAUSED")
    place = f"{BASE}/executions/{started}/actions/resume/validate"

    good = api.post(place, data={"count": "3"}).json()["inputs"]
    bad = api.post(place, data={"count": "many"}).json()["inputs"]
    state = api.get(f"{BASE}/executions/{started}").json()["state"]["current"]
    api.post(f"{BASE}/executions/{started}/actions/resume", data={"count": "3"})
    api.wait_for(started, "SUCCESS")

    assert (good[0]["value"], good[0]["errors"]) == (3, [])
    assert bad[0]["errors"]
    assert state == "PAUSED"
    assert api.post(place).status_code == 409
    assert api.post(place, token="viewer").status_code == 403
