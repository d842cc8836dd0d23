"""Where the values of a document stand, also after the document was rewritten."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

Path = tuple[str | int, ...]
"""How to walk from the root of a document to a value: keys of maps and indexes of lists."""


class Mark(NamedTuple):
    """A place in a file; both numbers count from 1."""

    line: int
    column: int


@dataclass(slots=True)
class Positions:
    """The marks of the values and keys of one document, by path.

    A rewrite of the tree adds one stage to `moves`: for each path that it made, the path where that value stood
    before. Looking a path up goes through the stages backwards, so whoever reports a problem names the path in the
    tree at hand and gets the place in the file.
    """

    values: dict[Path, Mark] = field(default_factory=dict)
    keys: dict[Path, Mark] = field(default_factory=dict)
    moves: list[dict[Path, Path]] = field(default_factory=list)

    def at(self, path: Path) -> Mark:
        """Return the place of the value at `path`, or of the nearest thing around it that has one."""
        return self._nearest(self.origin(path))

    def key(self, path: Path) -> Mark:
        """Return the place of the key whose value is at `path`, or what `at` returns when there is no such key."""
        origin = self.origin(path)
        return self.keys.get(origin) or self._nearest(origin)

    def origin(self, path: Path) -> Path:
        """Return the path in the document as it was written."""
        for stage in reversed(self.moves):
            for length in range(len(path), 0, -1):
                before = stage.get(path[:length])
                if before is not None:
                    path = (*before, *path[length:])
                    break
        return path

    def _nearest(self, path: Path) -> Mark:
        for length in range(len(path), -1, -1):
            mark = self.values.get(path[:length])
            if mark is not None:
                return mark
        return Mark(1, 1)
