"""The OpenAPI document: valid, whole, and true to what handlers read. Answers are compared to it in every test."""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from webhooks.api import endpoints
from webhooks.api.openapi import document
from webhooks.call import Call
from webhooks.pages import PAGES
from webhooks.parameters import UndeclaredParameterError, flag, number
from webhooks.routes import Endpoint, build

FOLDER = Path(__file__).parents[4] / "webhooks"
UNUSED = "Not looked at"
READERS = {"query": {"string"}, "required": {"string"}, "values": {"string"}, "flag": {"boolean"}}
READERS |= {"number": {"integer"}, "count": {"integer"}}


def read_in_sources() -> dict[str, set[str]]:
    """Return the parameters that handlers read by a literal name, and as which kinds."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in FOLDER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="call" | "self"), attr=reader),
                    args=[ast.Constant(value=str(name)), *_],
                ) if reader in READERS:
                    found[name] |= READERS[reader]
    return found


def test_the_document_is_valid() -> None:
    errors = [str(error) for error in OpenAPIV31SpecValidator(document()).iter_errors()]

    assert errors == []


def test_the_document_describes_every_route_and_every_mount() -> None:
    routes = {(each.method.lower(), each.path.replace(":path}", "}")) for each in endpoints()}

    described = {(method, path) for path, item in document()["paths"].items() for method in item}

    assert routes <= described
    assert ("post", "/hooks/{repository}") in described
    assert ("get", "/git/flows.git/info/refs") in described
    assert ("put", "/staging/{grant}") in described
    assert ("get", "/metrics") in described
    assert ("get", "/health/live") in described


def test_no_two_routes_are_the_same() -> None:
    counts = Counter((each.method, each.path) for each in endpoints())

    assert [route for route, count in counts.items() if count > 1] == []


def test_every_route_says_what_it_takes_and_answers() -> None:
    # What a write of namespace files or of a key answers with has no body.
    silent = [each.path for each in endpoints() if each.answer is None and each.status != 204]
    taking = [each.path for each in endpoints() if (each.takes is None) is not (each.body is None)]

    assert all("/files" in path or path.endswith("/kv/{key}") for path in silent)
    assert taking == []


def test_what_handlers_read_is_what_routes_declare() -> None:
    declared: dict[str, set[str]] = defaultdict(set)
    queries = [*(each.query for each in endpoints()), *(each.query for each in PAGES)]
    for parameter in (each for query in queries for each in query):
        if not parameter.summary.startswith(UNUSED):
            declared[parameter.name].add(parameter.kind)
    read = read_in_sources()

    undeclared = {name: kinds for name, kinds in read.items() if not kinds <= declared.get(name, set())}

    assert undeclared == {}


def test_a_handler_cannot_read_what_its_route_does_not_declare(api: Any) -> None:
    def handler(call: Call) -> list[Any]:
        return [call.flag("wide"), call.number("count"), call.query("secret")]

    query = (flag("wide", "Wide."), number("count", "Rows.", 3))
    endpoint = Endpoint("GET", "/x", endpoints()[0].permission, handler, "x", "x", query=query)
    call = Call(_Request(), api.services, endpoint.permission, None, {each.name: each for each in query})  # type: ignore[arg-type]

    assert build([endpoint], (), api.services)
    with pytest.raises(UndeclaredParameterError, match="secret"):
        handler(call)


class _Request:
    """A request without a query."""

    query_params: dict[str, str] = {}  # noqa: RUF012 - never changed
    scope: dict[str, str] = {"path": "/x"}  # noqa: RUF012 - never changed


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/v1/main/flows/search?size=1001", 422),
        ("/api/v1/main/flows/search?page=0", 422),
        ("/api/v1/main/flows/search?page=-9999999999999", 422),
        ("/api/v1/main/flows/search?page=²", 422),
        ("/api/v1/main/flows/search?filters[namespace][ODD]=a", 400),
        ("/api/v1/main/flows/source?q=a&regex=1", 400),
        ("/api/v1/main/executions/x/file", 404),
        ("/api/v1/main/executions?flowId=a", 400),
        ("/api/v1/main/triggers/search?dateFilter=ODD", 400),
    ],
)
def test_a_parameter_outside_of_what_is_declared_is_refused(api: Any, path: str, status: int) -> None:
    assert api.get(path).status_code == status
