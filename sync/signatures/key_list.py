"""Lists of keys that count: lines as in an `allowed_signers` file of OpenSSH, and armored OpenPGP keys. Pure.

What cannot be read is named by file and line, and does not count.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from runner.errors import Problem, Severity

KEY_FILE: Final = ".mainstem.signers"
"""The file at the root of a repository that lists keys."""
MOST_LIST: Final = 1 << 20
_BEGIN: Final = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
_END: Final = "-----END PGP PUBLIC KEY BLOCK-----"
_OPTION: Final = r'[A-Za-z-]+(?:="[^"]*")?'
# One place for every part: nothing here can be read in two ways, so that a long line costs no more than its length.
_SIGNER: Final = re.compile(
    r'(?:"[^"]+"|[^\s"]+)[ \t]+'
    rf"(?:(?P<options>{_OPTION}(?:,{_OPTION})*)[ \t]+)?"
    r"(?P<type>(?:ssh|ecdsa|sk)-[A-Za-z0-9@.-]+)[ \t]+(?P<key>[A-Za-z0-9+/]+={0,2})(?:[ \t].*)?\Z"
)
_LONGEST_LINE: Final = 32 << 10


@dataclass(frozen=True, slots=True)
class KeyList:
    """`signers` are lines for `ssh-keygen`, `blocks` armored public keys for `gpg`; `problems` what could not be read.

    The severity of the problems is WARNING: keys that are left out make fewer commits count, not more.
    """

    signers: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether no key can count."""
        return not self.signers and not self.blocks

    def without_authorities(self, lost: frozenset[str]) -> KeyList:
        """Return the list without authorities for certificates whose fingerprint (`SHA256:…`) is in `lost`.

        What they certified has fingerprints of its own, so nothing else would tell that it is not to be believed.
        """
        return replace(self, signers=tuple(line for line in self.signers if _authority(line) not in lost))

    @classmethod
    def joined(cls, lists: Iterable[KeyList]) -> KeyList:
        """Return one list with all that `lists` have."""
        parts = list(lists)
        return cls(
            tuple(line for part in parts for line in part.signers),
            tuple(block for part in parts for block in part.blocks),
            tuple(problem for part in parts for problem in part.problems),
        )

    @classmethod
    def read(cls, content: bytes, name: str) -> KeyList:
        """Return the keys of a file; `name` is what its problems call it."""
        if len(content) > MOST_LIST:
            return cls(problems=(unreadable(name, None, f"the file has more than {MOST_LIST:,} bytes"),))
        signers, blocks, problems = [], [], []
        # Lines as those see them who review the list, and `ssh-keygen`: Python would break them at more characters.
        lines = enumerate(content.decode("utf-8", "replace").split("\n"), start=1)
        for number, line in lines:
            text = line.strip()
            if text == _BEGIN:
                block = _rest_of_block(lines)
                if block is None:
                    problems.append(unreadable(name, number, "the OpenPGP key has no end"))
                else:
                    blocks.append(f"{_BEGIN}\n{block}")
            elif text and not text.startswith("#"):
                reason = _fault(text)
                if reason is None:
                    signers.append(text)
                else:
                    problems.append(unreadable(name, number, reason))
        return cls(tuple(signers), tuple(blocks), tuple(problems))


def unreadable(name: str, line: int | None, reason: str) -> Problem:
    """Return the problem of a list of keys, or of a line in it."""
    where = f"{name}:{line}" if line is not None else name
    message = f"{where}: {reason}, and does not count"
    return Problem("signature.keys.invalid", message, Severity.WARNING, file=name, line=line)


def _rest_of_block(lines: Iterable[tuple[int, str]]) -> str | None:
    found = []
    for _, line in lines:
        found.append(line.strip())
        if found[-1] == _END:
            return "\n".join(found) + "\n"
    return None


def _fault(line: str) -> str | None:
    """Return why a line names no key, or None."""
    if "PRIVATE KEY" in line:
        return "a private key has no place in a list of keys that count: take it out and make a new one"
    found = _SIGNER.match(line) if len(line) <= _LONGEST_LINE else None
    if found is None:
        return "this is no line of an allowed_signers file (principals [options] type key)"
    try:
        key = base64.b64decode(found["key"], validate=True)
    except binascii.Error:
        return "the key is no base64"
    kind = found["type"].encode()
    if key[:4] != len(kind).to_bytes(4, "big") or not key[4:].startswith(kind) or len(key) < len(kind) + 20:
        return f"the key is none of type {found['type']}"
    return None


def _authority(line: str) -> str | None:
    """Return the fingerprint of a line's key where it is one of an authority."""
    found = _SIGNER.match(line)
    if found is None or "cert-authority" not in (found["options"] or "").lower():
        return None
    digest = hashlib.sha256(base64.b64decode(found["key"])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
