from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

FLOWS = "/api/v1/main/flows"
OLD = """id: hello
namespace: company.team
inputs:
  - {id: who, type: STRING}
tasks:
  - {id: say, type: core.log.Log, message: hello}
  - {id: gone, type: core.log.Log, message: bye}
"""
NEW = """id: hello
namespace: company.team
inputs:
  - {id: who, type: STRING, defaults: you}
tasks:
  - {id: say, type: io.kestra.plugin.core.log.Log, message: hi}
  - id: both
    type: core.flow.Parallel
    tasks:
      - {id: inner, type: core.log.Log, message: inner}
triggers:
  - {id: daily, type: core.trigger.Schedule, cron: "0 9 * * *"}
"""


def test_two_revisions_are_compared_by_meaning(api: Any) -> None:
    api.store_flow(OLD)
    api.store_flow(NEW)

    body = api.get(f"{FLOWS}/company.team/hello/revisions/diff?from=1&to=2").json()
    back = api.get(f"{FLOWS}/company.team/hello/revisions/diff?from=2&to=1").json()

    assert (body["from"]["revision"], body["to"]["revision"]) == (1, 2)
    assert [(change["kind"], change["path"]) for change in body["changes"]] == [
        ("added", "tasks.both"),
        ("added", "tasks.inner"),
        ("changed", "tasks.say.message"),
        ("removed", "tasks.gone"),
        ("added", "triggers.daily"),
        ("added", "inputs.who.defaults"),
    ]
    assert body["changes"][2]["text"] == "tasks.say.message hello -> hi"
    assert ("removed", "triggers.daily") in [(change["kind"], change["path"]) for change in back["changes"]]


def test_without_numbers_the_last_change_is_shown(api: Any) -> None:
    api.store_flow(OLD)
    alone = api.get(f"{FLOWS}/company.team/hello/revisions/diff").json()
    api.store_flow(NEW)

    body = api.get(f"{FLOWS}/company.team/hello/revisions/diff").json()

    assert (alone["from"]["revision"], alone["to"]["revision"], alone["changes"]) == (1, 1, [])
    assert (body["from"]["revision"], body["to"]["revision"]) == (1, 2)


def test_revisions_that_are_not_there_or_deleted_cannot_be_compared(api: Any) -> None:
    api.store_flow(OLD)
    api.services.store.write(lambda db: db.flows.remove("company.team", "hello", datetime.now(UTC), None))
    one = f"{FLOWS}/company.team/hello/revisions/diff"

    statuses = [api.get(f"{one}{query}").status_code for query in ("?from=1&to=9", "?from=1&to=2", "?from=x")]

    assert statuses == [404, 404, 422]
    assert api.get(f"{FLOWS}/company.team/nothing/revisions/diff").status_code == 404
    assert api.get(f"{one}?from=1&to=1", token="other").status_code == 403


def test_a_task_is_found_wherever_it_stands_and_at_its_revision(api: Any) -> None:
    api.store_flow(OLD)
    api.store_flow(NEW)

    inner = api.get(f"{FLOWS}/company.team/hello/tasks/inner").json()
    before = api.get(f"{FLOWS}/company.team/hello/tasks/inner?revision=1")
    old = api.get(f"{FLOWS}/company.team/hello/tasks/gone?revision=1")

    assert (inner["id"], inner["type"], inner["message"]) == ("inner", "core.log.Log", "inner")
    assert (before.status_code, old.status_code) == (404, 200)


def test_single_tasks_and_triggers_are_checked(api: Any) -> None:
    good = api.post(f"{FLOWS}/validate/task?section=TASKS", content="id: a\ntype: core.log.Log\nmessage: hi\n").json()
    bad = api.post(f"{FLOWS}/validate/task?section=TASKS", json={"id": "a", "type": "core.log.Lgo"}).json()
    trigger = api.post(f"{FLOWS}/validate/trigger", json={"id": "t", "type": "core.trigger.Schedule", "cron": "x"})
    broken = api.post(f"{FLOWS}/validate/task?section=TASKS", content="a: [").json()

    assert good["constraints"] is None
    assert "core.log.Lgo" in bad["constraints"]
    assert trigger.json()["constraints"]
    assert broken["constraints"]
    assert api.post(f"{FLOWS}/validate/task?section=DREAMS", content="{}").status_code == 400
    assert api.post(f"{FLOWS}/validate/task", content="{}").status_code == 400
    assert api.post(f"{FLOWS}/validate/trigger", content="[]").status_code == 422


def test_a_draft_that_is_written_is_run_by_its_revision_only(git_api: Any) -> None:
    source = "id: load\nnamespace: company.team\ntasks: [{id: say, type: core.log.Log, message: hi}]\n"
    flows, executions = "/api/v1/main/flows", "/api/v1/main/executions/company.team/load"
    created = git_api.post(f"{flows}?draft=true", content=source).json()

    refused = git_api.post(executions)
    named = git_api.post(f"{executions}?revision=1")
    released = git_api.put(f"{flows}/company.team/load", content=source).json()
    drafted = git_api.put(f"{flows}/company.team/load?draft=true", content=source).json()
    unnamed = git_api.post(executions)

    assert (created["draft"], created["revision"]) == (True, 1)
    assert "draft: true\n" in created["source"]
    assert (refused.status_code, refused.json()["code"]) == (409, "flow.draft")
    assert (named.status_code, named.json()["flowRevision"]) == (200, 1)
    assert [(each["draft"], each["revision"]) for each in (released, drafted)] == [(False, 2), (True, 3)]
    assert unnamed.json()["flowRevision"] == 2
