"""Every route, asked by everybody: nobody gets more than the route's permission says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.routing import Mount, Route

from runner.access import WEAKEST_ROLE, Permission, Role
from webhooks import api as resources
from webhooks.app import create_app
from webhooks.routes import Endpoint, Mounted, UndeclaredRouteError, build
from webhooks.services import Services

OPEN = {Permission.PUBLIC, Permission.OWN_PROOF}
VALUES = {
    "{tenant}": "main",
    "{namespace}": "company.team",
    "{id}": "nothing",
    "{flowId}": "nothing",
    "{key}": "nothing",
    "{name}": "nothing",
    "{path:path}": "nothing",
}


def address_of(endpoint: Endpoint) -> str:
    path = endpoint.path
    for name, value in VALUES.items():
        path = path.replace(name, value)
    return path


@pytest.fixture
def asked(api: Any) -> Callable[[Endpoint, str | None], int]:
    def ask(endpoint: Endpoint, token: str | None) -> int:
        # `no token at all` is None, `wrong` is sent as it stands because no token has this name.
        return int(api.request(endpoint.method, address_of(endpoint), token=token).status_code)

    return ask


def test_nobody_gets_in_without_a_token_or_with_a_wrong_one(asked: Callable[[Endpoint, str | None], int]) -> None:
    closed = [endpoint for endpoint in resources.endpoints() if endpoint.permission not in OPEN]

    statuses = {
        (endpoint.method, endpoint.path, token): asked(endpoint, token)
        for endpoint in closed
        for token in (None, "wrong")
    }

    assert len(closed) > 40
    assert {key: status for key, status in statuses.items() if status != 401} == {}


def test_each_role_gets_exactly_what_its_rank_allows(asked: Callable[[Endpoint, str | None], int]) -> None:
    closed = [endpoint for endpoint in resources.endpoints() if endpoint.permission not in OPEN]

    wrong = []
    for endpoint in closed:
        assert endpoint.permission is not None
        for role in Role:
            may = role.rank >= WEAKEST_ROLE[endpoint.permission].rank
            status = asked(endpoint, str(role))
            if (status == 403) is may or status == 401 or status >= 500:
                wrong.append((endpoint.method, endpoint.path, role, status))

    assert wrong == []


def test_an_admin_of_another_namespace_finds_nothing(asked: Callable[[Endpoint, str | None], int]) -> None:
    closed = [endpoint for endpoint in resources.endpoints() if endpoint.permission not in OPEN]

    wrong = []
    for endpoint in closed:
        status = asked(endpoint, "other")
        if "{namespace}" in endpoint.path and status != 403:
            wrong.append((endpoint.method, endpoint.path, status))

    assert wrong == []


def test_a_refusal_is_written_to_the_audit_log(api: Any) -> None:
    api.put("/api/v1/main/flows/company.team/hello", token="viewer")

    api.services.store.flush()
    rows = api.services.store.read(lambda db: db.audit.list(10))

    assert any((row.actor, row.action, row.result) == ("viewer", "flow.write", "REFUSED") for row in rows)


def test_a_route_without_a_permission_keeps_the_server_from_starting(make_services: Callable[..., Services]) -> None:
    services = make_services()
    undeclared = Endpoint("GET", "/x", None, lambda _call: {}, "x", "x")

    async def app(*_: Any) -> None:
        raise AssertionError

    with pytest.raises(UndeclaredRouteError, match="GET /x"):
        build([undeclared], (), services)
    with pytest.raises(UndeclaredRouteError, match="/hooks"):
        build([], [Mounted("/hooks", app, None)], services)


def test_every_route_of_the_application_comes_from_the_table(api: Any) -> None:
    table = {endpoint.path for endpoint in resources.endpoints()}

    routes = create_app(api.services).routes

    assert all(isinstance(route, (Route, Mount)) for route in routes)
    assert {route.path for route in routes if isinstance(route, Route)} == table


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/main/flows/company.team/configs"),
        ("GET", "/api/v1/main/namespaces/company.team/kv/health"),
        ("GET", "/api/v1/main/flows/search/"),
        ("GET", "/API/v1/main/flows/search"),
        ("GET", "/api/v1/main/flows/search%2f"),
        ("GET", "/api/v1/main/%2e%2e/main/flows/search"),
        ("GET", "//api/v1/main/flows/search"),
        ("GET", "/api/v1/main/flows/search;/health/live"),
        ("HEAD", "/api/v1/main/flows/search"),
        ("OPTIONS", "/api/v1/main/flows/search"),
        ("GET", "/api/v1/configs"),
        ("GET", "/health/live/../../metrics"),
        ("GET", "/metrics"),
    ],
)
def test_no_shape_of_a_path_gets_past_the_permission(api: Any, method: str, path: str) -> None:
    headers = {"x-original-url": "/health/live", "x-http-method-override": "GET", "x-forwarded-prefix": "/health"}

    answer = api.request(method, path, token=None, headers=headers)

    assert answer.status_code in {400, 401, 404, 405}
    assert "results" not in answer.text


@pytest.mark.parametrize("tenant", ["other", "MAIN", "main "])
def test_there_is_one_tenant(api: Any, tenant: str) -> None:
    assert api.get(f"/api/v1/{tenant}/flows/search").status_code == 404


@pytest.mark.parametrize("path", ["/api/v1/main/executions/x/actions/restart", "/api/v1/main/blueprints", "/nothing"])
def test_a_route_that_does_not_exist_is_a_problem_document(api: Any, path: str) -> None:
    answer = api.get(path)

    assert answer.status_code in {404, 405}
    assert answer.headers["content-type"].startswith("application/problem+json")
    assert answer.json()["code"] in {"route.missing", "route.method.wrong"}


def test_what_nobody_expected_is_answered_with_an_id_only(api: Any, caplog: Any) -> None:
    def broken() -> list[str]:
        raise RuntimeError("the password is hunter2")

    api.services.ready = broken

    answer = api.get("/health/ready")

    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert any(getattr(record, "error_id", None) == answer.json()["id"] for record in caplog.records)


def test_every_answer_carries_the_security_headers(api: Any) -> None:
    for answer in (api.get("/"), api.get("/nothing"), api.get("/metrics", token=None)):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), (None, 200)]
)
def test_pages_of_other_sites_change_nothing(api: Any, site: str | None, status: int) -> None:
    headers = {"sec-fetch-site": site} if site else {}

    changed = api.put("/api/v1/main/namespaces/company/kv/a", content="1", headers=headers)
    read = api.get("/api/v1/main/kv", headers=headers)
    refused = api.get("/api/v1/main/kv", token=None)

    assert (changed.status_code, read.status_code) == (status, 200)
    assert "basic" not in refused.headers["www-authenticate"].lower()
