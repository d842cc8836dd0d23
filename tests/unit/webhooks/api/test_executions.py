from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

HELLO = """
id: hello
namespace: company.team
labels: {team: data}
inputs:
  - {id: who, type: STRING, defaults: world}
tasks:
  - {id: say, type: core.log.Log, message: "hello {{ inputs.who }}"}
  - {id: back, type: core.debug.Return, format: "{{ inputs.who }}"}
outputs:
  - {id: greeting, type: STRING, value: "{{ outputs.back.value }}"}
"""
PAUSED = """
id: paused
namespace: company.team
tasks:
  - {id: gate, type: core.flow.Pause}
  - {id: after, type: core.debug.Return, format: done}
"""
FILE = """
id: upload
namespace: company.team
inputs:
  - {id: data, type: FILE}
tasks:
  - {id: size, type: core.debug.Return, format: "{{ fileSize(inputs.data) }}"}
"""
EXECUTIONS = "/api/v1/main/executions"


def test_a_started_flow_is_answered_at_once_with_its_address(api: Any) -> None:
    api.store_flow(HELLO)

    answer = api.post(f"{EXECUTIONS}/company.team/hello?labels=run:one")

    body = answer.json()
    assert answer.status_code == 200
    assert (body["namespace"], body["flowId"], body["flowRevision"]) == ("company.team", "hello", 1)
    assert body["url"].endswith(body["id"])
    assert {"key": "run", "value": "one"} in body["labels"]
    assert {"key": "system.username", "value": "admin"} in body["labels"]
    assert body["originalId"] == body["id"]


def test_waiting_answers_with_the_end_and_everything_below_it(api: Any) -> None:
    api.store_flow(HELLO)

    body = api.post(f"{EXECUTIONS}/company.team/hello?wait=true", files={"who": (None, "you")}).json()

    assert body["state"]["current"] == "SUCCESS"
    assert body["inputs"] == {"who": "you"}
    assert body["outputs"] == {"greeting": "you"}
    assert [run["taskId"] for run in body["taskRunList"]] == ["say", "back"]
    assert body["taskRunList"][1]["outputs"] == {"value": "you"}
    assert body["state"]["duration"].startswith("PT")


def test_every_time_has_the_same_width(api: Any) -> None:
    api.store_flow(HELLO)

    body = api.post(f"{EXECUTIONS}/company.team/hello?wait=true").json()

    times = [item["date"] for item in body["state"]["histories"]] + [body["state"]["endDate"]]
    assert {len(item) for item in times} == {len("2026-11-22T12:00:00.000000Z")}


def test_an_input_file_is_stored_and_can_be_read_back(api: Any) -> None:
    api.store_flow(FILE, flow_id="upload")

    body = api.post(f"{EXECUTIONS}/company.team/upload?wait=true", files={"data": ("a.csv", b"1,2\n")}).json()
    uri = body["inputs"]["data"]
    answer = api.get(f"{EXECUTIONS}/{body['id']}/file", params={"path": uri})
    size = api.get(f"{EXECUTIONS}/{body['id']}/file/metas", params={"path": uri}).json()

    assert body["taskRunList"][0]["outputs"]["value"] == "4"
    assert answer.content == b"1,2\n"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert size == {"size": 4}


@pytest.mark.parametrize(
    "path", ["kestra:///company/team/other/executions/x/inputs/a", "file:///etc/passwd", "kestra:///../../etc/passwd"]
)
def test_a_file_of_somebody_else_is_refused(api: Any, path: str) -> None:
    api.store_flow(HELLO)
    execution = api.post(f"{EXECUTIONS}/company.team/hello?wait=true").json()

    answer = api.get(f"{EXECUTIONS}/{execution['id']}/file", params={"path": path})

    assert answer.status_code in {404, 422}


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("company.team/nothing", 404, "flow.missing"),
        ("company.team/hello?revision=99", 404, "flow.missing"),
        ("company.team/hello?labels=novalue", 422, "label.invalid"),
        ("company.team/hello?kind=ODD", 422, "execution.kind.unknown"),
        ("company.team/hello?wait=perhaps", 400, "request.parameter.invalid"),
    ],
)
def test_a_start_that_cannot_be_says_why(api: Any, path: str, status: int, code: str) -> None:
    api.store_flow(HELLO)

    answer = api.post(f"{EXECUTIONS}/{path}")

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"].startswith("application/problem+json")


def test_a_missing_input_is_unprocessable(api: Any) -> None:
    api.store_flow(FILE, flow_id="upload")

    answer = api.post(f"{EXECUTIONS}/company.team/upload")

    assert (answer.status_code, answer.json()["code"]) == (422, "input.invalid")


def test_a_disabled_flow_is_a_conflict(api: Any) -> None:
    api.store_flow(HELLO + "disabled: true\n")

    answer = api.post(f"{EXECUTIONS}/company.team/hello")

    assert answer.status_code == 409


@pytest.mark.parametrize(("actions", "status"), [("actions/", 200), ("", 204)])
def test_a_paused_execution_goes_on_when_resumed_under_both_paths(api: Any, actions: str, status: int) -> None:
    api.store_flow(PAUSED, flow_id="paused")
    execution = api.post(f"{EXECUTIONS}/company.team/paused").json()
    api.wait_for(execution["id"], "PAUSED")

    answer = api.post(f"{EXECUTIONS}/{execution['id']}/{actions}resume")

    assert answer.status_code == status
    assert api.wait_for(execution["id"], "SUCCESS")["taskRunList"][1]["outputs"] == {"value": "done"}


@pytest.mark.parametrize(("actions", "status"), [("actions/", 200), ("", 202)])
def test_a_killed_execution_ends_killed_under_both_paths(api: Any, actions: str, status: int) -> None:
    api.store_flow(PAUSED, flow_id="paused")
    execution = api.post(f"{EXECUTIONS}/company.team/paused").json()
    api.wait_for(execution["id"], "PAUSED")

    answer = api.delete(f"{EXECUTIONS}/{execution['id']}/{actions}kill")
    api.wait_for(execution["id"], "KILLED")
    again = api.delete(f"{EXECUTIONS}/{execution['id']}/{actions}kill")

    assert answer.status_code == status
    assert again.status_code == 409


def test_only_an_ended_execution_is_deleted(api: Any) -> None:
    api.store_flow(PAUSED, flow_id="paused")
    execution = api.post(f"{EXECUTIONS}/company.team/paused").json()
    api.wait_for(execution["id"], "PAUSED")

    early = api.delete(f"{EXECUTIONS}/{execution['id']}")
    api.delete(f"{EXECUTIONS}/{execution['id']}/actions/kill")
    api.wait_for(execution["id"], "KILLED")
    late = api.delete(f"{EXECUTIONS}/{execution['id']}")

    assert (early.status_code, late.status_code) == (409, 204)
    assert api.get(f"{EXECUTIONS}/{execution['id']}").status_code == 404


def test_a_search_narrows_pages_and_sorts(api: Any) -> None:
    api.store_flow(HELLO)
    ids = [api.post(f"{EXECUTIONS}/company.team/hello?labels=n:{n}&wait=true").json()["id"] for n in range(3)]

    newest = api.get(f"{EXECUTIONS}/search?size=2").json()
    oldest = api.get(f"{EXECUTIONS}/search?sort=state.startDate:asc").json()
    labelled = api.get(f"{EXECUTIONS}/search?filters[labels][EQUALS][n]=1").json()
    judged = api.get(f"{EXECUTIONS}/search?filters[flowId][STARTS_WITH]=he&filters[state][NOT_IN]=FAILED").json()
    nothing = api.get(f"{EXECUTIONS}/search?filters[kind][EQUALS]=DEFAULT").json()
    beyond = api.get(f"{EXECUTIONS}/search?page=9").json()
    of_flow = api.get(f"{EXECUTIONS}?namespace=company.team&flowId=hello").json()

    assert (newest["total"], [row["id"] for row in newest["results"]]) == (3, ids[:0:-1])
    assert [row["id"] for row in oldest["results"]] == ids
    assert [row["id"] for row in labelled["results"]] == [ids[1]]
    assert judged["total"] == 3
    assert nothing["total"] == 0
    assert beyond["results"] == []
    assert of_flow["total"] == 3


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("size=1001", 422),
        ("size=0", 422),
        ("page=0", 422),
        ("sort=nonsense", 422),
        ("sort=id;DROP TABLE executions:asc", 422),
        ("filters[colour][EQUALS]=red", 400),
        ("filters[startDate][GREATER_THAN]=soon", 400),
    ],
)
def test_a_search_that_cannot_be_read_is_refused(api: Any, query: str, status: int) -> None:
    assert api.get(f"{EXECUTIONS}/search?{query}").status_code == status


def test_the_same_key_starts_one_execution(api: Any) -> None:
    api.store_flow(HELLO)
    key = {"idempotency-key": "order-1"}

    first = api.post(f"{EXECUTIONS}/company.team/hello", headers=key).json()
    second = api.post(f"{EXECUTIONS}/company.team/hello", headers=key).json()
    other = api.post(f"{EXECUTIONS}/company.team/hello?labels=a:b", headers=key)

    assert first["id"] == second["id"]
    assert (other.status_code, other.json()["code"]) == (409, "request.key.reused")


def test_metadata_of_the_server_cannot_be_given_by_a_body(api: Any) -> None:
    api.store_flow(HELLO)
    body = {"who": "me", "namespace": "other", "files": {"filepath": "/etc/passwd"}, "__proto__": {}}

    execution = api.post(f"{EXECUTIONS}/company.team/hello?wait=true", json=body).json()

    assert execution["namespace"] == "company.team"
    assert execution["inputs"] == {"who": "me"}


def test_an_execution_of_another_namespace_is_not_confirmed(api: Any) -> None:
    api.store_flow(HELLO)
    execution = api.post(f"{EXECUTIONS}/company.team/hello?wait=true").json()

    got = api.get(f"{EXECUTIONS}/{execution['id']}", token="other")
    killed = api.delete(f"{EXECUTIONS}/{execution['id']}/actions/kill", token="other")
    found = api.get(f"{EXECUTIONS}/search", token="other").json()

    assert (got.status_code, killed.status_code) == (404, 404)
    assert found == {"results": [], "total": 0}


def test_waiting_callers_do_not_hold_threads(api: Any) -> None:
    api.store_flow(PAUSED, flow_id="paused")
    before = time.monotonic()

    async def all_at_once() -> list[int]:
        headers = {"authorization": f"Bearer {api.tokens['admin']}"}
        path = f"{EXECUTIONS}/company.team/paused?wait=true"
        waiting = [asyncio.create_task(api.client.post(path, headers=headers)) for _ in range(60)]
        answer = await api.client.get(f"{EXECUTIONS}/search?size=100", headers=headers)
        while answer.json()["total"] < 60 and time.monotonic() < before + 60:
            answer = await api.client.get(f"{EXECUTIONS}/search?size=100", headers=headers)
        for row in answer.json()["results"]:
            await api.client.delete(f"{EXECUTIONS}/{row['id']}/kill", headers=headers)
        return [(await task).status_code for task in waiting]

    statuses = api.loop.run_until_complete(all_at_once())

    assert statuses == [200] * 60
    assert time.monotonic() - before < 90


def test_a_secret_input_is_masked_wherever_it_is_shown(api: Any) -> None:
    source = """id: hidden
namespace: company.team
inputs:
  - {id: password, type: SECRET}
tasks:
  - {id: a, type: core.debug.Return, format: done}
"""
    api.store_flow(source, flow_id="hidden")

    answer = api.post(f"{EXECUTIONS}/company.team/hidden?wait=true", files={"password": (None, "hunter2")})
    searched = api.get(f"{EXECUTIONS}/search")

    assert answer.json()["inputs"] == {"password": "******"}
    assert searched.json()["results"][0]["inputs"] == {"password": "******"}
    assert "hunter2" not in answer.text + searched.text


def test_numbers_of_any_size_can_be_shown(api: Any) -> None:
    source = """id: big
namespace: company.team
inputs:
  - {id: number, type: INT}
tasks:
  - {id: a, type: core.debug.Return, format: done}
"""
    api.store_flow(source, flow_id="big")

    answer = api.post(f"{EXECUTIONS}/company.team/big", files={"number": (None, "9" * 30)})

    assert answer.status_code in {200, 422}


def test_the_address_of_an_execution_leads_to_it(api: Any) -> None:
    api.store_flow(HELLO)
    execution = api.post(f"{EXECUTIONS}/company.team/hello?wait=true").json()

    found = api.get(execution["url"].removeprefix("http://127.0.0.1:8420"))

    assert (found.status_code, found.json()["id"]) == (200, execution["id"])


@pytest.mark.parametrize(
    ("extension", "content", "kind", "shown"),
    [
        (".txt", "one\ntwo\nthree\n", "TEXT", "one\ntwo\n"),
        (".ion", '{a:1}\n{"a":2}\n{a:3}\n', "LIST", [{"a": 1}, {"a": 2}]),
        (".md", "# one\n", "MARKDOWN", "# one\n"),
        (".png", "PNG", "IMAGE", "UE5H"),
    ],
)
def test_the_beginning_of_a_file_is_shown_as_its_kind(
    api: Any, extension: str, content: str, kind: str, shown: Any
) -> None:
    task = f"{{id: file, type: core.storage.Write, content: {json.dumps(content)}, extension: {extension}}}"
    api.store_flow(f"id: files\nnamespace: company.team\ntasks: [{task}]", flow_id="files")
    execution = api.post(f"{EXECUTIONS}/company.team/files?wait=true").json()
    uri = execution["taskRunList"][0]["outputs"]["uri"]

    answer = api.get(f"{EXECUTIONS}/{execution['id']}/file/preview", params={"path": uri, "maxRows": 2}).json()

    assert (answer["type"], answer["content"], answer["extension"]) == (kind, shown, extension[1:])
    assert answer["truncated"] is (kind in {"TEXT", "LIST"})


@pytest.mark.parametrize("encoding", ["punycode", "idna", "undefined", "unicode_escape", "a\0b", "base64", "nothing"])
def test_what_is_no_charset_is_refused_however_long_it_would_take_to_read(api: Any, encoding: str) -> None:
    task = f"{{id: file, type: core.storage.Write, content: '{'a-kva' * 10_000}', extension: .txt}}"
    api.store_flow(f"id: files\nnamespace: company.team\ntasks: [{task}]", flow_id="files")
    execution = api.post(f"{EXECUTIONS}/company.team/files?wait=true").json()
    path = {"path": execution["taskRunList"][0]["outputs"]["uri"], "encoding": encoding}

    answer = api.get(f"{EXECUTIONS}/{execution['id']}/file/preview", params=path)

    assert (answer.status_code, answer.json()["code"]) == (422, "request.parameter.invalid")


def test_a_task_run_names_its_task_runner_while_it_runs(api: Any, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    command = f"while [ ! -e {gate} ]; do sleep 0.02; done"
    task = f"  - {{id: wait, type: scripts.shell.Commands, commands: ['{command}']}}\n"
    api.store_flow(f"id: hello\nnamespace: company.team\ntasks:\n{task}")
    execution_id = api.post(f"{EXECUTIONS}/company.team/hello").json()["id"]
    deadline = time.monotonic() + 60

    runs: list[dict[str, Any]] = []
    while not (runs and runs[0]["runner"]) and time.monotonic() < deadline:
        runs = api.get(f"{EXECUTIONS}/{execution_id}").json()["taskRunList"]
    gate.touch()
    ended = api.wait_for(execution_id, "SUCCESS")

    assert (runs[0]["state"]["current"], runs[0]["runner"]) == ("RUNNING", "core.runner.Process")
    assert ended["taskRunList"][0]["runner"] == runs[0]["runner"]
