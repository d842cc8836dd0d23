"""`pluginDefaults`: values for every map whose `type` starts with a given name.

Children are filled in before the maps around them. A default matches when its type equals the map's type or is a
textual prefix of it; both are compared in their canonical spelling. Defaults are ordered from the flow outwards: of
several the earlier wins, and the map's own values win over all of them. Forced ones win over the map, and of these
the later, that is the outer one, wins. Maps merge deeply; lists are joined, the weaker side's items first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.flows.aliases import canonical
from runner.flows.models import PluginDefault
from runner.flows.positions import Path
from task_runners.registry import canonical_name

KnownNames = Callable[[str], frozenset[str] | None]
"""The property names of a type, None when the type is not known."""


@dataclass(frozen=True, slots=True)
class Default:
    """One entry of `pluginDefaults`, and where its values stand (None for defaults from outside the file)."""

    type: str
    values: Mapping[str, Any]
    forced: bool = False
    path: Path | None = None


def defaults_of(tree: Mapping[str, Any]) -> list[Default]:
    """Return the well-formed entries of the flow's own `pluginDefaults`."""
    found = []
    listed = tree.get("pluginDefaults")
    for index, entry in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(entry, dict) and isinstance(entry.get("type"), str) and isinstance(entry.get("values"), dict):
            path = ("pluginDefaults", index, "values")
            found.append(Default(entry["type"], entry["values"], entry.get("forced") is True, path))
    return found


def inject(
    tree: dict[str, Any], defaults: Sequence[Default], names: KnownNames
) -> tuple[dict[str, Any], dict[Path, Path]]:
    """Return the flow with all `defaults` filled in, and where each moved value stood before."""
    moved: dict[Path, Path] = {}
    if not defaults:
        return tree, moved
    filled = {
        key: value if key == "pluginDefaults" else _walk(value, (key,), defaults, names, moved)
        for key, value in tree.items()
    }
    return filled, moved


def filled(values: dict[str, Any], entries: Iterable[PluginDefault]) -> dict[str, Any]:
    """Return a map of a flow that runs with the values of `entries` filled in, as `inject` does before it runs."""
    defaults = [Default(entry.type, entry.values, entry.forced) for entry in entries]
    found: dict[str, Any] = inject({"it": values}, defaults, lambda _name: None)[0]["it"]
    return found


def _walk(value: Any, path: Path, defaults: Sequence[Default], names: KnownNames, moved: dict[Path, Path]) -> Any:
    if isinstance(value, list):
        return [_walk(item, (*path, index), defaults, names, moved) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    built = {key: _walk(item, (*path, key), defaults, names, moved) for key, item in value.items()}
    if isinstance(built.get("type"), str):
        matching = [default for default in defaults if matches(default.type, built["type"])]
        for default in matching:
            if not default.forced:
                built = _merge(_applicable(default, built, names), built, _Side(path, moved, default.path))
        for default in matching:
            if default.forced:
                built = _merge(built, _applicable(default, built, names), _Side(path, moved, default.path, forced=True))
    return built


def matches(pattern: str, name: str) -> bool:
    """Return whether a default for `pattern` applies to a map of the type `name`."""
    if name.startswith(pattern) or canonical(name).startswith(canonical(pattern)):
        return True
    return canonical_name(name).startswith(canonical_name(pattern))  # task runners have short names of their own


def _applicable(default: Default, target: Mapping[str, Any], names: KnownNames) -> dict[str, Any]:
    """Return the values that the target's type knows; a default for a family may name what a member lacks."""
    values = {key: value for key, value in default.values.items() if key != "type"}
    known = names(str(target["type"]))
    if known is None or canonical(default.type) == canonical(str(target["type"])):
        return values
    return {key: value for key, value in values.items() if key in known}


@dataclass(frozen=True, slots=True)
class _Side:
    """What is needed to note where a merged value came from."""

    path: Path
    moved: dict[Path, Path]
    source: Path | None
    forced: bool = False

    def inside(self, key: str) -> _Side:
        source = None if self.source is None else (*self.source, key)
        return _Side((*self.path, key), self.moved, source, self.forced)

    def came_from_default(self, key: str) -> None:
        if self.source is not None:
            self.moved[*self.path, key] = (*self.source, key)


def _merge(weak: Mapping[str, Any], strong: Mapping[str, Any], side: _Side) -> dict[str, Any]:
    merged: dict[str, Any] = dict(strong) if not side.forced else dict(weak)
    for key in (*strong, *weak):
        low, high = weak.get(key), strong.get(key)
        if low is None or high is None:
            merged[key] = low if high is None else high
            if key in (strong if side.forced else weak) and (high if side.forced else low) is not None:
                side.came_from_default(key)
        elif isinstance(low, dict) and isinstance(high, dict):
            merged[key] = _merge(low, high, side.inside(key))
        elif isinstance(low, list) and isinstance(high, list):
            merged[key] = [*low, *high]
            _note_list(side.inside(key), len(low), len(high))
        else:
            merged[key] = high
            if side.forced:
                side.came_from_default(key)
    return merged


def _note_list(side: _Side, low: int, high: int) -> None:
    """Note where the items of a joined list stood: `low` items of the weaker side come first."""
    for index in range(low + high):
        from_default = (index < low) != side.forced
        if not from_default:
            side.moved[*side.path, index] = (*side.path, index if side.forced else index - low)
        elif side.source is not None:
            side.moved[*side.path, index] = (*side.source, index - low if side.forced else index)
