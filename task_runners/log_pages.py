"""Reading the log of a job again and again without losing or doubling a line.

An engine keeps lines with time stamps and gives them from a moment on. Several lines may bear the same stamp, so the
cursor remembers, beside the last stamp, which texts were seen at it. Pure: pages in, new lines and a new cursor out.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from task_runners.capture import Stream

__all__ = ["LogCursor", "LogPage", "RawLine", "file_lines", "moment_of", "unseen"]

_DIGEST_BYTES = 8
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,6})?\d*(Z|[+-]\d\d:\d\d)")


def moment_of(stamp: str) -> datetime:
    """Return the moment of an RFC 3339 time stamp, nanoseconds cut to microseconds.

    Raises:
        ValueError: it is none.
    """
    match = _MOMENT.fullmatch(stamp)
    if match is None:
        raise ValueError(f"{stamp[:40]!r} is no time stamp")
    return datetime.fromisoformat(f"{match[1]}{(match[2] or '.').ljust(7, '0')}{match[3]}")


@dataclass(frozen=True, slots=True)
class RawLine:
    """One line as the engine keeps it: its own time stamp (aware), and the bytes without the line end."""

    at: datetime
    text: bytes
    stream: Stream = Stream.STDOUT

    @property
    def digest(self) -> str:
        """Return what tells this line from others of the same moment."""
        content = self.stream.value.encode() + b"\0" + self.text
        return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).hexdigest()


@dataclass(frozen=True, slots=True)
class LogCursor:
    """How far a log was read: the last time stamp, the digests of the lines seen at it, the engine's own mark if any.

    `seen` has a digest once for each line, so that a line which was written twice in a moment counts twice.
    """

    timestamp: datetime
    seen: tuple[str, ...] = ()
    token: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the cursor as JSON values, for `from_json`."""
        return {"timestamp": self.timestamp.isoformat(), "seen": list(self.seen), "token": self.token}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> LogCursor:
        """Return the cursor that `as_json` described."""
        at = datetime.fromisoformat(document["timestamp"])
        return cls(at, tuple(document["seen"]), document.get("token"))


@dataclass(frozen=True, slots=True)
class LogPage:
    """What one read of a log gave, in the engine's order.

    `token` is the engine's mark of the end of this page; with `is_exact` the lines are precisely those after the token
    of the cursor, so nothing is compared. `has_more` asks for another read at once. `is_settled` is False while an
    ended job's last lines may still be on their way.
    """

    lines: Sequence[RawLine] = ()
    token: str | None = None
    is_exact: bool = False
    has_more: bool = False
    is_settled: bool = True


def file_lines(
    piece: bytes, at: datetime, stream: Stream = Stream.STDOUT, *, is_full: bool, is_final: bool
) -> tuple[list[RawLine], int]:
    """Return the lines at the start of the next piece of a file that grows, and how many bytes they take.

    A line without an end is held back, unless the file grows no more (`is_final`) and the piece goes to its end, or the
    whole of a piece that is as large as pieces get (`is_full`) is one line.
    """
    whole = len(piece) if is_final and not is_full else piece.rfind(b"\n") + 1
    if not whole and is_full:
        whole = len(piece)
    text = piece[:whole].removesuffix(b"\n")
    return [RawLine(at, line, stream) for line in text.split(b"\n")] if whole else [], whole


def unseen(page: LogPage, cursor: LogCursor | None) -> tuple[list[RawLine], LogCursor | None]:
    """Return the lines of a page that lie behind `cursor`, and the cursor after them."""
    fresh = list(page.lines) if page.is_exact or cursor is None else list(_after(page.lines, cursor))
    return fresh, _moved(cursor, fresh, page.token)


def _after(lines: Sequence[RawLine], cursor: LogCursor) -> Iterator[RawLine]:
    seen = Counter(cursor.seen)
    for line in lines:
        if line.at < cursor.timestamp:
            continue
        if line.at == cursor.timestamp and seen[line.digest]:
            seen[line.digest] -= 1
            continue
        yield line


def _moved(cursor: LogCursor | None, fresh: Sequence[RawLine], token: str | None) -> LogCursor | None:
    token = token or (cursor.token if cursor else None)
    if not fresh:
        return LogCursor(cursor.timestamp, cursor.seen, token) if cursor else None
    # Never backwards: what an engine gives out of order must not make it give everything again.
    last = max(fresh[-1].at, cursor.timestamp) if cursor else fresh[-1].at
    earlier = cursor.seen if cursor and cursor.timestamp == last else ()
    return LogCursor(last, (*earlier, *(line.digest for line in fresh if line.at == last)), token)
