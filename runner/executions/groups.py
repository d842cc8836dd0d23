"""Groups of workers: which queue the run of a task waits in, who serves it, and what happens when nobody does.

A queue is a text: `tasks` for tasks that name no group, `tasks.gpu` for one tag, `tasks.a+b` for workers that have all
of several tags, `tasks.a|b` for those that have any. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, Literal

from runner.flows.models import Flow, Task

DEFAULT: Final = "tasks"
_PREFIX: Final = f"{DEFAULT}."

Fallback = Literal["WAIT", "FAIL", "CANCEL", "IGNORE"]


def queue_of(tags: Collection[str], *, any_of: bool = False) -> str:
    """Return the queue for workers with these tags."""
    return _PREFIX + ("|" if any_of else "+").join(sorted(set(tags))) if tags else DEFAULT


def wanted_of(task: Task, flow: Flow) -> tuple[str, Fallback]:
    """Return the queue of a task, as it or its flow asks, and what happens when no worker serves it."""
    for owner in (task, flow):
        if owner.worker_selector is not None:
            return _selected(owner.worker_selector)
        if owner.worker_group is not None:
            key = str(owner.worker_group.get("key") or "")
            return queue_of([key] if key else []), _fallback(owner.worker_group, "WAIT")
    return DEFAULT, "WAIT"


def _selected(selector: Mapping[str, Any]) -> tuple[str, Fallback]:
    tags = [str(tag) for tag in selector.get("tags") or ()]
    any_of = str(selector.get("match", "ALL")).upper() == "ANY"
    return queue_of(tags, any_of=any_of), _fallback(selector, "FAIL")


def _fallback(owner: Mapping[str, Any], default: Fallback) -> Fallback:
    name = str(owner.get("fallback") or default).upper()
    return name if name in {"WAIT", "FAIL", "CANCEL", "IGNORE"} else default  # type: ignore[return-value]  # checked


def serves(groups: Collection[str] | None, queue: str) -> bool:
    """Return whether a worker of these groups takes runs of a queue; None stands for one that takes them all."""
    if groups is None:
        return True
    if queue == DEFAULT:
        return not groups
    wanted = queue.removeprefix(_PREFIX)
    if "|" in wanted:
        return any(tag in groups for tag in wanted.split("|"))
    return all(tag in groups for tag in wanted.split("+"))


def lists_of(queue: str) -> list[str]:
    """Return the lists of the broker that are rung for a queue; one worker of each looks whether the run is for it."""
    if queue == DEFAULT:
        return [DEFAULT]
    wanted = queue.removeprefix(_PREFIX)
    return [_PREFIX + tag for tag in wanted.split("|")] if "|" in wanted else [_PREFIX + wanted.split("+")[0]]


def lists_served(groups: Iterable[str]) -> set[str]:
    """Return the lists of the broker that a worker of these groups reads."""
    return {_PREFIX + group for group in groups} or {DEFAULT}
