"""Verifies commits against a list of keys, each with the program that knows its kind of signature."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Final

from sync.signatures import openpgp, openssh
from sync.signatures.key_list import KeyList
from sync.signatures.openpgp import OpenPgp
from sync.signatures.openssh import OpenSsh
from sync.signatures.raw_commit import MOST_COMMIT, MOST_SIGNATURE, RawCommit
from sync.signatures.verdict import CommitSignature, SignatureState

_ARMOR: Final = b"-----BEGIN "


class Verifier:
    """Says of commits whether a listed key signed them. Nothing outside `folder`, which is its own, is read.

    `git verify-commit` is not asked: the configuration of a repository can name the programs that it starts.
    """

    def __init__(self, keys: KeyList, folder: Path) -> None:
        self._keys = keys
        self._folder = folder

    def verify(self, raw: bytes) -> CommitSignature:
        """Return what is to be said of a commit, given the bytes of its object.

        Raises:
            ProgramError: `signature.verifier.missing`, `signature.verifier.failed`.
        """
        if len(raw) > MOST_COMMIT:
            return CommitSignature(SignatureState.LARGE, detail=f"{len(raw):,} bytes; the limit is {MOST_COMMIT:,}")
        commit = RawCommit.of(raw)
        return _unfit(commit) or self._verified(commit.signatures[0], commit.payload)

    def _verified(self, signature: bytes, payload: bytes) -> CommitSignature:
        if signature.startswith(openssh.BEGIN):
            return self._openssh.verify(signature, payload) if self._keys.signers else _no_keys(openssh.KIND)
        if signature.startswith(openpgp.BEGIN):
            return self._openpgp.verify(signature, payload) if self._keys.blocks else _no_keys(openpgp.KIND)
        return CommitSignature(SignatureState.UNSUPPORTED)

    @cached_property
    def _openssh(self) -> OpenSsh:
        return OpenSsh(self._keys.signers, self._folder)

    @cached_property
    def _openpgp(self) -> OpenPgp:
        return OpenPgp(self._keys.blocks, self._folder / "gnupg")


def _unfit(commit: RawCommit) -> CommitSignature | None:
    """Return why the signature of a commit need not be looked at, or None."""
    if not commit.signatures:
        return CommitSignature(SignatureState.MISSING)
    size = len(commit.signatures[0])
    if size > MOST_SIGNATURE:
        return CommitSignature(
            SignatureState.LARGE, detail=f"a signature of {size:,} bytes; the limit is {MOST_SIGNATURE:,}"
        )
    if len(commit.signatures) > 1 or commit.signatures[0].count(_ARMOR) > 1:
        return CommitSignature(SignatureState.BAD, detail="there is more than one signature")
    return None


def _no_keys(kind: str) -> CommitSignature:
    return CommitSignature(SignatureState.UNKNOWN_KEY, kind, detail="no key of this kind is listed")
