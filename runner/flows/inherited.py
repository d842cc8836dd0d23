"""What a flow gets from the files around it: plugin defaults, variables, templates; kept as text with each revision."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from runner.flows.plugin_defaults import Default


class TemplateName(NamedTuple):
    """What a Template task names."""

    namespace: str
    id: str


Templates = Mapping[TemplateName, Mapping[str, Any]]
"""The properties `tasks`, `errors` and `finally` of templates, see `runner.flows.task_templates`."""


@dataclass(frozen=True, slots=True)
class Inherited:
    """Plugin defaults, the nearest namespace's first, and the variables that expressions see as `namespace`.

    `templates` are those that the flow can mean; None when it is not known which there are.
    """

    defaults: tuple[Default, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
    templates: Templates | None = None


def merged(outermost_first: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return variables of a line of namespaces as one map: maps merge deeply, of everything else the nearest wins."""
    found: dict[str, Any] = {}
    for variables in outermost_first:
        found = _over(found, variables)
    return found


def _over(far: Mapping[str, Any], near: Mapping[str, Any]) -> dict[str, Any]:
    both = {name for name in near if isinstance(near[name], Mapping) and isinstance(far.get(name), Mapping)}
    return {**far, **{name: _over(far[name], near[name]) if name in both else near[name] for name in near}}


def as_text(inherited: Inherited) -> str | None:
    """Return what a flow inherits as text, None for nothing; `from_text` reads it.

    Without variables and templates it is a bare list of defaults, as all texts of older versions are, so that these
    stay equal.
    """
    rows = [{"type": each.type, "values": each.values, "forced": each.forced} for each in inherited.defaults]
    if not inherited.variables and not inherited.templates:
        return json.dumps(rows, ensure_ascii=False, sort_keys=True) if rows else None
    found: dict[str, Any] = {"defaults": rows, "variables": inherited.variables}
    if inherited.templates:
        found["templates"] = [[*name, values] for name, values in inherited.templates.items()]
    return json.dumps(found, ensure_ascii=False, sort_keys=True)


def from_text(text: str | None) -> Inherited:
    """Return what `as_text` wrote."""
    found = json.loads(text) if text else []
    if isinstance(found, list):
        found = {"defaults": found, "variables": {}}
    defaults = tuple(Default(row["type"], row["values"], row["forced"]) for row in found["defaults"])
    templates = {TemplateName(space, name): values for space, name, values in found.get("templates", ())}
    return Inherited(defaults, found["variables"], templates or None)
