"""What a forge says about the checks of a commit, in one set of words for all. Pure."""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable
from typing import Final


class CheckState(enum.StrEnum):
    """What became of a check. One that nobody has reported is as open as one that runs."""

    GREEN = "green"
    OPEN = "open"
    RED = "red"


_GREEN: Final = frozenset({"success", "successful", "neutral", "skipped"})
_OPEN: Final = frozenset(
    {"pending", "running", "created", "queued", "in_progress", "inprogress", "waiting", "requested"}
    | {"preparing", "scheduled", "manual", "expected", "waiting_for_resource"}
)


def state_of(word: str | None) -> CheckState:
    """Return what a forge means by a word; one that nobody knows is no success."""
    given = (word or "pending").lower()
    if given in _GREEN:
        return CheckState.GREEN
    return CheckState.OPEN if given in _OPEN else CheckState.RED


def states_of(names: Collection[str], reported: Iterable[tuple[str, CheckState]]) -> dict[str, CheckState]:
    """Return the state of each check: of several of one name the worst, so that none can hide behind another."""
    found: dict[str, set[CheckState]] = {name: set() for name in names}
    for name, state in reported:
        if name in found:
            found[name].add(state)
    return {name: _worst(states) for name, states in found.items()}


def _worst(states: Collection[CheckState]) -> CheckState:
    for state in (CheckState.RED, CheckState.OPEN, CheckState.GREEN):
        if state in states:
            return state
    return CheckState.OPEN
