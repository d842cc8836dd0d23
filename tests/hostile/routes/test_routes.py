"""Every route, asked by somebody who means ill: wrong bodies and parameters, names of others, ways out of a folder."""

from __future__ import annotations

import re
from typing import Any

import pytest

from runner.access import Permission, Role
from runner.namespace_files import MOST_BYTES
from webhooks.api import endpoints
from webhooks.guard import traffic_of
from webhooks.routes import Endpoint

OPEN = {Permission.PUBLIC, Permission.OWN_PROOF}
VALUES = {"tenant": "main", "namespace": "company.team", "id": "hello", "flowId": "hello", "path": "a/b"}
FLOW = "id: hello\nnamespace: company.team\ntasks:\n  - {id: say, type: core.log.Log, message: hi}\n"
BODIES = [
    b"null",
    b"[]",
    b"{}",
    b'"text"',
    b"[null, 1, [], {}]",
    b'[{"id": null, "namespace": ["x"], "flowId": {}, "triggerId": 1}]',
    b'{"triggers": 1, "filters": [1], "keys": {}, "flows": {}, "query": [], "backfill": [], "executionsId": "x"}',
    b"[" * 100_000,
    b'{"a": "\xed\xa0\x80"}',
    b'{"id": "a\\u0000b", "namespace": "a\\u0000b", "flowId": "\\u0000", "triggerId": "\\u0000", "name": "\\u0000"}',
]
TEXTS = ["\0", "9" * 30, "-1", "\ud7ff\U0001f4a5", "' OR 1=1 --", "[]{}%", "../../etc/passwd", "a" * 3_000]
WAYS_OUT = [
    "../secrets.yaml",
    "../../../../etc/passwd",
    "/etc/passwd",
    ".git/config",
    "a/../../x",
    "..\\x",
    "_files/../x",
]


def address(endpoint: Endpoint, **values: str) -> str:
    """Return the path of a route with all its parameters filled in."""
    path = endpoint.path.replace(":path}", "}")
    return re.sub(r"\{(\w+)\}", lambda name: (VALUES | values).get(name[1], "nothing"), path)


def closed() -> list[Endpoint]:
    return [each for each in endpoints() if each.permission not in OPEN and each.gives != "text/event-stream"]


@pytest.fixture
def asked(git_api: Any) -> Any:
    """A server with one flow, asked without a limit on refusals being in the way."""
    assert git_api.post("/api/v1/main/flows", content=FLOW).status_code == 200
    return git_api


def test_no_body_makes_a_route_fail(asked: Any) -> None:
    failed = []
    for endpoint in closed():
        for body in BODIES if endpoint.takes is not None else ():
            kind = endpoint.takes if endpoint.takes != "*/*" else "application/json"
            headers = {"content-type": f"{kind}; boundary=x"}
            answer = asked.request(endpoint.method, address(endpoint), content=body, headers=headers)
            if answer.status_code >= 500:
                failed.append((endpoint.method, endpoint.path, body[:60], answer.status_code))

    assert failed == []


def test_no_parameter_makes_a_route_fail(asked: Any) -> None:
    failed = []
    for endpoint in closed():
        for value in TEXTS if endpoint.query and endpoint.method == "GET" else ():
            query = {parameter.name: value for parameter in endpoint.query}
            if "filters" in query:
                query |= {"filters[namespace][EQUALS]": value, "filters[q][REGEX]": value}
            status = asked.get(address(endpoint), params=query).status_code
            if status >= 500:
                failed.append((endpoint.path, value, status))

    assert failed == []


def test_a_name_that_looks_like_ones_own_namespace_is_not(asked: Any) -> None:
    secret, _ = asked.services.access.create("mine", Role.ADMIN, namespaces=["company.team"])
    guarded = [endpoint for endpoint in closed() if "{namespace}" in endpoint.path]

    statuses = {
        (endpoint.method, endpoint.path, name): asked.request(
            endpoint.method, address(endpoint, namespace=name), token=secret
        ).status_code
        for endpoint in guarded
        for name in ("company.team-evil", "company.teamx", "company..team", "Company.team", "company", "*")
    }

    assert {route: status for route, status in statuses.items() if status not in {400, 403}} == {}


def test_another_tenant_is_nowhere(asked: Any) -> None:
    found = {
        (endpoint.method, endpoint.path): asked.request(endpoint.method, address(endpoint, tenant="other")).status_code
        for endpoint in closed()
        if "{tenant}" in endpoint.path
    }

    assert {route: status for route, status in found.items() if status != 404} == {}


def test_bodies_that_are_too_large_are_not_read(asked: Any) -> None:
    found = {}
    for endpoint in closed():
        traffic = traffic_of(endpoint.method, address(endpoint))
        if endpoint.takes is not None and traffic.max_bytes <= 16 << 20:
            headers = {"content-length": str(traffic.max_bytes + 1)}
            found[endpoint.path] = asked.request(endpoint.method, address(endpoint), headers=headers).status_code

    assert len(found) > 40
    assert set(found.values()) == {413}


def test_no_path_leads_out_of_the_files_of_a_namespace(asked: Any) -> None:
    place = "/api/v1/main/namespaces/company.team/files"
    (asked.services.settings.home / "secrets.yaml").write_text("company: {A: the-secret}\n")
    asked.post(f"{place}?path=inside.txt", files={"fileContent": ("file", b"inside")})

    answers = [
        asked.get(f"{place}{route}", params={"path": path})
        for route in ("", "/stats", "/directory", "/revisions")
        for path in WAYS_OUT
    ]

    assert {answer.status_code for answer in answers} <= {400, 404, 422}
    assert all("the-secret" not in answer.text and "root:" not in answer.text for answer in answers)


def test_a_file_name_cannot_write_headers(asked: Any) -> None:
    place = "/api/v1/main/namespaces/company.team/files"
    names = ['a"; filename="b.exe', "ä\u202efdp.exe", "a%0d%0aSet-Cookie: x", "<script>.html"]
    written = {
        name: asked.post(place, params={"path": name}, files={"fileContent": ("file", b"x")}).status_code
        for name in names
    }

    answers = [asked.get(place, params={"path": name}) for name, status in written.items() if status == 200]

    assert set(written.values()) <= {200, 422}
    assert len(answers) >= 2
    for answer in answers:
        shown = answer.headers["content-disposition"]
        assert shown.startswith("attachment; filename*=UTF-8''")
        assert not set('";\r\n<') & set(shown.partition("UTF-8''")[2])
        assert "set-cookie" not in answer.headers
        assert "sandbox" in answer.headers["content-security-policy"]


FLOW_NAME = {"namespace": "company.team", "id": "hello"}
TRIGGER = {"namespace": "company.team", "flowId": "hello", "triggerId": "t"}
BY_BODY: list[tuple[str, str, Any]] = [
    ("PUT", "triggers/set-disabled", {**TRIGGER, "disabled": True}),
    ("PUT", "triggers/backfill/create", TRIGGER),
    ("POST", "triggers/unlock/by-triggers", [TRIGGER]),
    ("DELETE", "flows/delete/by-ids", [FLOW_NAME]),
    ("POST", "flows/disable/by-ids", [FLOW_NAME]),
    ("POST", "flows/export/by-ids", [FLOW_NAME]),
    ("POST", "flows/source/replace/line", {"query": "h", "replacement": "x", "line": 1, **FLOW_NAME}),
]


def test_what_a_body_names_is_guarded_like_what_a_path_names(asked: Any) -> None:
    statuses = {
        route: asked.request(method, f"/api/v1/main/{route}", json=body, token="other").status_code
        for method, route, body in BY_BODY
    }

    assert {route: status for route, status in statuses.items() if status not in {403, 404}} == {}
    assert asked.get("/api/v1/main/flows/company.team/hello").json()["revision"] == 1


def test_a_replacement_tells_nothing_of_flows_of_others(asked: Any) -> None:
    body = {"query": "h", "replacement": "x", "flows": [{"namespace": "company.team", "id": "hello"}]}

    answer = asked.post("/api/v1/main/flows/source/replace/apply", json=body, token="other").json()

    assert [row["reason"] for row in answer["skipped"]] == ["NOT_FOUND"]
    assert answer["updated"] == []


def test_a_file_of_a_namespace_may_be_as_large_as_git_should_keep_and_no_larger(asked: Any) -> None:
    place = "/api/v1/main/namespaces/company.team/files"
    sizes = {"fits.bin": MOST_BYTES, "large.bin": MOST_BYTES + 1, "huge.bin": 12 << 20}

    statuses = {
        name: asked.post(f"{place}?path={name}", files={"fileContent": ("file", b"x" * size)}).status_code
        for name, size in sizes.items()
    }

    assert statuses == {"fits.bin": 200, "large.bin": 422, "huge.bin": 413}
