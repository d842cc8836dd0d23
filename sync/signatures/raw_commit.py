"""What of a commit is signed: its bytes without the headers that hold signatures. Pure.

Git signs the object as it would be without the signature. What is cut out are the lines of the headers `gpgsig` and
`gpgsig-sha256` with their continuations, which begin with a space; every other byte is part of what is signed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MOST_COMMIT: Final = 4 << 20
MOST_SIGNATURE: Final = 64 << 10
_SIGNATURES: Final = (b"gpgsig", b"gpgsig-sha256")
_CONTINUED: Final = b" "


@dataclass(frozen=True, slots=True)
class RawCommit:
    """`payload` is what was signed, `signatures` holds the values of all `gpgsig` headers: a sound commit has one."""

    payload: bytes
    signatures: tuple[bytes, ...]

    @classmethod
    def of(cls, raw: bytes) -> RawCommit:
        """Return the parts of a commit object; `raw` is its content without the header of the object."""
        head, blank, message = raw.partition(b"\n\n")
        kept: list[bytes] = []
        found: list[tuple[bytes, list[bytes]]] = []
        is_signature = False
        for line in head.split(b"\n"):
            if not line.startswith(_CONTINUED):
                name, _, value = line.partition(b" ")
                is_signature = name in _SIGNATURES and name != line
                if is_signature:
                    found.append((name, [value]))
                    continue
            elif is_signature:
                found[-1][1].append(line.removeprefix(_CONTINUED))
                continue
            kept.append(line)
        # A repository of SHA-1 objects is signed by `gpgsig`; the other one belongs to the same commit under SHA-256.
        signatures = tuple(b"\n".join(lines) + b"\n" for name, lines in found if name == _SIGNATURES[0])
        return cls(b"\n".join(kept) + blank + message, signatures)
