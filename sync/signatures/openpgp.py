"""Signatures made with OpenPGP keys, verified by `gpg` with a keyring that holds the listed keys and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from sync.signatures.programs import Ran, run
from sync.signatures.verdict import CommitSignature, SignatureState, shown

BEGIN: Final = b"-----BEGIN PGP SIGNATURE-----"
KIND: Final = "openpgp"
_PROGRAM: Final = "gpg"
_ALONE: Final = (
    "--batch",
    "--no-tty",
    "--no-options",
    # Nothing is left running, and nothing is asked of the network.
    "--no-autostart",
    "--disable-dirmngr",
    "--no-auto-key-retrieve",
    "--no-auto-check-trustdb",
    "--trust-model=always",
    "--status-fd=1",
)
_MARK: Final = "[GNUPG:] "
_BROKEN_HASHES: Final = frozenset({"1", "2", "3"})  # MD5, SHA-1, RIPEMD-160
_REFUSED: Final = {
    "BADSIG": SignatureState.BAD,
    "EXPSIG": SignatureState.EXPIRED,
    "EXPKEYSIG": SignatureState.EXPIRED,
    "REVKEYSIG": SignatureState.REVOKED,
    "ERRSIG": SignatureState.UNKNOWN_KEY,
}
_NO_KEY: Final = "9"


class OpenPgp:
    """Verifies against armored public keys, in a folder that is nobody else's and becomes the home of `gpg`."""

    def __init__(self, blocks: Sequence[str], folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700)
        self._listed: set[str] = set()
        for block in blocks:
            imported = self._asked("--import", given=block.encode())
            self._listed |= {words[2] for words in _statuses(imported) if words[0] == "IMPORT_OK" and len(words) > 2}

    def verify(self, signature: bytes, payload: bytes) -> CommitSignature:
        """Return what is to be said of a signature. The time that counts is now. Raises `ProgramError`."""
        place = self._folder / "signature.asc"
        place.write_bytes(signature)
        answer = self._asked("--verify", str(place), "-", given=payload)
        statuses = list(_statuses(answer))
        if sum(words[0] == "NEWSIG" for words in statuses) > 1:
            return CommitSignature(SignatureState.BAD, KIND, detail="there is more than one signature")
        for words in statuses:
            if words[0] in _REFUSED:
                return _refused(words, statuses)
        valid = next((words for words in statuses if words[0] == "VALIDSIG" and len(words) > 10), None)
        if valid is None or answer.code != 0:
            return CommitSignature(SignatureState.BAD, KIND, detail="it is no signature of these bytes")
        primary, user = valid[10], _user(statuses)
        if valid[8] in _BROKEN_HASHES:
            return CommitSignature(
                SignatureState.BAD, KIND, user, primary, detail="it is made over MD5, SHA-1 or RIPEMD-160"
            )
        return CommitSignature(
            SignatureState.GOOD if primary in self._listed else SignatureState.UNKNOWN_KEY, KIND, user, primary
        )

    def _asked(self, *arguments: str, given: bytes = b"") -> Ran:
        return run(_PROGRAM, [f"--homedir={self._folder}", *_ALONE, *arguments], self._folder, given)


def _refused(words: Sequence[str], statuses: Sequence[Sequence[str]]) -> CommitSignature:
    state = _REFUSED[words[0]]
    if words[0] == "ERRSIG":
        # Its fields: key, algorithms, class, time, reason, and the fingerprint in newer versions.
        if len(words) > 6 and words[6] != _NO_KEY:
            return CommitSignature(SignatureState.UNSUPPORTED, KIND, detail="gpg does not know its algorithm")
        return CommitSignature(state, KIND, fingerprint=words[1])
    valid = next((each for each in statuses if each[0] == "VALIDSIG" and len(each) > 10), None)
    return CommitSignature(state, KIND, _user(statuses), valid[10] if valid else words[1])


def _user(statuses: Sequence[Sequence[str]]) -> str | None:
    found = next((words for words in statuses if words[0] in {"GOODSIG", *_REFUSED} and words[0] != "ERRSIG"), None)
    return shown(" ".join(found[2:])) if found else None


def _statuses(answer: Ran) -> Iterator[list[str]]:
    """Yield the words of each line that `gpg` writes for programs; names of users may hold other ends of lines."""
    for line in answer.out.split("\n"):
        if line.startswith(_MARK) and (words := line.removeprefix(_MARK).split()):
            yield words
