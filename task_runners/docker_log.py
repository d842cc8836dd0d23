"""The log of a container as the Docker API sends it: frames of two streams, and lines with a time stamp."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from task_runners.capture import Stream
from task_runners.log_pages import RawLine, moment_of

__all__ = ["frames_of", "log_request", "stored_lines"]

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


def log_request(stream: Stream, since_s: int | None) -> dict[str, Any]:
    """Return the options of a request for what the daemon stored of one stream from a second on."""
    is_out = stream is Stream.STDOUT
    return {"stdout": is_out, "stderr": not is_out, "timestamps": True, "since": since_s}


def stored_lines(parts: Iterable[tuple[Stream, bytes]]) -> list[RawLine]:
    """Return the lines of all streams in the order of their time stamps; the line ends stay with the texts."""
    found = [(stream, *line.partition(b" ")) for stream, text in parts for line in text.splitlines(keepends=True)]
    found.sort(key=lambda line: line[1])
    return [RawLine(moment_of(stamp.decode("ascii", "replace")), text, stream) for stream, stamp, _, text in found]
