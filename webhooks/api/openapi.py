"""The OpenAPI 3.1 document, made from the table of routes."""

from __future__ import annotations

import functools
import re
from typing import Any

import runner
from runner.access import WEAKEST_ROLE, Permission
from webhooks import api
from webhooks.call import Call
from webhooks.routes import Endpoint

_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
_OPEN = frozenset({Permission.PUBLIC, Permission.OWN_PROOF})
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "hint": {"type": "string"},
        "problems": {"type": "array", "items": {"type": "object"}},
    },
}


@functools.cache
def document() -> dict[str, Any]:
    """Return the document; made once."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in api.endpoints():
        path = _PARAMETER.sub(r"{\1}", endpoint.path)
        paths.setdefault(path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Mainstem",
            "version": runner.__version__,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Problem": _PROBLEM},
        },
        "security": [{"token": []}],
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    problem = {"content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    operation: dict[str, Any] = {
        "operationId": _operation_id(endpoint),
        "summary": endpoint.summary,
        "tags": [endpoint.tag],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in _PARAMETER.findall(endpoint.path)
        ],
        "responses": {
            str(endpoint.status): {"description": "done", "content": {endpoint.gives: {}}},
            "default": {"description": "an error", **problem},
        },
    }
    if endpoint.takes is not None:
        operation["requestBody"] = {"content": {endpoint.takes: {}}}
    if endpoint.permission in _OPEN:
        operation["security"] = []
    elif endpoint.permission is not None:
        operation["description"] = f"Needs the role {WEAKEST_ROLE[endpoint.permission]}."
        operation["x-permission"] = str(endpoint.permission)
    return operation


def _operation_id(endpoint: Endpoint) -> str:
    path = endpoint.path.replace("/api/v1/{tenant}/", "").replace("/api/v1/", "instance/")
    words = [word for word in re.split(r"[^A-Za-z0-9]+", path) if word]
    return "-".join([endpoint.method.lower(), *words]) or endpoint.method.lower()


def openapi(_call: Call) -> dict[str, Any]:
    """Answer with the document."""
    return document()


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    return [Endpoint("GET", "/api/openapi.json", Permission.PUBLIC, openapi, "This document", "openapi")]
