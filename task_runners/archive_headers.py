"""What the headers of an archive from a stranger may be, so that reading them costs little.

`tarfile` reads the extended headers of a member (long names, PAX records) whole, however large they say they are, looks
through them in time that grows with the square of their length, and calls itself for each that follows another.
"""

from __future__ import annotations

import tarfile
from typing import Any, Final

__all__ = ["cheap_members"]

_EXTENDED: Final = frozenset(
    {
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    }
)
_HEADER_BYTES: Final = 8 * 1024  # a path has 4,096 bytes at most
_USUAL_BYTES: Final = 1024
_UNUSUAL_BYTES: Final = 4 * 1024 * 1024
_HEADERS_PER_MEMBER: Final = 8


def cheap_members() -> type[tarfile.TarInfo]:
    """Return what `tarfile.open` takes as `tarinfo` for one archive: it raises `tarfile.ReadError` for costly headers.

    Sparse members are refused too: the map of their holes may be as large as the archive.
    """
    together = in_a_row = 0

    class Member(tarfile.TarInfo):
        @classmethod
        def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Any:
            nonlocal together, in_a_row
            member = super().frombuf(buf, encoding, errors)
            if member.type == tarfile.GNUTYPE_SPARSE:
                raise _sparse()
            is_extended = member.type in _EXTENDED
            in_a_row = in_a_row + 1 if is_extended else 0
            together += member.size if is_extended and member.size > _USUAL_BYTES else 0
            is_large = is_extended and not 0 <= member.size <= _HEADER_BYTES
            if is_large or together > _UNUSUAL_BYTES or in_a_row > _HEADERS_PER_MEMBER:
                raise tarfile.ReadError("its headers are too large")
            return member

        def _proc_gnusparse_00(self, *_: Any) -> None:
            raise _sparse()

        _proc_gnusparse_01 = _proc_gnusparse_10 = _proc_gnusparse_00

    return Member


def _sparse() -> tarfile.ReadError:
    return tarfile.ReadError("it has sparse members")
