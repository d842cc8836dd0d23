"""Label and field selectors, as the query of a list or watch has them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.servers.kubernetes.answers import Refusal

__all__ = ["Matches", "selection"]

Matches = Callable[[Mapping[str, Any]], bool]

_SET = re.compile(r"(\S+)\s+(in|notin)\s+\(([^)]*)\)")
_FIELDS = {
    "pods": {"metadata.name", "metadata.namespace", "spec.nodeName", "spec.restartPolicy", "status.phase"},
    "secrets": {"metadata.name", "metadata.namespace", "type"},
    "events": {
        "metadata.name",
        "metadata.namespace",
        "involvedObject.kind",
        "involvedObject.name",
        "involvedObject.namespace",
        "involvedObject.uid",
        "reason",
        "type",
    },
}


def selection(resource: str, labels: str, fields: str) -> Matches:
    """Return what tells whether an object is selected. Raises `Refusal` 400 for what the server does not know."""
    wanted = [_label_test(part) for part in _parts(labels)] + [_field_test(resource, part) for part in _parts(fields)]
    return lambda obj: all(test(obj) for test in wanted)


def _parts(selector: str) -> list[str]:
    return [part.strip() for part in re.split(r",(?![^(]*\))", selector) if part.strip()]


def _label_test(part: str) -> Matches:
    if match := _SET.fullmatch(part):
        name, verb, values = match[1], match[2], {value.strip() for value in match[3].split(",")}
        return lambda obj: (_labels(obj).get(name) in values) == (verb == "in")
    if "!=" in part:
        name, _, value = part.partition("!=")
        return lambda obj: _labels(obj).get(name.strip()) != value.strip()
    if "=" in part:
        name, value = re.split("==?", part, maxsplit=1)
        return lambda obj: _labels(obj).get(name.strip()) == value.strip()
    if re.fullmatch(r"!?[\w./-]+", part):
        return lambda obj: (part.removeprefix("!") in _labels(obj)) == (not part.startswith("!"))
    raise Refusal(400, "BadRequest", f"unable to parse requirement: {part!r}")


def _labels(obj: Mapping[str, Any]) -> Mapping[str, str]:
    labels: Mapping[str, str] = obj["metadata"].get("labels") or {}
    return labels


def _field_test(resource: str, part: str) -> Matches:
    name, is_not, value = re.split("(!?)==?", part, maxsplit=1)
    if name not in _FIELDS[resource]:
        raise Refusal(400, "BadRequest", f"field label not supported: {name}")

    def test(obj: Mapping[str, Any]) -> bool:
        found: Any = obj
        for key in name.split("."):
            found = (found or {}).get(key)
        return ((found or "") == value) != bool(is_not)

    return test
