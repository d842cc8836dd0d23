from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from runner.errors import StoreError
from runner.executions.engine import Engine
from runner.store.records import TriggerState
from runner.triggers.webhook import find
from tests.servers.application import serving
from tests.servers.busy_secrets import BusySecrets

HOOKED = """id: hello
namespace: company.team
tasks:
  - {id: back, type: core.debug.Return, format: "{{ trigger.body.name ?? trigger.body ?? 'nobody' }}"}
outputs:
  - {id: name, type: STRING, value: "{{ outputs.back.value }}"}
triggers:
  - id: hook
    type: core.trigger.Webhook
    key: s3cret
    wait: true
    returnOutputs: true
"""
HOOK = "/api/v1/main/executions/webhook/company.team/hello"


@pytest.mark.parametrize("base", ["/api/v1/main", "/api/v1"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_the_key_starts_the_flow_without_a_token(api: Any, base: str, method: str) -> None:
    api.store_flow(HOOKED)

    answer = api.request(method, f"{base}/executions/webhook/company.team/hello/s3cret", token=None)

    body = answer.json()
    assert answer.status_code == 200
    assert (body["flowId"], body["state"]["current"], body["outputs"]) == ("hello", "SUCCESS", {"name": "nobody"})
    assert body["trigger"]["id"] == "hook"


@pytest.mark.parametrize(
    ("content", "name"), [(b'{"name": "ann"}', "ann"), (b"plain text", "plain text"), (b"\xff", "\ufffd")]
)
def test_the_body_arrives_as_json_or_text(api: Any, content: bytes, name: str) -> None:
    api.store_flow(HOOKED)

    body = api.post(f"{HOOK}/s3cret", token=None, content=content).json()

    assert body["outputs"] == {"name": name}


def test_headers_and_parameters_arrive_but_no_credentials(api: Any) -> None:
    api.store_flow(HOOKED)
    headers = {"x-event": "push", "cookie": "session=1"}

    variables = api.post(f"{HOOK}/s3cret/some/path?a=1&a=2", headers=headers).json()["trigger"]["variables"]

    assert variables["parameters"] == {"a": ["1", "2"]}
    assert variables["headers"]["x-event"] == ["push"]
    assert variables["path"] == "some/path"
    assert "authorization" not in variables["headers"]
    assert "cookie" not in variables["headers"]


@pytest.mark.parametrize(
    "path", ["company.team/hello/wrong", "company.team/hello/s3cre", "company.team/nothing/s3cret"]
)
def test_an_unknown_flow_and_a_wrong_key_get_the_same_answer(api: Any, path: str) -> None:
    api.store_flow(HOOKED)

    answer = api.post(f"/api/v1/main/executions/webhook/{path}", token=None)

    assert (answer.status_code, answer.json()["detail"]) == (404, "Flow not found or Webhook not found")


def test_a_trigger_that_is_switched_off_is_not_there(api: Any) -> None:
    api.store_flow(HOOKED)
    row = TriggerState("company.team", "hello", "hook", kind="WEBHOOK", disabled=True)
    api.services.store.write(lambda db: db.triggers.put(row))

    assert api.post(f"{HOOK}/s3cret", token=None).status_code == 404


def test_conditions_that_do_not_hold_start_nothing(api: Any) -> None:
    api.store_flow(HOOKED + '    when: "{{ trigger.parameters.go is defined }}"\n')

    refused = api.post(f"{HOOK}/s3cret", token=None)
    started = api.post(f"{HOOK}/s3cret?go=1", token=None)

    assert (refused.status_code, refused.content) == (204, b"")
    assert started.status_code == 200


def test_a_disabled_flow_is_a_conflict(api: Any) -> None:
    api.store_flow(HOOKED + "disabled: true\n")

    assert api.post(f"{HOOK}/s3cret", token=None).status_code == 409


def test_too_long_a_backlog_is_answered_with_when_to_come_back(api: Any) -> None:
    api.store_flow(HOOKED)
    engine: Engine = api.services.engine
    backlog: Callable[[], int] = lambda: 1_000_000  # noqa: E731 - what the engine asks
    engine.backlog = backlog

    answer = api.post(f"{HOOK}/s3cret", token=None)

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


def test_a_body_over_a_mebibyte_is_refused(api: Any) -> None:
    api.store_flow(HOOKED)

    assert api.post(f"{HOOK}/s3cret", token=None, content=b"x" * (1024 * 1024 + 1)).status_code == 413


def test_who_knows_no_key_cannot_make_the_server_wait_for_a_body(api: Any, serving: Callable[[Any], int]) -> None:
    api.store_flow(HOOKED)
    port = serving(api.app)
    head = f"POST {HOOK}/wrong HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n"

    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head.encode())
        answer = connection.recv(65536)

    assert answer.startswith(b"HTTP/1.1 404")


@pytest.mark.parametrize(
    ("kind", "more", "body"),
    [
        ("text/plain", "", "ann"),
        ("text/plain", "  - {id: n, type: INT, value: '3'}\n", '{"name":"ann","n":3}'),
        ("application/json", "", '{"name":"ann"}'),
    ],
)
def test_outputs_alone_are_the_answer_when_a_content_type_is_named(api: Any, kind: str, more: str, body: str) -> None:
    source = HOOKED.replace("triggers:\n", f"{more}triggers:\n") + f"    responseContentType: {kind}\n"
    api.store_flow(source)

    answer = api.post(f"{HOOK}/s3cret", token=None, content=b'{"name": "ann"}')

    assert (answer.status_code, answer.text) == (200, body)
    assert answer.headers["content-type"].split(";")[0] == kind
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_failure_behind_a_bare_answer_shows_in_the_status(api: Any) -> None:
    failing = HOOKED.replace("outputs:\n", "  - {id: no, type: core.execution.Fail}\noutputs:\n")
    api.store_flow(failing + "    responseContentType: text/plain\n")

    assert api.post(f"{HOOK}/s3cret", token=None).status_code == 500


def test_a_key_is_a_secret_and_inputs_come_from_the_request(api: Any) -> None:
    kept = api.services.settings.home / "secrets.yaml"
    kept.touch(mode=0o600)
    kept.write_text("company.team: {KEY: s3cret}\n")
    source = HOOKED.replace("key: s3cret", "key: \"{{ secret('KEY') }}\"\n    inputs: {who: '{{ trigger.body.name }}'}")
    api.store_flow(source.replace("tasks:\n", "inputs: [{id: who, type: STRING}]\ntasks:\n"))

    answer = api.post(f"{HOOK}/s3cret", token=None, content=b'{"name": "ann"}')

    assert answer.json()["inputs"] == {"who": "ann"}


class SlowBackend:
    """A place of secrets that answers once the event loop of the server has done something else meanwhile."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop

    def get(self, _namespace: str, key: str) -> str | None:
        answered = threading.Event()
        self.loop.call_soon_threadsafe(answered.set)
        return "s3cret" if key == "HOOK" and answered.wait(5) else None

    def keys(self, _namespace: str) -> list[str]:
        return []

    def values(self) -> Iterator[str]:
        return iter(())


def test_beside_a_database_that_is_slow_others_are_answered(make_services: Callable[..., Any]) -> None:
    services = make_services()
    elsewhere = services.settings.model_copy(update={"database": "postgresql://db/mainstem"})
    with serving(replace(services, settings=elsewhere)) as api:
        services.host.secrets._backends = (SlowBackend(api.loop),)
        api.store_flow(HOOKED.replace("s3cret", "\"{{ secret('HOOK') }}\""))

        answer = api.post(f"{HOOK}/s3cret", token=None)

    assert answer.status_code == 200


def test_a_key_that_cannot_be_looked_up_just_then_is_no_unknown_one(api: Any) -> None:
    api.services.host.secrets._backends = (BusySecrets(),)
    api.store_flow(HOOKED.replace("s3cret", "\"{{ secret('HOOK') }}\""))

    engine: Engine = api.services.engine
    flow = engine.catalogue.get("company.team", "hello")

    with pytest.raises(StoreError):
        find(engine, flow, "s3cret")
    after = api.post(f"{HOOK}/s3cret", token=None)

    assert after.status_code == 200


class Gate:
    """A place of secrets that answers once it is open."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.waiting = 0

    def get(self, _namespace: str, _key: str) -> str | None:
        self.waiting += 1
        assert self.open.wait(60)
        return "s3cret"

    def keys(self, _namespace: str) -> list[str]:
        return []

    def values(self) -> Iterator[str]:
        return iter(())


def test_webhooks_that_wait_take_no_thread_from_others(make_services: Callable[..., Any]) -> None:
    services, gate = make_services(), Gate()
    elsewhere = services.settings.model_copy(update={"database": "postgresql://db/mainstem"})

    async def many(api: Any) -> tuple[int, list[int]]:
        waiting = [asyncio.create_task(api.client.post(f"{HOOK}/s3cret")) for _ in range(60)]
        async with asyncio.timeout(60):
            while gate.waiting < 16:  # noqa: ASYNC110 - counted by threads
                await asyncio.sleep(0.01)
        headers = {"authorization": f"Bearer {api.tokens['admin']}"}
        search = asyncio.create_task(api.client.get("/api/v1/main/executions/search", headers=headers))
        done, _ = await asyncio.wait([search], timeout=10)
        gate.open.set()
        answers = await asyncio.gather(*waiting)
        return len(done), [each.status_code for each in answers]

    with serving(replace(services, settings=elsewhere)) as api:
        services.host.secrets._backends = (gate,)
        api.store_flow(HOOKED.replace("s3cret", "\"{{ secret('HOOK') }}\"").replace("wait: true", "wait: false"))
        answered, codes = api.loop.run_until_complete(many(api))

    assert (answered, set(codes)) == (1, {200})
