"""Which class a `type` in YAML stands for.

Classes are named as text and imported when a flow first uses them, so that a server that runs no HTTP task never
imports an HTTP client. Third parties add theirs through the entry points `mainstem.tasks`, `mainstem.triggers` and
`mainstem.conditions`; the name of the entry point is the type name.
"""

from __future__ import annotations

import difflib
import enum
import functools
import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points

from runner.flows.aliases import PREFIX, canonical
from runner.flows.models import Condition, Model, Task, Trigger

__all__ = ["BASES", "TypeKind", "canonical", "find", "full_name", "nearest", "short", "types"]


class TypeKind(enum.StrEnum):
    """What a `type` may name in a flow; the value is the first word of problem codes."""

    TASK = "task"
    TRIGGER = "trigger"
    CONDITION = "condition"


BASES: Mapping[TypeKind, type[Model]] = {
    TypeKind.TASK: Task,
    TypeKind.TRIGGER: Trigger,
    TypeKind.CONDITION: Condition,
}

_FLOW = "runner.tasks.flow"
_BUILT_IN: Mapping[TypeKind, Mapping[str, str]] = {
    TypeKind.TASK: {
        "core.debug.Echo": "runner.tasks.debug:Echo",
        "core.debug.Return": "runner.tasks.debug:Return",
        "core.execution.Assert": "runner.tasks.execution:Assert",
        "core.execution.Exit": "runner.tasks.execution:Exit",
        "core.execution.Fail": "runner.tasks.execution:Fail",
        "core.execution.Labels": "runner.tasks.execution:Labels",
        "core.execution.SetVariables": "runner.tasks.execution:SetVariables",
        "core.execution.UnsetVariables": "runner.tasks.execution:UnsetVariables",
        "core.flow.AllowFailure": f"{_FLOW}:AllowFailure",
        "core.flow.Dag": f"{_FLOW}:Dag",
        "core.flow.EachParallel": f"{_FLOW}:EachParallel",
        "core.flow.EachSequential": f"{_FLOW}:EachSequential",
        "core.flow.ForEach": f"{_FLOW}:ForEach",
        "core.flow.If": f"{_FLOW}:If",
        "core.flow.LoopUntil": f"{_FLOW}:LoopUntil",
        "core.flow.Parallel": f"{_FLOW}:Parallel",
        "core.flow.Pause": f"{_FLOW}:Pause",
        "core.flow.Sequential": f"{_FLOW}:Sequential",
        "core.flow.Sleep": f"{_FLOW}:Sleep",
        "core.flow.Subflow": f"{_FLOW}:Subflow",
        "core.flow.Switch": f"{_FLOW}:Switch",
        "core.flow.WorkingDirectory": f"{_FLOW}:WorkingDirectory",
        "core.log.Log": "runner.tasks.log:Log",
        "core.output.OutputValues": "runner.tasks.output:OutputValues",
    },
    TypeKind.TRIGGER: {},
    TypeKind.CONDITION: {},
}


def short(name: str) -> str:
    """Return the form of a type name that our documents show: `core.log.Log`."""
    return canonical(name).removeprefix(PREFIX)


def types(kind: TypeKind) -> list[str]:
    """Return the short names of all types of `kind`, sorted."""
    return sorted(_places(kind))


@functools.lru_cache(maxsize=4096)
def find(kind: TypeKind, name: str) -> type[Model] | None:
    """Return the class that `name`, in any accepted spelling, stands for; None when there is none."""
    place = _places(kind).get(short(name)) or _places(kind).get(name)
    if place is None:
        return None
    module, _, attribute = place.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    assert issubclass(found, BASES[kind]), f"{place} is no {kind}"
    return found  # type: ignore[no-any-return]  # checked by the line above


def full_name(kind: TypeKind, cls: type[Model]) -> str | None:
    """Return the full name under which `cls` is registered, None when it is not."""
    place = f"{cls.__module__}:{cls.__qualname__}"
    return next((canonical(name) for name, known in _places(kind).items() if known == place), None)


def nearest(kind: TypeKind, name: str) -> str | None:
    """Return the known type name that looks most like `name`, spelled as `name` is (with or without the prefix)."""
    wanted = short(name).lower()
    last = wanted.rpartition(".")[2]
    by_text = {candidate.lower(): candidate for candidate in types(kind)}
    # The last word decides: within a family all names look alike. A right last word makes up for a wrong family.
    match = [
        text
        for text in difflib.get_close_matches(wanted, by_text, n=5, cutoff=0.7)
        if difflib.SequenceMatcher(None, last, text.rpartition(".")[2]).ratio() >= 0.6
    ] or [text for text in by_text if text.rpartition(".")[2] == last]
    if not match:
        return None
    found = by_text[match[0]]
    return PREFIX + found if name.startswith("io.kestra.") else found


@functools.cache
def _places(kind: TypeKind) -> Mapping[str, str]:
    places = dict(_BUILT_IN[kind])
    for entry in entry_points(group=f"mainstem.{kind}s"):
        places.setdefault(entry.name, entry.value)
    return places
