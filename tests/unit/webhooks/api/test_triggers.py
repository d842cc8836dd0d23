"""Triggers over the API: what they remember, what may be done to them, backfills, many at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from runner.store.records import TriggerState
from runner.triggers.activation import activated

ROOT = "/api/v1/main/triggers"
FLOW = """
id: hello
namespace: company.team
inputs: [{id: who, type: STRING, required: false}, {id: token, type: SECRET, required: false}]
tasks:
  - {id: hold, type: core.flow.Pause}
triggers:
  - {id: nightly, type: core.trigger.Schedule, cron: "0 3 * * *", stopAfter: [FAILED]}
  - {id: hourly, type: core.trigger.Schedule, cron: "0 * * * *"}
  - {id: hook, type: core.trigger.Webhook, key: k}
  - {id: resting, type: core.trigger.Schedule, cron: "0 3 * * *", disabled: true}
"""


def named(trigger_id: str, **more: Any) -> dict[str, Any]:
    return {"namespace": "company.team", "flowId": "hello", "triggerId": trigger_id, **more}


def past(days: int) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat()


@pytest.fixture
def declared(api: Any) -> Any:
    api.store_flow(FLOW)
    flow = api.services.catalogue.get("company.team", "hello")
    api.services.store.write(lambda db: activated(db, [flow], [], datetime.now(UTC), ZoneInfo("UTC")))
    return api


def leftover(api: Any) -> None:
    """Leave the row of a trigger that no flow declares."""
    row = TriggerState("company.team", "hello", "gone")
    api.services.store.write(lambda db: db.triggers.put(row))


def lock(api: Any, trigger_id: str = "nightly") -> str:
    """Have a trigger wait for an execution that does not end."""
    execution = api.post("/api/v1/main/executions/company.team/hello").json()["id"]
    row = api.services.store.read(lambda db: db.triggers.get("company.team", "hello", trigger_id))
    from dataclasses import replace

    api.services.store.write(lambda db: db.triggers.put(replace(row, execution_id=execution)))
    return str(execution)


def states(api: Any) -> dict[str, dict[str, Any]]:
    rows = api.get(f"{ROOT}/company.team/hello?size=100").json()["results"]
    return {row["triggerId"]: row for row in rows}


def test_a_trigger_says_what_it_waits_for_and_what_stops_it(declared: Any) -> None:
    execution = lock(declared)

    found = states(declared)
    waiting = declared.get(f"{ROOT}/search?filters[locked][EQUALS]=true").json()["results"]

    assert (found["nightly"]["locked"], found["nightly"]["executionId"]) == (True, execution)
    assert found["nightly"]["stopAfter"] == ["FAILED"]
    assert [found[name]["kind"] for name in ("nightly", "hook")] == ["SCHEDULE", "WEBHOOK"]
    assert [row["trigger"]["id"] for row in waiting] == ["nightly"]


def test_a_locked_trigger_is_unlocked_once(declared: Any) -> None:
    lock(declared)

    first = declared.post(f"{ROOT}/company.team/hello/nightly/unlock")
    second = declared.post(f"{ROOT}/company.team/hello/nightly/unlock")
    unknown = declared.post(f"{ROOT}/company.team/hello/nothing/unlock")

    assert (first.status_code, first.json()["locked"]) == (200, False)
    assert (second.status_code, unknown.status_code) == (409, 404)


def test_a_restarted_trigger_forgets_what_it_remembers(declared: Any) -> None:
    lock(declared)

    state = declared.post(f"{ROOT}/company.team/hello/nightly/restart").json()
    unknown = declared.post(f"{ROOT}/company.team/hello/nothing/restart")

    assert (state["executionId"], state["locked"]) == (None, False)
    assert unknown.status_code == 404


def test_only_a_trigger_that_no_flow_declares_is_deleted(declared: Any) -> None:
    leftover(declared)

    kept = declared.delete(f"{ROOT}/company.team/hello/nightly")
    gone = declared.delete(f"{ROOT}/company.team/hello/gone")
    again = declared.delete(f"{ROOT}/company.team/hello/gone")

    assert kept.status_code == 409
    assert "because the flow still declares it" in kept.text
    assert (gone.status_code, again.status_code) == (204, 404)


def test_what_the_flow_itself_switches_off_is_not_switched_on(declared: Any) -> None:
    answer = declared.put(f"{ROOT}/set-disabled", json=named("resting", disabled=False))

    assert (answer.status_code, answer.json()["code"]) == (409, "trigger.disabled")


def test_an_unknown_rule_for_missed_dates_is_refused(declared: Any) -> None:
    body = named("nightly", disabled=True, recoverMissedSchedules="SOME")

    assert declared.put(f"{ROOT}/set-disabled", json=body).status_code == 422


def test_a_backfill_is_begun_paused_taken_up_and_ended(declared: Any) -> None:
    own = {"start": past(3), "end": past(1), "inputs": {"who": "them"}, "labels": [{"key": "why", "value": "lost"}]}
    before = states(declared)["nightly"]["nextEvaluationDate"]

    begun = declared.put(f"{ROOT}/backfill/create", json=named("nightly", backfill=own)).json()
    paused = declared.put(f"{ROOT}/backfill/pause", json=named("nightly")).json()
    going_on = declared.put(f"{ROOT}/backfill/unpause", json=named("nightly")).json()
    ended = declared.post(f"{ROOT}/backfill/delete", json=named("nightly")).json()

    assert begun["backfill"]["inputs"] == {"who": "them"}
    assert begun["backfill"]["labels"] == {"why": "lost"}
    assert begun["nextEvaluationDate"] < before
    assert (paused["backfill"]["paused"], paused["nextEvaluationDate"]) == (True, before)
    assert going_on["nextEvaluationDate"] == begun["nextEvaluationDate"]
    assert (ended["backfill"], ended["nextEvaluationDate"]) == (None, before)


@pytest.mark.parametrize(
    ("trigger_id", "backfill", "status", "code"),
    [
        ("nightly", {}, 422, "trigger.backfill.invalid"),
        ("nightly", {"start": "yesterday"}, 422, "condition.date.invalid"),
        ("nightly", {"start": past(1), "end": past(3)}, 422, "trigger.backfill.invalid"),
        ("nightly", {"start": past(-9)}, 422, "trigger.backfill.invalid"),
        ("nightly", {"start": "0001-01-01T00:00:00+14:00"}, 422, "trigger.backfill.invalid"),
        ("nightly", {"start": "0001-01-01"}, 422, "trigger.backfill.invalid"),
        ("nightly", {"start": past(3), "end": "9999-12-31T23:59:59-14:00"}, 422, "trigger.backfill.invalid"),
        ("nightly", {"start": past(3), "end": ["x"]}, 422, "condition.date.invalid"),
        ("nightly", {"start": "2024-01-01T00:00:00" + "9" * 10_000}, 422, "condition.date.invalid"),
        ("night\0ly", {"start": past(3)}, 422, "trigger.identity.invalid"),
        ("nightly", {"start": past(3), "inputs": ["a"]}, 422, "trigger.backfill.invalid"),
        ("nightly", {"start": past(3), "inputs": {"token": "x"}}, 422, "trigger.backfill.invalid"),
        ("nightly", {"start": past(3), "labels": ["a"]}, 422, "label.invalid"),
        ("nightly", {"start": past(3), "labels": [{"key": "system.x", "value": "y"}]}, 422, "label.invalid"),
        ("hook", {"start": past(3)}, 409, "trigger.backfill.kind"),
        ("resting", {"start": past(3)}, 409, "trigger.backfill.off"),
        ("nothing", {"start": past(3)}, 404, "trigger.missing"),
    ],
)
def test_a_backfill_that_cannot_be_is_refused(
    declared: Any, trigger_id: str, backfill: Any, status: int, code: str
) -> None:
    answer = declared.put(f"{ROOT}/backfill/create", json=named(trigger_id, backfill=backfill))

    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_only_one_backfill_at_a_time_and_no_verb_without_one(declared: Any) -> None:
    body = named("nightly", backfill={"start": past(3)})
    without = [
        declared.request(method, f"{ROOT}/backfill/{verb}", json=named("nightly")).status_code
        for method, verb in (("PUT", "pause"), ("PUT", "unpause"), ("POST", "delete"))
    ]

    first = declared.put(f"{ROOT}/backfill/create", json=body).status_code
    second = declared.put(f"{ROOT}/backfill/create", json=body).status_code

    assert without == [409, 409, 409]
    assert (first, second) == (200, 409)


def test_many_are_switched_off_by_name_and_on_by_query(declared: Any) -> None:
    names = {"triggers": [named("nightly"), named("hourly"), named("nightly")], "disabled": True}

    off = declared.post(f"{ROOT}/set-disabled/by-triggers", json=names).json()
    between = {name for name, row in states(declared).items() if row["disabled"]}
    query = "disabled=false&filters[triggerState][EQUALS]=DISABLED"
    on = declared.post(f"{ROOT}/set-disabled/by-query?{query}").json()

    assert (off["totalItems"], between) == (2, {"nightly", "hourly"})
    assert on["totalItems"] == 2
    assert not any(row["disabled"] for row in states(declared).values())


def test_many_are_unlocked_and_those_that_are_not_locked_are_named(declared: Any) -> None:
    lock(declared)

    answer = declared.post(f"{ROOT}/unlock/by-triggers", json=[named("nightly"), named("hourly")]).json()
    nothing = declared.post(f"{ROOT}/unlock/by-query?filters[triggerId][EQUALS]=nothing").json()

    assert answer["totalItems"] == 1
    assert [text.split(":")[0] for text in answer["invalids"]] == ["company.team.hello/hourly"]
    assert nothing["totalItems"] == 0


def test_many_are_deleted_but_not_those_that_are_declared(declared: Any) -> None:
    leftover(declared)
    body = {"filters": [{"logical": "OR", "children": [{"field": "triggerId", "operation": "IN", "value": ["gone"]}]}]}

    kept = declared.request("DELETE", f"{ROOT}/delete/by-triggers", json=[named("nightly")]).json()
    gone = declared.request("DELETE", f"{ROOT}/delete/by-query", json=body).json()

    assert (kept["totalItems"], gone["totalItems"]) == (0, 1)
    assert "gone" not in states(declared)


def test_many_backfills_are_paused_taken_up_and_ended(declared: Any) -> None:
    for name in ("nightly", "hourly"):
        declared.put(f"{ROOT}/backfill/create", json=named(name, backfill={"start": past(3)}))
    both = [named("nightly"), named("hourly")]

    paused = declared.post(f"{ROOT}/backfill/pause/by-triggers", json=both).json()["totalItems"]
    going_on = declared.post(f"{ROOT}/backfill/unpause/by-query?filters[triggerId][EQUALS]=hourly").json()["totalItems"]
    ended = declared.post(f"{ROOT}/backfill/delete/by-triggers", json=both).json()["totalItems"]

    assert (paused, going_on, ended) == (2, 1, 2)
    assert all(row["backfill"] is None for row in states(declared).values())


@pytest.mark.parametrize(
    "filters",
    [
        {"field": "triggerId"},
        ["triggerId"],
        [{"field": "nothing", "operation": "EQUALS", "value": "x"}],
        [{"logical": "AND", "children": [{"logical": "AND", "children": [{"children": [{"children": []}]}]}]}],
    ],
)
def test_filters_that_cannot_be_read_delete_nothing(declared: Any, filters: Any) -> None:
    leftover(declared)

    answer = declared.request("DELETE", f"{ROOT}/delete/by-query", json={"filters": filters})

    assert answer.status_code == 400
    assert "gone" in states(declared)


def test_nobody_changes_triggers_of_another_namespace(declared: Any) -> None:
    leftover(declared)

    named_ones = declared.post(f"{ROOT}/unlock/by-triggers", json=[named("nightly")], token="other")
    queried = declared.request("DELETE", f"{ROOT}/delete/by-query", json={}, token="other").json()
    listed = declared.get(f"{ROOT}/company.team/hello", token="other")

    assert named_ones.status_code == 403
    assert queried["totalItems"] == 0
    assert listed.status_code == 403
    assert "gone" in states(declared)


def test_triggers_are_exported_as_a_table(declared: Any) -> None:
    answer = declared.get(f"{ROOT}/export/by-query/csv?filters[triggerId][STARTS_WITH]=n")

    assert answer.headers["content-type"].startswith("text/csv")
    assert [line.split(",")[:3] for line in answer.text.splitlines()] == [
        ["namespace", "flowId", "triggerId"],
        ["company.team", "hello", "nightly"],
    ]


def test_a_filter_on_dates_looks_at_the_date_it_is_told(declared: Any) -> None:
    query = "filters[startDate][GREATER_THAN]=2020-01-01T00:00:00Z&filters[triggerId][EQUALS]=nightly"

    planned = declared.get(f"{ROOT}/search?{query}&dateFilter=NEXT_EXECUTION_DATE").json()["total"]
    fired = declared.get(f"{ROOT}/search?{query}&dateFilter=LAST_TRIGGERED_DATE").json()["total"]

    assert (planned, fired) == (1, 0)
