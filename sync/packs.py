"""Look a pack over before it is indexed: how many objects, and how large each claims to be or really inflates to.

Indexing inflates every object in memory. A few kilobytes of pack may stand for gigabytes (a bomb), so sizes are
bounded first, with constant memory.
"""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO, Final

from runner.errors import InvalidError

MAX_OBJECT_BYTES: Final = 64 << 20
MAX_TOTAL_BYTES: Final = 2 << 30
MAX_OBJECTS: Final = 2_000_000
_CHUNK: Final = 64 << 10
_OFS_DELTA: Final = 6
_REF_DELTA: Final = 7
_HASH_BYTES: Final = 20
_MAX_VARINT: Final = 10


class _Reader:
    """Bytes of a file from its present position on, with the ability to step back within the last chunk."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._buffer = b""
        self._at = 0

    def byte(self) -> int:
        return self.take(1)[0]

    def take(self, count: int) -> bytes:
        found = self._buffer[self._at : self._at + count]
        self._at += len(found)
        while len(found) < count:
            chunk = self.chunk()
            if not chunk:
                raise _broken("it ends too early")
            needed = count - len(found)
            found += chunk[:needed]
            self._give_back(chunk[needed:])
        return found

    def chunk(self) -> bytes:
        """Return what is buffered, or the next piece of the file; empty at its end."""
        rest, self._buffer, self._at = self._buffer[self._at :], b"", 0
        return rest or self._file.read(_CHUNK)

    def _give_back(self, rest: bytes) -> None:
        self._buffer, self._at = rest, 0

    def inflate(self, keep: int) -> tuple[bytes, int]:
        """Read one zlib stream; return its first `keep` bytes and its inflated size."""
        stream = zlib.decompressobj()
        head, size = b"", 0
        while not stream.eof:
            data = stream.unconsumed_tail or self.chunk()
            if not data:
                raise _broken("it ends too early")
            try:
                out = stream.decompress(data, _CHUNK)
            except zlib.error as error:
                raise _broken(str(error)) from error
            head += out[: keep - len(head)]
            size += len(out)
            if size > MAX_OBJECT_BYTES:
                raise _large(size)
        self._give_back(stream.unused_data)
        return head, size


def check_pack(file: BinaryIO) -> int:
    """Return the number of objects of the pack that `file` holds from its present position on.

    The position is somewhere behind the pack afterwards. Checksums and names are not looked at: indexing does that.

    Raises:
        InvalidError: `repository.pack.invalid` when it is no pack or is cut, `repository.pack.large` when it holds
            more than 2,000,000 objects, an object of more than 64 MiB, or more than 2 GiB together.
    """
    reader = _Reader(file)
    magic, version, count = struct.unpack(">4sLL", reader.take(12))
    if magic != b"PACK" or version not in {2, 3}:
        raise _broken("it has no pack header")
    if count > MAX_OBJECTS:
        raise InvalidError("repository.pack.large", f"the pack holds {count:,} objects; the limit is {MAX_OBJECTS:,}")
    total = 0
    for _ in range(count):
        total += _object_size(reader)
        if total > MAX_TOTAL_BYTES:
            raise _large(total)
    return int(count)


def _object_size(reader: _Reader) -> int:
    kind, claimed = _object_header(reader)
    if claimed > MAX_OBJECT_BYTES:
        raise _large(claimed)
    if kind == _REF_DELTA:
        reader.take(_HASH_BYTES)
    elif kind == _OFS_DELTA:
        _skip_number(reader)
    head, size = reader.inflate(2 * _MAX_VARINT)
    if size != claimed:
        raise _broken("an object is not as long as it says")
    if kind in {_OFS_DELTA, _REF_DELTA}:
        size = _delta_size(head)
        if size > MAX_OBJECT_BYTES:
            raise _large(size)
    return size


def _object_header(reader: _Reader) -> tuple[int, int]:
    byte = reader.byte()
    kind, claimed = (byte >> 4) & 7, byte & 15
    for shift in range(4, 7 * _MAX_VARINT, 7):
        if not byte & 0x80:
            return kind, claimed
        byte = reader.byte()
        claimed |= (byte & 0x7F) << shift
    raise _broken("an object's size is no number")


def _skip_number(reader: _Reader) -> None:
    for _ in range(_MAX_VARINT):
        if not reader.byte() & 0x80:
            return
    raise _broken("a delta has no base")


def _delta_size(head: bytes) -> int:
    """Return the size of what a delta makes: the second number at its beginning."""
    numbers, value, shift = [], 0, 0
    for byte in head:
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            numbers.append(value)
            value, shift = 0, 0
            if len(numbers) == 2:
                return numbers[1]
    raise _broken("a delta is cut")


def _broken(reason: str) -> InvalidError:
    return InvalidError("repository.pack.invalid", f"the pack is broken: {reason}", hint="push again")


def _large(size: int) -> InvalidError:
    return InvalidError(
        "repository.pack.large",
        f"the pack holds {size:,} bytes in one object or together",
        hint=f"one object may have {MAX_OBJECT_BYTES:,} bytes; large data belongs into storage, not into git",
    )
