"""What may go wrong and how often, drawn from one seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Chance:
    """Draws faults while `is_rough`; `nth` makes exactly one process die, at its n-th write instead."""

    seed: int
    is_rough: bool = True
    nth: int | None = None
    nth_place: str = "write"
    die: float = 0.003
    error: float = 0.006
    lose: float = 0.15
    repeat: float = 0.15
    linger: float = 0.05
    rng: random.Random = field(init=False)
    calls: int = 0
    fired: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def switches(self) -> bool:
        """Whether another thread runs now."""
        return self.rng.random() < 0.5

    def lingers(self) -> bool:
        """Whether time passes after a read, before what was read is used."""
        return self.nth is None and self.rng.random() < self.linger

    def fault(self, place: str) -> str | None:
        """What goes wrong with this call of the store: `die`, `error` or nothing."""
        if self.nth is not None:
            self.calls += place == self.nth_place
            if place == self.nth_place and self.calls == self.nth:
                self.fired += 1
                return "die"
            return None
        if not self.is_rough:
            return None
        drawn = self.rng.random()
        found = "die" if drawn < self.die else "error" if drawn < self.die + self.error else None
        self.fired += found is not None
        return found


class Bells:
    """Queues that lose, repeat and reorder what is put into them."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self.waiting: dict[str, list[Any]] = {"executions": [], "runs": [], "effects": [], "stops": []}

    def ring(self, queue: str, items: list[Any]) -> None:
        chance = self._chance
        rough = chance.is_rough and chance.nth is None
        for item in items:
            drawn = chance.rng.random() if rough else 1.0
            times = 0 if drawn < chance.lose else 2 if drawn < chance.lose + chance.repeat else 1
            self.waiting[queue] += [item] * times

    def take(self, queue: str, most: int) -> list[Any]:
        """Take some items, from anywhere in the queue."""
        items, found = self.waiting[queue], list[Any]()
        while items and len(found) < most:
            found.append(items.pop(self._chance.rng.randrange(len(items))))
        return found

    def flush(self) -> None:
        """Forget everything, as a broker that was restarted."""
        for items in self.waiting.values():
            items.clear()
