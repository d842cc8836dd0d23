"""Inputs made by changing seeds at random; the same seed gives the same inputs."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Final

from tests.fuzz.targets import Target

_POOL: Final = 2_000
_TOKEN: Final = re.compile(rb"\w+|\s+|.", re.DOTALL)


class Mutator:
    """Makes inputs for one target.

    Inputs that are kept become the base of later ones, so that changes add up beyond what one input gets.
    """

    def __init__(self, target: Target, seed: int) -> None:
        self._chance = random.Random(seed)
        self._size = target.size
        self._firm = [text.encode() for text in target.seeds] + [data[: target.size] for data in target.corpus()]
        self._words = [word.encode() for word in target.words]
        self._pool = list(self._firm)

    def next(self) -> bytes:
        """Return one more input."""
        data = self._chance.choice(self._pool if self._chance.random() < 0.7 else self._firm)
        for _ in range(self._chance.choice((1, 1, 1, 2, 2, 3, 5, 8))):
            data = self._chance.choice(_CHANGES)(self, data)
        return data[: self._size]

    def keep(self, data: bytes) -> None:
        """Remember an input that got far; the oldest of too many are forgotten at random."""
        self._pool.append(data)
        if len(self._pool) > _POOL:
            self._pool[self._chance.randrange(len(self._firm), len(self._pool) - 1)] = self._pool.pop()

    def _place(self, data: bytes) -> int:
        return self._chance.randint(0, len(data))

    def _token(self) -> bytes:
        """Return a word of the language, or a piece of another input."""
        if self._chance.random() < 0.6:
            return self._chance.choice(self._words)
        tokens: list[bytes] = _TOKEN.findall(self._chance.choice(self._pool))
        return self._chance.choice(tokens or [b" "])

    def _exchange(self, data: bytes) -> bytes:
        found = list(_TOKEN.finditer(data))
        if not found:
            return self._token()
        old = self._chance.choice(found)
        return data[: old.start()] + self._token() + data[old.end() :]

    def _insert(self, data: bytes) -> bytes:
        edges = [match.start() for match in _TOKEN.finditer(data)]
        place = self._chance.choice([*edges, len(data)])
        return data[:place] + self._token() + data[place:]

    def _drop(self, data: bytes) -> bytes:
        start = self._place(data)
        return data[:start] + data[start + self._chance.randint(1, 8) :]

    def _drop_token(self, data: bytes) -> bytes:
        found = list(_TOKEN.finditer(data))
        gone = self._chance.choice(found) if found else None
        return data[: gone.start()] + data[gone.end() :] if gone else data

    def _repeat(self, data: bytes) -> bytes:
        start = self._place(data)
        part = data[start : start + self._chance.randint(1, 40)]
        return data[:start] + part * self._chance.randint(2, 8) + data[start:]

    def _splice(self, data: bytes) -> bytes:
        other = self._chance.choice(self._pool)
        return data[: self._place(data)] + other[self._place(other) :]

    def _repeat_line(self, data: bytes) -> bytes:
        lines = data.split(b"\n")
        lines.insert(self._chance.randrange(len(lines)), self._chance.choice(lines))
        return b"\n".join(lines)

    def _flip(self, data: bytes) -> bytes:
        place = self._place(data)
        return data[:place] + bytes([self._chance.randrange(256)]) + data[place + 1 :]


_CHANGES: Final[tuple[Callable[[Mutator, bytes], bytes], ...]] = (
    *[Mutator._exchange] * 8,
    *[Mutator._insert] * 4,
    *[Mutator._drop_token] * 3,
    Mutator._drop,
    Mutator._repeat,
    Mutator._splice,
    Mutator._repeat_line,
    Mutator._flip,
)
