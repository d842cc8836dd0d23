"""Signatures made with SSH keys, verified and made by `ssh-keygen`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from runner.errors import InvalidError
from sync.signatures.programs import Ran, run
from sync.signatures.verdict import CommitSignature, SignatureState, shown

BEGIN: Final = b"-----BEGIN SSH SIGNATURE-----"
KIND: Final = "ssh"
_PROGRAM: Final = "ssh-keygen"
_NAMESPACE: Final = "git"
_FINGERPRINT: Final = re.compile(r" key (SHA256:[A-Za-z0-9+/]{43})\s*\Z")
_MOST_PRINCIPALS: Final = 16
_OUT_OF_TIME: Final = ("expired", "not yet valid")


class OpenSsh:
    """Verifies against `signers`, lines of an `allowed_signers` file, in a folder that is nobody else's."""

    def __init__(self, signers: Sequence[str], folder: Path) -> None:
        self._folder = folder
        self._signers = folder / "allowed_signers"
        self._signers.write_text("".join(f"{line}\n" for line in signers), encoding="utf-8")

    def verify(self, signature: bytes, payload: bytes) -> CommitSignature:
        """Return what is to be said of a signature. The time that counts is now. Raises `ProgramError`."""
        (self._folder / "signature").write_bytes(signature)
        listed = self._asked("find-principals", "-f", str(self._signers))
        answers = [listed]
        for principal in self._principals(listed):
            found = self._asked("verify", "-n", _NAMESPACE, "-f", str(self._signers), "-I", principal, given=payload)
            if found.code == 0:
                return CommitSignature(SignatureState.GOOD, KIND, shown(principal), _fingerprint(found))
            answers.append(found)
        alone = self._asked("check-novalidate", "-n", _NAMESPACE, given=payload)
        if alone.code != 0:
            return CommitSignature(SignatureState.BAD, KIND, detail=_reason(alone))
        is_late = any(word in each.err for each in answers for word in _OUT_OF_TIME)
        return CommitSignature(
            SignatureState.EXPIRED if is_late else SignatureState.UNKNOWN_KEY, KIND, fingerprint=_fingerprint(alone)
        )

    @staticmethod
    def _principals(listed: Ran) -> list[str]:
        names = listed.out.split("\n") if listed.code == 0 else []
        return [name for name in names if name and "\0" not in name][:_MOST_PRINCIPALS]

    def _asked(self, verb: str, *arguments: str, given: bytes = b"") -> Ran:
        return run(_PROGRAM, ["-Y", verb, "-s", str(self._folder / "signature"), *arguments], self._folder, given)


def sign(payload: bytes, key: Path, folder: Path) -> bytes:
    """Return the armored signature of a commit's bytes with the private key in the file `key`, which has no passphrase.

    Raises:
        ProgramError: `signature.verifier.missing`.
        InvalidError: `signature.key.invalid` when the key cannot be used.
    """
    made = run(_PROGRAM, ["-Y", "sign", "-n", _NAMESPACE, "-f", str(key.absolute())], folder, payload)
    if made.code != 0 or not made.out.startswith(BEGIN.decode()):
        raise InvalidError(
            "signature.key.invalid",
            f"{key} cannot sign: {_reason(made)}",
            hint="signatures.signingKey names a private SSH key without a passphrase, readable by the server alone",
        )
    return made.out.encode()


def _fingerprint(answer: Ran) -> str | None:
    found = _FINGERPRINT.search(answer.out)
    return found[1] if found else None


def _reason(answer: Ran) -> str:
    lines = [line for line in answer.err.splitlines() if line.strip()]
    return shown(lines[-1] if lines else f"{_PROGRAM} says no more than {answer.code}")
