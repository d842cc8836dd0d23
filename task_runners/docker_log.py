"""The log of a container as the Docker API sends it: frames of two streams, and frames with a time stamp each.

A line may come in several frames (a daemon divides lines of more than 16 KiB), and a frame may hold carriage returns.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any, Protocol

from task_runners.capture import Stream
from task_runners.log_pages import LogCursor, LogPage, RawLine, moment_of, unseen

__all__ = ["StoredLog", "frames_of", "stored_pieces"]

_HEADER = struct.Struct(">BxxxL")  # the number of the stream, three unused bytes, the length of what follows
_STDERR = 2
_ROTATED_BYTES = 8 << 20  # a log that lost its beginning is not shorter: see `_LOG_FILES`
_LATE_S = 2  # a daemon writes down what it read of one stream a little after what it read later of the other one


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes | None: ...


def frames_of(attached: _Readable) -> Iterator[tuple[Stream, bytes]]:
    """Yield what arrives on the connection of an attach call, piece by piece, until its end or until it breaks."""
    while len(header := _exactly(attached, _HEADER.size)) == _HEADER.size:
        number, left = _HEADER.unpack(header)
        while left:
            piece = _some(attached, left)
            if not piece:
                return
            left -= len(piece)
            yield Stream.STDERR if number == _STDERR else Stream.STDOUT, piece


def _exactly(attached: _Readable, size: int) -> bytes:
    pieces = b""
    while len(pieces) < size:
        piece = _some(attached, size - len(pieces))
        if not piece:
            break
        pieces += piece
    return pieces


def _some(attached: _Readable, size: int) -> bytes:
    try:
        return attached.read(size) or b""
    except OSError:  # a broken connection gives no more than a closed one; what is missing is read elsewhere
        return b""


def stored_pieces(content: bytes) -> list[RawLine]:
    """Return what a daemon stored: lines with their ends, or parts of long ones, in its order.

    Raises:
        ValueError: a frame bears no time stamp.
    """
    found = []
    for stream, frame in frames_of(io.BytesIO(content)):
        stamp, _, text = frame.partition(b" ")
        found.append(RawLine(moment_of(stamp.decode("ascii", "replace")), text, stream))
    return found


class StoredLog:
    """What a daemon stored of a container, read again and again; each piece is given once.

    `told` is how many lines of each stream were told before by way of a connection, which bears no time stamps. Each
    stream has a cursor of its own, since only what one of them brings is in the order of its time stamps.
    """

    def __init__(self, told: Mapping[Stream, int], since: LogCursor | None = None) -> None:
        self._told = dict(told)
        self._cursors: dict[Stream, LogCursor | None] = dict.fromkeys(Stream, since)

    def look(self, client: Any, container: str) -> tuple[bool, list[tuple[Stream, bytes]]]:
        """Return whether the container still ran before this look, and what is new since the last one."""
        import docker.errors

        try:
            is_running = bool(client.inspect_container(container)["State"]["Running"])
            url = client._url("/containers/{0}/logs", container)  # noqa: SLF001 - the client's way to every address
            answer = client._get(url, params=self._request())  # noqa: SLF001 - its own `logs` joins the frames
            return is_running, list(self.fresh(client._result(answer, binary=True)))  # noqa: SLF001 - as above
        except docker.errors.NotFound:
            return False, []

    def _request(self) -> dict[str, Any]:
        last = max((cursor.timestamp for cursor in self._cursors.values() if cursor is not None), default=None)
        since = {"since": int(last.timestamp()) - _LATE_S} if last is not None else {}
        return {"stdout": 1, "stderr": 1, "timestamps": 1, "follow": 0, "tail": "all", **since}

    def fresh(self, content: bytes) -> Iterator[tuple[Stream, bytes]]:
        """Yield what `content`, the answer of a daemon, holds beyond what was given or told before."""
        pieces, new = stored_pieces(content), list[RawLine]()
        for stream in Stream:
            own = LogPage([piece for piece in pieces if piece.stream is stream])
            found, self._cursors[stream] = unseen(own, self._cursors[stream])
            new += found
        for piece in sorted(new, key=attrgetter("at")):
            if self._told[piece.stream] > 0:
                self._told[piece.stream] -= piece.text.endswith(b"\n")
            else:
                yield piece.stream, piece.text
        if len(content) > _ROTATED_BYTES:  # the first of what was told are not stored any more: what comes now was not
            self._told = dict.fromkeys(Stream, 0)
