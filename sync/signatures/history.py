"""Which commits are new: those that a tip has and a base has not."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import Final

from runner.errors import InvalidError, NotFoundError
from sync.repository import GitRepository

MOST_NEW: Final = 500
_MOST_STEPS: Final = 20_000


class HistoryCutError(Exception):
    """A commit on the way is not here: the mirror holds the newest ones alone."""


def new_commits(repository: GitRepository, base: str, tip: str) -> list[str]:
    """Return the commits that are reachable from `tip` and not from `base`, the newest first.

    They are walked in the order of their dates, which whoever commits can choose: a false date can make the result
    larger, never smaller.

    Raises:
        InvalidError: `signature.history.long` when there are more than 500.
        HistoryCutError: when a commit among them is not here.
    """
    of_base = {tip: False, base: True}
    waiting = _Newest(repository)
    for sha, known in of_base.items():
        waiting.add(sha, is_needed=not known)
    found: list[str] = []
    steps, oldest = 0, math.inf
    # Commits of one second come in any order: what the base has is walked until it is older than all that was found.
    while waiting.newest >= oldest or waiting.holds_any(lambda sha: not of_base[sha]):
        steps += 1
        if steps > _MOST_STEPS or len(found) > 2 * MOST_NEW:
            raise _too_many(base)
        at, sha, parents = waiting.take()
        if not of_base[sha]:
            found.append(sha)
            oldest = min(oldest, at)
        for parent in parents:
            if parent not in of_base or (of_base[sha] and not of_base[parent]):
                of_base[parent] = of_base[sha]
                waiting.add(parent, is_needed=not of_base[sha])
    fresh = [sha for sha in found if not of_base[sha]]
    if len(fresh) > MOST_NEW:
        raise _too_many(base)
    return fresh


class _Newest:
    """Commits that wait to be walked, the newest first."""

    def __init__(self, repository: GitRepository) -> None:
        self._repository = repository
        self._heap: list[tuple[float, str, tuple[str, ...]]] = []

    def add(self, sha: str, *, is_needed: bool) -> None:
        """Let a commit wait; one that is not here is passed over, or raises when it `is_needed`."""
        try:
            found = self._repository.commit(sha)
        except NotFoundError as error:
            if is_needed:
                raise HistoryCutError from error
            return
        heapq.heappush(self._heap, (-found.at.timestamp(), sha, found.parents))

    @property
    def newest(self) -> float:
        """Return the time of the newest one; minus infinity when none waits."""
        return -self._heap[0][0] if self._heap else -math.inf

    def take(self) -> tuple[float, str, tuple[str, ...]]:
        """Return the newest one's time, its id and its parents; it waits no more."""
        at, sha, parents = heapq.heappop(self._heap)
        return -at, sha, parents

    def holds_any(self, matches: Callable[[str], bool]) -> bool:
        """Whether one that `matches` waits."""
        return any(matches(sha) for _, sha, _ in self._heap)


def _too_many(base: str) -> InvalidError:
    return InvalidError(
        "signature.history.long",
        f"more than {MOST_NEW} commits are new since {base[:7]}, too many to verify each of them",
        hint="activate them in parts: mainstem sync pin SHA --reason TEXT, then mainstem sync resume",
    )
