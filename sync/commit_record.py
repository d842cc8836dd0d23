"""What a commit says of itself, and who makes one. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from dulwich.objects import Commit


@dataclass(frozen=True, slots=True)
class CommitRecord:
    """What a commit says of itself; `author` is a name without an address."""

    id: str
    tree: str
    parents: tuple[str, ...]
    author: str
    at: datetime
    message: str

    @classmethod
    def of(cls, commit: Commit) -> Self:
        """Return what a commit of the library says."""
        return cls(
            id=commit.id.decode(),
            tree=commit.tree.decode(),
            parents=tuple(parent.decode() for parent in commit.parents),
            author=commit.author.decode("utf-8", "replace").partition(" <")[0],
            at=_moment(commit.commit_time),
            message=commit.message.decode("utf-8", "replace"),
        )

    @property
    def subject(self) -> str:
        """Return the first line of the message."""
        return self.message.strip().partition("\n")[0]


@dataclass(frozen=True, slots=True)
class Author:
    """Who a commit is made by."""

    name: str
    email: str

    def as_bytes(self) -> bytes:
        """Return `Name <email>`, without the characters that would end a header."""
        clean = [re.sub(r"[<>\x00-\x1f]", "", part).strip() or "unknown" for part in (self.name, self.email)]
        return f"{clean[0]} <{clean[1]}>".encode()


def _moment(seconds: int) -> datetime:
    """Return the time of a commit; whoever makes one may write any number there."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        return datetime.max.replace(tzinfo=UTC) if seconds > 0 else datetime.fromtimestamp(0, UTC)
