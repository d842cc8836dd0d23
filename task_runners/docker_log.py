"""The log of a container as the Docker API sends it: frames of two streams, and lines with a time stamp."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from datetime import datetime
from typing import Protocol

from task_runners.capture import Stream
from task_runners.spec import LogCursor

__all__ = ["frames_of", "was_seen"]

_HEADER = struct.Struct(">BxxxL")  # the number of the stream, three unused bytes, the length of what follows
_STDERR = 2


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes | None: ...


def frames_of(attached: _Readable) -> Iterator[tuple[Stream, bytes]]:
    """Yield what arrives on the connection of an attach call, piece by piece, until its end."""
    while len(header := _exactly(attached, _HEADER.size)) == _HEADER.size:
        number, left = _HEADER.unpack(header)
        while left:
            piece = attached.read(left)
            if not piece:
                return
            left -= len(piece)
            yield Stream.STDERR if number == _STDERR else Stream.STDOUT, piece


def _exactly(attached: _Readable, size: int) -> bytes:
    pieces = b""
    while len(pieces) < size:
        piece = attached.read(size - len(pieces))
        if not piece:
            break
        pieces += piece
    return pieces


def was_seen(since: LogCursor, at: str, text: bytes) -> bool:
    """Whether the line `text` with the daemon's time stamp `at` is among those that the cursor has behind it."""
    moment = datetime.fromisoformat(f"{at[:26]}Z")  # nanoseconds are more than it reads
    return moment <= since.timestamp and text.decode("utf-8", "replace").rstrip("\r\n") in since.seen
