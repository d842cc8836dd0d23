"""Plugin defaults that reach nothing: no known type, and no `type` in the flow, begins with what they name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.errors import Problem, Severity
from runner.flows import registry
from runner.flows.plugin_defaults import matches
from runner.flows.positions import Positions
from runner.flows.registry import TypeKind
from runner.flows.spelling import did_you_mean
from task_runners.registry import runner_names

_OF_FAMILY = 0.85  # how much the beginning of a type must look like one that is known


def default_problems(tree: Mapping[str, Any], positions: Positions, file: str | None) -> Iterator[Problem]:
    """Yield a warning for each entry of `pluginDefaults` whose `type` is nothing that could be meant."""
    entries = tree.get("pluginDefaults")
    names = [entry.get("type") if isinstance(entry, dict) else None for entry in _listed(entries)]
    if not names:
        return
    known = {registry.canonical(name) for kind in TypeKind for name in registry.types(kind)} | {*runner_names()}
    used = {each for key, value in tree.items() if key != "pluginDefaults" for each in _types(value)}
    for index, name in enumerate(names):
        if isinstance(name, str) and name and not any(matches(name, other) for other in known | used):
            mark = positions.at(("pluginDefaults", index, "type"))
            message = f"no type begins with {name!r}: these defaults apply to nothing"
            hint = _hint(name, known)
            yield Problem("default.type.unknown", message, Severity.WARNING, file, mark.line, mark.column, hint)


def _hint(name: str, known: set[str]) -> str | None:
    of_type = next((hint for kind in TypeKind if (hint := registry.suggestion(kind, name))), None)
    if of_type is not None:
        return of_type
    parts = [each.split(".") for each in known]
    return did_you_mean(name, {".".join(each[: name.count(".") + 1]) for each in parts}, likeness=_OF_FAMILY)


def _types(value: Any) -> Iterator[str]:
    """Yield every `type` inside a value."""
    if isinstance(value, dict):
        if isinstance(value.get("type"), str):
            yield value["type"]
        for item in value.values():
            yield from _types(item)
    elif isinstance(value, list):
        for item in value:
            yield from _types(item)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
