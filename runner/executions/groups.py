"""Groups of workers: which queue the run of a task waits in, who serves it, and what happens when nobody does.

A queue is a text: `tasks` for tasks that name no group, `tasks.gpu` for one tag, `tasks.a+b` for workers that have all
of several tags, `tasks.a|b` for those that have any. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, Final

from runner.flows.worker_groups import Fallback

DEFAULT: Final = "tasks"
_PREFIX: Final = f"{DEFAULT}."


def queue_of(tags: Collection[str], *, any_of: bool = False) -> str:
    """Return the queue for workers with these tags."""
    return _PREFIX + ("|" if any_of else "+").join(sorted(set(tags))) if tags else DEFAULT


def waiting(fallback: Fallback, since: datetime) -> dict[str, Any]:
    """Return what the row of a submitted run says about a wait that began at `since`; nothing where it may last."""
    return {} if fallback == "WAIT" else {"fallback": fallback, "since": since.timestamp()}


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
