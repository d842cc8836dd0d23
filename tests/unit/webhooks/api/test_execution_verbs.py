"""Running executions again and acting on many of them, over a real engine."""

from __future__ import annotations

from typing import Any

import pytest

EXECUTIONS = "/api/v1/main/executions"
ONCE = """
id: hello
namespace: company.team
inputs:
  - {id: size, type: INT, defaults: 3}
  - {id: colour, type: STRING, dependsOn: {inputs: [size], condition: '{{ inputs.size > 5 }}'}}
tasks:
  - {id: first, type: core.debug.Return, format: '{{ inputs.size }}'}
  - {id: second, type: core.execution.Fail, condition: '{{ taskrun.attemptsCount == 0 }}'}
  - {id: third, type: core.debug.Return, format: done}
"""
PAUSED = "id: paused\nnamespace: company.team\ntasks: [{id: wait, type: core.flow.Pause}]\n"
LATER = "id: later\nnamespace: company.team\ntasks: [{id: wait, type: core.flow.Sleep, duration: PT1H}]\n"
QUEUED = LATER.replace("id: later", "id: queued") + "concurrency: {limit: 1}\n"


def run(api: Any, flow: str = "hello", query: str = "") -> dict[str, Any]:
    """Start a flow and return the answer."""
    answer: dict[str, Any] = api.post(f"{EXECUTIONS}/company.team/{flow}{query}").json()
    return answer


def states(body: dict[str, Any]) -> dict[str, str]:
    return {each["taskId"]: each["state"]["current"] for each in body["taskRunList"]}


def test_a_restart_answers_with_the_execution_restarted_and_it_then_succeeds(api: Any) -> None:
    api.store_flow(ONCE)
    failed = run(api, query="?wait=true")

    answer = api.post(f"{EXECUTIONS}/{failed['id']}/actions/restart").json()

    assert (answer["id"], answer["state"]["current"]) == (failed["id"], "RESTARTED")
    assert states(answer) == {"first": "SUCCESS", "second": "RESTARTED"}
    ended = api.wait_for(failed["id"], "SUCCESS")
    assert [len(each["attempts"]) for each in ended["taskRunList"]] == [1, 2, 1]


def test_an_execution_stops_at_its_breakpoints_until_it_is_let_go(api: Any) -> None:
    api.store_flow(ONCE.replace("{{ taskrun.attemptsCount == 0 }}", "false"))
    stopped = run(api, query="?breakpoints=second")
    body = api.wait_for(stopped["id"], "BREAKPOINT")

    early = api.post(f"{EXECUTIONS}/{stopped['id']}/actions/resume")
    answer = api.post(f"{EXECUTIONS}/{stopped['id']}/actions/resume-from-breakpoint?breakpoints=third")
    again = api.wait_for(stopped["id"], "BREAKPOINT")
    last = api.post(f"{EXECUTIONS}/{stopped['id']}/resume-from-breakpoint?breakpoints=")

    assert states(body) == {"first": "SUCCESS", "second": "BREAKPOINT"}
    assert early.status_code == 409
    assert (answer.status_code, answer.json()["state"]["current"]) == (200, "RUNNING")
    assert states(again)["third"] == "BREAKPOINT"
    assert (last.status_code, last.json()["breakpoints"]) == (200, [])
    api.wait_for(stopped["id"], "SUCCESS")
    assert api.post(f"{EXECUTIONS}/{stopped['id']}/resume-from-breakpoint").status_code == 409


def test_a_restart_at_another_revision_is_a_new_execution(api: Any) -> None:
    api.store_flow(ONCE)
    failed = run(api, query="?wait=true")
    api.store_flow(
        ONCE.replace("core.execution.Fail, condition: '{{ taskrun.attemptsCount == 0 }}'", "core.log.Log, message: ok")
    )

    answer = api.post(f"{EXECUTIONS}/{failed['id']}/actions/restart?revision=2").json()

    assert answer["id"] != failed["id"]
    assert (answer["flowRevision"], answer["parentId"], answer["originalId"]) == (2, failed["id"], failed["id"])
    assert states(api.wait_for(answer["id"], "SUCCESS"))["third"] == "SUCCESS"


def test_a_replay_from_a_task_keeps_earlier_outputs_in_a_new_execution(api: Any) -> None:
    api.store_flow(ONCE)
    failed = run(api, query="?wait=true")
    task_run = failed["taskRunList"][1]["id"]

    answer = api.post(f"{EXECUTIONS}/{failed['id']}/actions/replay?taskRunId={task_run}").json()

    assert (answer["id"] != failed["id"], answer["state"]["current"]) == (True, "RESTARTED")
    assert answer["taskRunList"][0]["outputs"] == {"value": "3"}
    assert answer["taskRunList"][0]["id"] != failed["taskRunList"][0]["id"]
    assert api.wait_for(answer["id"], "SUCCESS")["parentId"] == failed["id"]


def test_a_replay_takes_other_inputs(api: Any) -> None:
    api.store_flow(ONCE)
    failed = run(api, query="?wait=true")

    answer = api.post(f"{EXECUTIONS}/{failed['id']}/actions/replay-with-inputs", files={"size": (None, "4")}).json()

    assert answer["inputs"] == {"size": 4}
    assert api.wait_for(answer["id"], "FAILED")["taskRunList"][0]["outputs"] == {"value": "4"}


def test_a_marked_task_run_lets_the_flow_go_on(api: Any) -> None:
    api.store_flow(ONCE)
    failed = run(api, query="?wait=true")
    body = {"taskRunId": failed["taskRunList"][1]["id"], "state": "SUCCESS"}

    answer = api.post(f"{EXECUTIONS}/{failed['id']}/actions/state", json=body)

    assert answer.status_code == 200
    assert states(api.wait_for(failed["id"], "SUCCESS")) == dict.fromkeys(("first", "second", "third"), "SUCCESS")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("actions/replay?taskRunId=nothing", 422, "execution.replay.missing"),
        ("actions/change-status?status=RUNNING", 422, "execution.status.invalid"),
        ("actions/change-status?status=ODD", 422, "execution.status.invalid"),
        ("actions/unqueue", 409, "execution.state"),
        ("unqueue", 422, "execution.state"),
        ("actions/force-run", 409, "execution.state"),
        ("pause", 422, "execution.state"),
        ("actions/pause", 409, "execution.state"),
        ("actions/resume", 409, "execution.state"),
        ("actions/restart?revision=99", 404, "flow.missing"),
    ],
)
def test_a_verb_that_cannot_be_says_why(api: Any, path: str, status: int, code: str) -> None:
    api.store_flow(ONCE)
    failed = run(api, query="?wait=true")

    answer = api.post(f"{EXECUTIONS}/{failed['id']}/{path}")

    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_an_ended_execution_gets_another_status_and_labels(api: Any) -> None:
    api.store_flow(ONCE)
    failed = run(api, query="?wait=true")

    changed = api.post(f"{EXECUTIONS}/{failed['id']}/actions/change-status?status=WARNING").json()
    labelled = api.post(f"{EXECUTIONS}/{failed['id']}/labels", json=[{"key": "seen", "value": "yes"}]).json()

    assert changed["state"]["current"] == "WARNING"
    assert {"key": "seen", "value": "yes"} in labelled["labels"]


def test_a_queued_execution_can_be_forced_to_run(api: Any) -> None:
    api.store_flow(QUEUED, flow_id="queued")
    api.wait_for(run(api, "queued")["id"], "RUNNING")
    second = run(api, "queued")["id"]
    api.wait_for(second, "QUEUED")

    api.post(f"{EXECUTIONS}/{second}/actions/force-run")

    assert api.wait_for(second, "RUNNING")["state"]["histories"][1]["state"] == "QUEUED"


def test_many_are_resumed_by_their_ids_and_a_second_time_refused(api: Any) -> None:
    api.store_flow(PAUSED, flow_id="paused")
    ids = [run(api, "paused")["id"] for _ in range(3)]
    for each in ids:
        api.wait_for(each, "PAUSED")

    first = api.post(f"{EXECUTIONS}/resume/by-ids", json=ids)
    for each in ids:
        api.wait_for(each, "SUCCESS")
    second = api.post(f"{EXECUTIONS}/resume/by-ids", json=ids)

    assert (first.status_code, first.json()["count"]) == (200, 3)
    assert (second.status_code, len(second.json()["invalids"])) == (400, 3)


def test_an_unknown_id_refuses_a_call_for_many_as_a_whole(api: Any) -> None:
    api.store_flow(PAUSED, flow_id="paused")
    waiting = run(api, "paused")["id"]
    api.wait_for(waiting, "PAUSED")

    answer = api.request("DELETE", f"{EXECUTIONS}/kill/by-ids", json=[waiting, "nothing"])

    assert (answer.status_code, answer.json()["invalids"]) == (400, ["execution nothing not found"])
    assert api.get(f"{EXECUTIONS}/{waiting}").json()["state"]["current"] == "PAUSED"


@pytest.mark.parametrize("query", ["namespace=company", "filters[namespace][PREFIX]=company&filters[state][IN]=PAUSED"])
def test_many_are_found_by_a_query_in_the_words_of_either_version(api: Any, query: str) -> None:
    api.store_flow(PAUSED, flow_id="paused")
    ids = [run(api, "paused")["id"] for _ in range(2)]
    for each in ids:
        api.wait_for(each, "PAUSED")

    answer = api.request("DELETE", f"{EXECUTIONS}/kill/by-query?{query}")

    assert answer.json()["count"] == 2
    assert {api.wait_for(each, "KILLED")["state"]["current"] for each in ids} == {"KILLED"}


def test_a_search_from_late_to_early_is_refused(api: Any) -> None:
    answer = api.get(f"{EXECUTIONS}/search?startDate=2025-02-01T00:00:00Z&endDate=2025-01-01T00:00:00Z")

    assert (answer.status_code, answer.json()["code"]) == (422, "request.period.invalid")


def test_an_expression_is_rendered_as_a_task_run_saw_it(api: Any) -> None:
    api.store_flow(ONCE)
    failed = run(api, query="?wait=true")
    task_run = failed["taskRunList"][1]["id"]

    good = api.post(f"{EXECUTIONS}/{failed['id']}/eval/{task_run}", content="{{ task.id }} {{ outputs.first.value }}")
    bad = api.post(f"{EXECUTIONS}/{failed['id']}/actions/eval", content="{{ nothing }}")

    assert (good.json()["result"], good.json()["error"]) == ("second 3", None)
    assert (bad.json()["result"], "nothing" in bad.json()["error"]) == (None, True)


GUARDED = """id: guarded
namespace: company.team
inputs: [{id: pin, type: SECRET, required: false}]
tasks: [{id: t, type: core.debug.Return, format: "{{ secret('DB') | length }}"}]
"""


@pytest.mark.parametrize(
    ("expression", "seen", "refusal"),
    [
        ("{{ secret('DB') | upper }}", "******", None),
        ("{{ secret('DB') | split('') | join('-') }}", "*-*-*-*-*-*", None),
        ("{{ secret('DB') == 'hunter2secret' }}", "false", None),
        ("{{ inputs.pin | upper }}", "******", None),
        ("{{ kv('region', namespace='other') }}", None, "does not exist"),
        ("{{ http('http://127.0.0.1:9/') }}", None, "sends nothing"),
    ],
)
def test_who_may_only_look_takes_no_secret_apart_and_reaches_nothing(
    api: Any, expression: str, seen: str | None, refusal: str | None
) -> None:
    api.store_flow(GUARDED, flow_id="guarded")
    host = api.services.host
    host.secrets.own.put("company.team", "DB", "hunter2secret", host.clock())
    host.kv.put("other", "region", "eu")
    start = f"{EXECUTIONS}/company.team/guarded?wait=true"
    execution = api.post(start, files={"pin": (None, "0987abcd")}).json()
    onlooker, _ = api.services.access.create("onlooker", "viewer", namespaces=["company.team"])

    answer = api.post(f"{EXECUTIONS}/{execution['id']}/eval", content=expression, token=onlooker).json()

    assert answer["result"] == seen
    assert (refusal or "") in (answer["error"] or "")


def test_inputs_are_validated_without_starting_anything(api: Any) -> None:
    api.store_flow(ONCE)

    answer = api.post(f"{EXECUTIONS}/company.team/hello/validate", files={"size": (None, "2"), "colour": (None, "red")})

    size, colour = answer.json()["inputs"]
    assert (size["input"]["id"], size["value"], size["enabled"]) == ("size", 2, True)
    assert (colour["value"], colour["enabled"]) == ("red", False)
    assert api.get(f"{EXECUTIONS}/search").json()["total"] == 0


def test_whoever_may_run_a_flow_sees_its_tasks_without_their_properties(api: Any) -> None:
    api.store_flow(ONCE)

    answer = api.get(f"{EXECUTIONS}/flows/company.team/hello").json()

    assert [task["id"] for task in answer["tasks"]] == ["first", "second", "third"]
    assert "format" not in answer["tasks"][0]


@pytest.mark.parametrize(("task", "state"), [("Resume", "SUCCESS"), ("Kill", "KILLED")])
def test_a_flow_acts_on_an_execution_of_its_namespace(api: Any, task: str, state: str) -> None:
    api.store_flow(PAUSED, flow_id="paused")
    waiting = run(api, "paused")["id"]
    api.wait_for(waiting, "PAUSED")
    api.store_flow(
        f"id: acts\nnamespace: company.team\ntasks: [{{id: t, type: core.execution.{task}, executionId: {waiting}}}]",
        flow_id="acts",
    )

    acting = run(api, "acts", "?wait=true")

    assert acting["state"]["current"] == "SUCCESS"
    assert api.wait_for(waiting, state)["id"] == waiting


def test_a_flow_may_not_act_on_an_execution_of_another_namespace(api: Any) -> None:
    api.store_flow(PAUSED, flow_id="paused")
    waiting = run(api, "paused")["id"]
    api.wait_for(waiting, "PAUSED")
    source = f"id: acts\nnamespace: elsewhere\ntasks: [{{id: t, type: core.execution.Kill, executionId: {waiting}}}]"
    api.store_flow(source, namespace="elsewhere", flow_id="acts")

    acting = api.post(f"{EXECUTIONS}/elsewhere/acts?wait=true").json()

    assert (acting["state"]["current"], api.get(f"{EXECUTIONS}/{waiting}").json()["state"]["current"]) == (
        "FAILED",
        "PAUSED",
    )


CHILD = """
id: child
namespace: company.team
tasks:
  - {id: once, type: core.debug.Return, format: x}
  - {id: flaky, type: core.execution.Fail, condition: '{{ taskrun.attemptsCount == 0 }}'}
"""


@pytest.mark.parametrize(("behavior", "children"), [("RETRY_FAILED", 1), ("NEW_EXECUTION", 2)])
def test_a_restart_goes_on_in_the_flow_that_failed_below(api: Any, behavior: str, children: int) -> None:
    api.store_flow(CHILD, flow_id="child")
    api.store_flow(
        "id: parent\nnamespace: company.team\ntasks: [{id: call, type: core.flow.Subflow, namespace: company.team, "
        f"flowId: child, restartBehavior: {behavior}}}, {{id: after, type: core.debug.Return, format: done}}]",
        flow_id="parent",
    )
    failed = run(api, "parent", "?wait=true")

    api.post(f"{EXECUTIONS}/{failed['id']}/actions/restart")

    ended = api.wait_for(failed["id"], "SUCCESS" if children == 1 else "FAILED")
    assert [each["state"] for each in ended["taskRunList"][0]["state"]["histories"]][2:5] == [
        "FAILED",
        "RESTARTED",
        "RUNNING",
    ]
    found = api.get(f"{EXECUTIONS}/search?filters[flowId][EQUALS]=child").json()["results"]
    assert len(found) == children


def test_a_subflow_that_is_not_there_is_told_in_known_words(api: Any) -> None:
    task = "{id: call, type: core.flow.Subflow, namespace: company.team, flowId: nothing, revision: 7}"
    api.store_flow(f"id: parent\nnamespace: company.team\ntasks: [{task}]", flow_id="parent")

    failed = run(api, "parent", "?wait=true")

    assert failed["taskRunList"][0]["error"] == "Unable to find flow 'company.team'.'nothing' with revision '7'"


def test_the_newest_execution_of_each_flow_is_named(api: Any) -> None:
    api.store_flow(ONCE)
    run(api, query="?wait=true")
    newest = run(api, query="?wait=true")["id"]
    wanted = [{"namespace": "company.team", "id": flow} for flow in ("hello", "nothing")]

    found = api.post(f"{EXECUTIONS}/latest", json=wanted).json()

    assert [(each["id"], each["status"]) for each in found] == [(newest, "FAILED")]


def test_whoever_may_run_flows_finds_them_by_namespace(api: Any) -> None:
    api.store_flow(ONCE)

    namespaces = api.get(f"{EXECUTIONS}/namespaces").json()
    flows = api.get(f"{EXECUTIONS}/namespaces/company.team/flows").json()
    others = api.get(f"{EXECUTIONS}/namespaces", token="other").json()

    assert (namespaces, [flow["id"] for flow in flows], others) == (["company.team"], ["hello"], [])
