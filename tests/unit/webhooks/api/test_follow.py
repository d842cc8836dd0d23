"""Streams over real sockets: what a client sees while an execution runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import orjson
import pytest
from starlette.types import ASGIApp

from tests.servers.visitor import Visitor

Frame = tuple[str, Any]
TWO_STEPS = """id: hello
namespace: company.team
tasks:
  - {id: one, type: core.log.Log, message: first}
  - {id: gate, type: core.flow.Pause}
  - {id: two, type: core.log.Log, message: second, level: ERROR}
"""


def frames(response: httpx.Response) -> Iterator[Frame]:
    kind = ""
    for line in response.iter_lines():
        if line.startswith("id: "):
            kind = line[4:]
        elif line.startswith("data: "):
            yield kind, orjson.loads(line[6:])


@pytest.fixture
def client(api: Any, serving: Callable[[ASGIApp], int]) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {api.tokens['admin']}"}
    with httpx.Client(base_url=f"http://127.0.0.1:{serving(api.app)}", headers=headers, timeout=15) as client:
        yield client


@pytest.fixture
def paused(api: Any) -> str:
    api.store_flow(TWO_STEPS)
    execution_id: str = api.post("/api/v1/main/executions/company.team/hello").json()["id"]
    api.wait_for(execution_id, "PAUSED")
    return execution_id


def test_an_execution_is_followed_to_its_end(api: Any, client: httpx.Client, paused: str) -> None:
    seen: list[Frame] = []

    with client.stream("GET", f"/api/v1/main/executions/{paused}/follow") as response:
        for frame in frames(response):
            if not seen:
                api.post(f"/api/v1/main/executions/{paused}/resume")
            seen.append(frame)

    assert response.headers["content-type"].startswith("text/event-stream")
    assert [kind for kind, _ in seen] == ["progress"] * (len(seen) - 1) + ["end"]
    assert seen[0][1]["state"]["current"] == "PAUSED"
    assert seen[-1][1]["state"]["current"] == "SUCCESS"


def test_an_ended_execution_gives_one_frame(api: Any, client: httpx.Client, paused: str) -> None:
    api.delete(f"/api/v1/main/executions/{paused}/kill")
    api.wait_for(paused, "KILLED")

    with client.stream("GET", f"/api/v1/main/executions/{paused}/follow") as response:
        seen = list(frames(response))

    assert [(kind, body["state"]["current"]) for kind, body in seen] == [("end", "KILLED")]


def test_a_log_is_followed_from_its_first_line_to_its_last(api: Any, client: httpx.Client, paused: str) -> None:
    seen: list[Frame] = []

    with client.stream("GET", f"/api/v1/main/logs/{paused}/follow") as response:
        for frame in frames(response):
            if not seen:
                api.post(f"/api/v1/main/executions/{paused}/resume")
            seen.append(frame)

    assert [(kind, body.get("message")) for kind, body in seen] == [
        ("progress", "first"),
        ("progress", "second"),
        ("end", None),
    ]


def test_a_log_can_be_followed_from_a_level_on(api: Any, client: httpx.Client, paused: str) -> None:
    api.post(f"/api/v1/main/executions/{paused}/resume")

    with client.stream("GET", f"/api/v1/main/logs/{paused}/follow?minLevel=ERROR") as response:
        seen = list(frames(response))

    assert [body.get("message") for _, body in seen] == ["second", None]


def test_following_what_is_not_there_fails_before_the_stream_begins(client: httpx.Client) -> None:
    for path in ("/api/v1/main/executions/x/follow", "/api/v1/main/logs/x/follow"):
        assert client.get(path).status_code == 404


def test_a_stream_ends_with_the_token_that_opened_it(api: Any, client: httpx.Client, paused: str) -> None:
    headers = {"authorization": f"Bearer {api.services.access.create('visitor', 'viewer')[0]}"}
    seen: list[Frame] = []

    with client.stream("GET", f"/api/v1/main/executions/{paused}/follow", headers=headers) as response:
        for frame in frames(response):
            if not seen:
                api.services.access.revoke("visitor")
                api.post(f"/api/v1/main/executions/{paused}/resume")
            seen.append(frame)

    assert [body["state"]["current"] for _, body in seen] == ["PAUSED"]


def test_the_live_page_of_an_execution_ends_with_the_token_of_its_session(
    api: Any, client: httpx.Client, paused: str
) -> None:
    api.tokens["visitor"] = api.services.access.create("visitor", "viewer")[0]
    cookie = Visitor(api).sign_in("visitor").headers["cookie"]
    page = f"/ui/main/executions/company.team/hello/{paused}/stream"
    seen: list[str] = []

    with client.stream("GET", page, headers={"cookie": cookie, "authorization": ""}) as response:
        for line in response.iter_lines():
            if line.startswith("id: ") and not seen:
                api.services.access.revoke("visitor")
                api.post(f"/api/v1/main/executions/{paused}/resume")
            seen += [line] if line.startswith(("id: ", "event: ")) else []

    assert len(seen) == 1


def test_a_client_that_goes_away_ends_its_stream(api: Any, client: httpx.Client, paused: str) -> None:
    changes = api.services.engine.changes
    with client.stream("GET", f"/api/v1/main/executions/{paused}/follow") as response:
        next(frames(response))

    gone = threading.Event()
    for _ in range(100):
        if not changes._listeners:
            gone.set()
            break
        gone.wait(0.1)

    assert gone.is_set()


def test_inputs_arrive_as_fields_and_files(api: Any, client: httpx.Client) -> None:
    source = """id: hello
namespace: company.team
inputs:
  - {id: text, type: STRING}
  - {id: number, type: INT}
  - {id: data, type: FILE}
tasks:
  - {id: back, type: core.debug.Return, format: "{{ inputs.text }} {{ inputs.number + 1 }} {{ read(inputs.data) }}"}
"""
    api.store_flow(source)

    body = client.post(
        "/api/v1/main/executions/company.team/hello?wait=true",
        data={"text": "äöü", "number": "41"},
        files={"data": ("../../etc/passwd", b"content")},
    ).json()

    assert body["state"]["current"] == "SUCCESS", body
    assert body["taskRunList"][0]["outputs"]["value"] == "äöü 42 content"
    assert body["inputs"]["data"].endswith("/passwd")
    assert ".." not in body["inputs"]["data"]


def test_an_empty_multipart_body_is_no_inputs(api: Any, client: httpx.Client) -> None:
    api.store_flow(TWO_STEPS)

    answer = client.post(
        "/api/v1/main/executions/company.team/hello",
        content=b"--x--\r\n",
        headers={"content-type": "multipart/form-data; boundary=x"},
    )

    assert answer.status_code == 200


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/form-data; boundary="])
def test_a_multipart_body_without_a_boundary_is_malformed(api: Any, client: httpx.Client, kind: str) -> None:
    api.store_flow(TWO_STEPS)

    answer = client.post("/api/v1/main/executions/company.team/hello", content=b"x", headers={"content-type": kind})

    assert answer.status_code == 400


def test_streams_end_when_the_server_stops(api: Any, client: httpx.Client, paused: str) -> None:
    with client.stream("GET", f"/api/v1/main/executions/{paused}/follow") as response:
        seen = []
        for frame in frames(response):
            seen.append(frame)
            api.services.closing.set()

    assert [kind for kind, _ in seen] == ["progress"]
