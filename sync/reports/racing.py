"""Tries of whoever writes a ref that others write too: each begins at what is there now."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Final

from runner.errors import ConflictError

MOST_TRIES: Final = 20
_LONGEST_PAUSE_S: Final = 1.0


def tries(ref: str, pause: Callable[[float], None]) -> Iterator[int]:
    """Yield the number of each try, and pause before the next one, longer each time.

    Raises:
        ConflictError: `report.branch.busy` after 20 of them.
    """
    for number in range(MOST_TRIES):
        yield number
        pause(random.uniform(0, min(0.05 * 2**number, _LONGEST_PAUSE_S)))  # noqa: S311 - spreads writers
    raise ConflictError(
        "report.branch.busy",
        f"{ref} was moved by others {MOST_TRIES} times in a row",
        hint="does another server write to it all the time? give each one a branch of its own",
    )
