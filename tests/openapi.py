"""Whether an answer of the API is what its OpenAPI document says, to the last property."""

from __future__ import annotations

import functools
import re
from typing import Any

import httpx
from jsonschema import Draft202012Validator

from webhooks.api.openapi import document

_NAME = re.compile(r"\\\{(\w+)\\\}")


def check_answer(answer: httpx.Response) -> None:
    """Fail when the document has no such answer, or another shape of it."""
    found = operation_of(answer.request.method, answer.request.url.path)
    if found is None:
        assert answer.status_code in {400, 401, 404, 405}, f"{answer.request.url.path} is not documented"
        return
    known = _at((*found, "responses"))
    place = (*found, "responses", str(answer.status_code) if str(answer.status_code) in known else "default")
    assert place[-1] != "default" or answer.status_code >= 400, f"{found} may answer {answer.status_code}"
    kinds = _at(place).get("content", {}) if "$ref" not in _at(place) else _problem()
    if not answer.content and not kinds:
        return
    kind = answer.headers.get("content-type", "").partition(";")[0]
    assert kind in kinds, f"{answer.request.url.path} answers {kind}, not {', '.join(kinds)}"
    if kind.endswith("json"):
        problems = [error.message for error in _validator(place).iter_errors(answer.json())]
        assert not problems, f"{answer.request.method} {answer.request.url.path}: {problems[:3]}"


def operation_of(method: str, path: str) -> tuple[str, ...] | None:
    """Return where in the document an operation stands, the most specific path first; None when it does not."""
    for pattern, template, methods in _templates():
        if method.lower() in methods and pattern.fullmatch(path):
            return ("paths", template, method.lower())
    return None


@functools.cache
def _templates() -> list[tuple[re.Pattern[str], str, frozenset[str]]]:
    found = []
    for template, item in document()["paths"].items():
        # `{path}` is the one parameter that may hold slashes.
        pattern = _NAME.sub(lambda name: ".+" if name[1] == "path" else "[^/]+", re.escape(template))
        found.append((re.compile(pattern), template, frozenset(item)))
    return sorted(found, key=lambda each: [part.startswith("{") + (part == "{path}") for part in each[1].split("/")])


def _at(place: tuple[str, ...]) -> Any:
    value: Any = document()
    for key in place:
        assert key in value, f"{' '.join(place)} is not documented"
        value = value[key]
    return value


def _problem() -> Any:
    return document()["components"]["responses"]["Problem"]["content"]


@functools.cache
def _validator(place: tuple[str, ...]) -> Any:
    kinds = _problem() if "$ref" in _at(place) else _at(place)["content"]
    schema = next(content["schema"] for kind, content in kinds.items() if kind.endswith("json"))
    strict = _strict({**schema, "components": document()["components"]})
    return Draft202012Validator(strict)


def _strict(value: Any) -> Any:
    """Return a schema that lets no property through that it does not name."""
    if isinstance(value, list):
        return [_strict(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: _strict(item) for key, item in value.items()}
    if value.get("type") == "object" and "properties" in value:
        found.setdefault("additionalProperties", False)
    return found
