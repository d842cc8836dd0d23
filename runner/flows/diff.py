"""What changed between two versions of a flow, by meaning and not by line."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runner.flows.build import task_fields
from runner.flows.models import Flow, Model, Task
from runner.flows.registry import short

_NAMED = ("tasks", "triggers", "inputs", "outputs")
_BRANCHES = frozenset({"errors", "finally_", "after_execution", "listeners"})
_LONGEST_TEXT = 60


class ChangeKind(enum.StrEnum):
    """What happened to the thing at a path."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"
    MOVED = "moved"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `path` is dotted, with ids instead of indexes: `tasks.load.timeout`."""

    kind: ChangeKind
    path: str
    old: Any = None
    new: Any = None

    def __str__(self) -> str:
        if self.kind is ChangeKind.CHANGED:
            return f"{self.path} {_shown(self.old)} -> {_shown(self.new)}"
        if self.kind is ChangeKind.MOVED:
            return f"{self.path} moved from {self.old} to {self.new}"
        return f"{self.path} {self.kind.value}"

    def as_json(self) -> dict[str, Any]:
        """Return the keys `kind path old new`."""
        return {"kind": self.kind.value, "path": self.path, "old": self.old, "new": self.new}


def diff_flows(old: Flow, new: Flow) -> list[Change]:
    """Return the differences from `old` to `new`: tasks first, then triggers, inputs, outputs, other properties.

    The revision does not count, nor does another spelling of the same type.
    """
    changes = list(_tasks(old, new))
    for name in _NAMED[1:]:
        before = {item.id: _dump(item) for item in getattr(old, name)}
        after = {item.id: _dump(item) for item in getattr(new, name)}
        changes += _named(name, before, after)
    changes += _values("namespace", dict(old.namespace_variables), dict(new.namespace_variables))
    left_out = {*_NAMED, *_BRANCHES, "revision"}
    changes += _values("", _dump(old, left_out), _dump(new, left_out))
    if len(old.listeners) != len(new.listeners):
        changes.append(Change(ChangeKind.CHANGED, "listeners", len(old.listeners), len(new.listeners)))
    return changes


def _tasks(old: Flow, new: Flow) -> Iterator[Change]:
    before, after = dict(_placed(old)), dict(_placed(new))
    yield from _named(
        "tasks",
        {name: _dump(task, task_fields(type(task))) for name, (task, _) in before.items()},
        {name: _dump(task, task_fields(type(task))) for name, (task, _) in after.items()},
    )
    kept = [name for name in after if name in before]
    for name in kept:
        if before[name][1] != after[name][1]:
            yield Change(ChangeKind.MOVED, f"tasks.{name}", before[name][1], after[name][1])
    for place in dict.fromkeys(where for _, where in after.values()):
        stayed = {name for name in kept if before[name][1] == after[name][1] == place}
        was = [name for name in before if name in stayed]
        now = [name for name in after if name in stayed]
        if was != now:
            yield Change(ChangeKind.CHANGED, f"order of {place}", was, now)


def _placed(flow: Flow) -> Iterator[tuple[str, tuple[Task, str]]]:
    """Yield each task with the branch it stands in, in the order of the flow."""
    roots: list[tuple[str, Iterable[Task]]] = [
        ("tasks", flow.tasks),
        ("errors", flow.errors),
        ("finally", flow.finally_),
        ("afterExecution", flow.after_execution),
    ]
    roots += [(f"listeners.{index}", listener.tasks) for index, listener in enumerate(flow.listeners)]
    for place, tasks in roots:
        for task in tasks:
            yield from _below(task, place)


def _below(task: Task, place: str) -> Iterator[tuple[str, tuple[Task, str]]]:
    yield task.id, (task, place)
    for branch, tasks in task.branches():
        for child in tasks:
            yield from _below(child, f"{task.id}.{branch}")


def _dump(model: Model, left_out: Iterable[str] = ()) -> dict[str, Any]:
    plain = model.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude=set(left_out))
    if "." in str(plain.get("type")):
        plain["type"] = short(plain["type"])
    return plain


def _named(word: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    for name in after:
        if name not in before:
            yield Change(ChangeKind.ADDED, f"{word}.{name}")
    for name in before:
        if name not in after:
            yield Change(ChangeKind.REMOVED, f"{word}.{name}")
        elif before[name] != after[name]:
            yield from _values(f"{word}.{name}", before[name], after[name])


def _values(path: str, old: Any, new: Any) -> Iterator[Change]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            inner = f"{path}.{key}" if path else str(key)
            if key not in old:
                yield Change(ChangeKind.ADDED, inner, None, new[key])
            elif key not in new:
                yield Change(ChangeKind.REMOVED, inner, old[key], None)
            else:
                yield from _values(inner, old[key], new[key])
    elif old != new:
        yield Change(ChangeKind.CHANGED, path, old, new)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"
