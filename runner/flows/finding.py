"""A finding about a part of a flow, before its place in the file is known; and the search for cycles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from runner.errors import Severity
from runner.flows.models import Model
from runner.flows.positions import Path


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with the property at `within` of the model `about`."""

    code: str
    message: str
    about: Model | None = None
    within: Path = ()
    hint: str | None = None
    severity: Severity = Severity.ERROR


def find_cycle(needs: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the names on one cycle of `needs`, in the order of the map; empty when there is none.

    Iterative, since a flow may hold thousands of tasks that depend on one another.
    """
    done: set[str] = set()
    for start in needs:
        trail: dict[str, None] = {}
        stack = [(start, iter(needs[start]))] if start not in done else []
        if stack:
            trail[start] = None
        while stack:
            name, rest = stack[-1]
            follower = next((other for other in rest if other in needs and other not in done), None)
            if follower is None:
                stack.pop()
                trail.pop(name)
                done.add(name)
            elif follower in trail:
                members = list(trail)
                cycle = set(members[members.index(follower) :])
                return [member for member in needs if member in cycle]
            else:
                trail[follower] = None
                stack.append((follower, iter(needs[follower])))
    return []
