"""The OpenAPI 3.1 document, made from the table of routes and from what the mounted applications say they answer."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any, Final

import runner
from runner.access import INSTANCE_WIDE, WEAKEST_ROLE, Permission
from webhooks import api
from webhooks.answers.flows import PROPOSED
from webhooks.call import Call
from webhooks.routes import Endpoint, Operation
from webhooks.schemas import ANYTHING, MAP, TEXT, WHOLE, Shape, listed, optional, record

_PARAMETER: Final = re.compile(r"\{(\w+)(?::\w+)?\}")
_EMPTY: Final = 204
_OPEN: Final = frozenset({Permission.PUBLIC, Permission.OWN_PROOF})
_PROBLEM: Final = Shape(
    "Problem",
    record(
        type=TEXT,
        title=TEXT,
        status=WHOLE,
        code=TEXT,
        detail=TEXT,
        message=TEXT,
        hint=optional(TEXT),
        problems=optional(listed(MAP)),
        invalids=optional(listed(TEXT)),
        id=optional(TEXT),
    ),
)
_ERRORS: Final = {
    "Problem": "What is wrong (RFC 9457).",
    "401": "There is no token, or it is unknown, revoked or expired.",
    "403": "The role or the namespaces of the token do not allow it.",
}
_SECURITY: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "A token."},
    "basic": {"type": "http", "scheme": "basic", "description": "A token as the password of any user: for git, curl."},
}


@functools.cache
def document() -> dict[str, Any]:
    """Return the document; made once."""
    shapes: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    for operation in _operations():
        path = _PARAMETER.sub(r"{\1}", operation.path)
        paths.setdefault(path, {})[operation.method.lower()] = _operation(operation, shapes)
    tags = sorted({operation.tag for operation in _operations()})
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Mainstem",
            "version": runner.__version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in tags],
        "paths": paths,
        "components": {
            "securitySchemes": _SECURITY,
            "responses": {name: _written(_problem(words), shapes) for name, words in _ERRORS.items()},
            "schemas": dict(sorted(shapes.items())),
        },
        "security": [{"bearer": []}],
    }


def _operations() -> list[Endpoint | Operation]:
    from webhooks import hosted_git, pages, receivers, staging

    mounted = (hosted_git, receivers, staging, pages)
    return [*api.endpoints(), *(each for module in mounted for each in module.OPERATIONS)]


def _problem(words: str) -> dict[str, Any]:
    return {"description": words, "content": {"application/problem+json": {"schema": _PROBLEM}}}


def _operation(operation: Endpoint | Operation, shapes: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": _operation_id(operation),
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": [
            *(_of_path(name) for name in _PARAMETER.findall(operation.path)),
            *(parameter.as_openapi() for parameter in operation.query),
        ],
        "responses": {
            **{str(status): _success(operation, status) for status in (operation.status, *operation.also)},
            "default": {"$ref": "#/components/responses/Problem"},
        },
    }
    if isinstance(operation, Endpoint) and operation.proposes:
        found["responses"]["202"] = _proposed(operation.answer)
    if operation.takes is not None:
        schema = ANYTHING if operation.body is None else operation.body
        found["requestBody"] = {"content": {operation.takes: {"schema": schema}}}
    described: dict[str, Any] = _written(found | _access(operation, found["responses"]), shapes)
    return described


def _success(operation: Endpoint | Operation, status: int) -> dict[str, Any]:
    if operation.answer is None or status == _EMPTY:
        return {"description": "Done."}
    bare = {kind: {"schema": ANYTHING} for kind in operation.or_gives}
    return {"description": "Done.", "content": {operation.gives: {"schema": operation.answer}, **bare}}


def _proposed(answer: Any) -> dict[str, Any]:
    """Return the response of a write that became a proposal: as `webhooks.proposing` makes it of the `answer`."""
    schema: Any = PROPOSED
    if isinstance(answer, Mapping) and answer.get("type") == "array":
        schema = listed(PROPOSED) if isinstance(answer["items"], Shape) else answer
    words = "Proposed, where the environment takes only proposals: nothing is active yet."
    return {"description": words, "content": {"application/json": {"schema": schema}}}


def _of_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": TEXT}


def _access(operation: Endpoint | Operation, responses: dict[str, Any]) -> dict[str, Any]:
    """Return what says who may call an operation."""
    permission = operation.permission
    if permission is None or permission in _OPEN:
        return {"security": operation.security if isinstance(operation, Operation) else []}
    refusals = {name: {"$ref": f"#/components/responses/{name}"} for name in ("401", "403")}
    reach = ", for all namespaces" if permission in INSTANCE_WIDE else ""
    return {
        "responses": responses | refusals,
        "description": f"Needs the role {WEAKEST_ROLE[permission]}{reach}.",
        "x-permission": str(permission),
    }


def _written(value: Any, shapes: dict[str, Any]) -> Any:
    """Return a part of the document with references in place of shapes, which are added to `shapes`."""
    if isinstance(value, Shape):
        if value.name not in shapes:
            shapes[value.name] = None  # so that a shape may hold itself
            shapes[value.name] = _written(value.schema, shapes)
        return {"$ref": f"#/components/schemas/{value.name}"}
    if isinstance(value, Mapping):
        return {key: _written(item, shapes) for key, item in value.items()}
    return [_written(item, shapes) for item in value] if isinstance(value, list | tuple) else value


def _operation_id(operation: Endpoint | Operation) -> str:
    path = operation.path.replace("/api/v1/{tenant}/", "").replace("/api/v1/", "instance/")
    words = [word for word in re.split(r"[^A-Za-z0-9]+", path) if word]
    return "-".join([operation.method.lower(), *words]) or operation.method.lower()


def openapi(_call: Call) -> dict[str, Any]:
    """Answer with the document."""
    return document()


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    public, path = Permission.PUBLIC, "/api/openapi.json"
    return [Endpoint("GET", path, public, openapi, "This document", "openapi", answer=MAP)]
