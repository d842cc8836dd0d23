"""Inputs of the type FORM: a group of inputs under one name becomes inputs whose ids begin with that name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.flows.positions import Path


def flattened(inputs: list[Any], path: Path, moved: dict[Path, Path]) -> list[Any]:
    """Return inputs with those inside of forms in the place of the forms; `moved` tells where each one stood.

    What a form depends on, each of its inputs does. A form without a list of inputs stays, and is refused as a type.
    """
    found: list[Any] = []
    for place, item in _parts(inputs, path):
        if place != (*path, len(found)):
            moved[*path, len(found)] = place
        found.append(item)
    return found


def _parts(inputs: list[Any], path: Path) -> Iterator[tuple[Path, Any]]:
    for index, item in enumerate(inputs):
        place = (*path, index)
        inner = item.get("inputs") if isinstance(item, dict) and str(item.get("type")).upper() == "FORM" else None
        if not isinstance(inner, list):
            yield place, item
            continue
        for where, child in _parts(inner, (*place, "inputs")):
            yield where, _in_form(child, item) if isinstance(child, dict) else child


def _in_form(child: dict[str, Any], form: Mapping[str, Any]) -> dict[str, Any]:
    name = "id" if "id" in child or "name" not in child else "name"
    named = {**child, name: f"{form.get('id', form.get('name'))}.{child[name]}"} if name in child else child
    needed, own = form.get("dependsOn"), child.get("dependsOn")
    if not isinstance(needed, dict):
        return named
    return {**named, "dependsOn": _both(needed, own) if isinstance(own, dict) else needed}


def _both(form: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    inputs = [*_listed(form.get("inputs")), *_listed(own.get("inputs"))]
    conditions = [each["condition"] for each in (form, own) if isinstance(each.get("condition"), str)]
    joined = " and ".join(f"({each.strip().removeprefix('{{').removesuffix('}}').strip()})" for each in conditions)
    found: dict[str, Any] = {"inputs": list(dict.fromkeys(inputs))}
    if len(conditions) == 1:
        found["condition"] = conditions[0]
    elif conditions:
        found["condition"] = f"{{{{ {joined} }}}}"
    return found


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
