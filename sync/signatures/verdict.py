"""What is said of the signature of a commit. Pure."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final, NamedTuple

from runner.errors import Problem, Severity

_MOST_TEXT: Final = 200


class SignatureState(enum.StrEnum):
    """Whether a signature counts, and if not, why."""

    GOOD = "good"
    MISSING = "missing"
    BAD = "bad"
    UNKNOWN_KEY = "unknown_key"
    EXPIRED = "expired"
    REVOKED = "revoked"
    UNSUPPORTED = "unsupported"
    LARGE = "large"
    UNVERIFIED = "unverified"


class _Fault(NamedTuple):
    """Why a signature does not count: the code of the problem, the words after `commit 1234567`, and what to do."""

    code: str
    text: str
    hint: str | None = None


_FAULTS: Final = {
    SignatureState.MISSING: _Fault("signature.missing", "is not signed", "sign it: git commit --amend --no-edit -S"),
    SignatureState.BAD: _Fault(
        "signature.bad", "has a signature that does not hold", "sign it again: git commit --amend --no-edit -S"
    ),
    SignatureState.UNKNOWN_KEY: _Fault(
        "signature.key.unknown",
        "is signed with a key that is not listed",
        "sign with a listed key; a key that a commit adds counts once that commit is active",
    ),
    SignatureState.EXPIRED: _Fault(
        "signature.key.expired",
        "is signed with a key that has expired, or is not valid yet",
        "sign with a key that is valid now; the server's clock counts, not the date of the commit",
    ),
    SignatureState.REVOKED: _Fault(
        "signature.key.revoked", "is signed with a key that is revoked", "sign it again with another key"
    ),
    SignatureState.UNSUPPORTED: _Fault(
        "signature.kind.unknown",
        "is signed in a way that is neither SSH nor OpenPGP",
        "sign with an SSH or an OpenPGP key: git config gpg.format ssh",
    ),
    SignatureState.LARGE: _Fault("signature.large", "is too large to be verified, or its signature is"),
    SignatureState.UNVERIFIED: _Fault("signature.verifier.failed", "has a signature that could not be verified"),
}


@dataclass(frozen=True, slots=True)
class CommitSignature:
    """What was found of the signature of `commit`.

    `kind` is `ssh` or `openpgp`, None where there is neither. `signer` is the principal or user id that the key is
    listed under, `fingerprint` that of the key: `SHA256:…` for SSH, 40 hex digits of the primary key for OpenPGP.
    `detail` says more of what is wrong; `commits` is how many commits were looked at, all good where this is.
    """

    state: SignatureState
    kind: str | None = None
    signer: str | None = None
    fingerprint: str | None = None
    detail: str | None = None
    commit: str = ""
    commits: int = 1

    def of(self, commit: str, *, revoked: frozenset[str] = frozenset()) -> CommitSignature:
        """Return it as what is said of `commit`, by someone who holds the keys in `revoked` for lost."""
        is_lost = self.state is SignatureState.GOOD and self.fingerprint in revoked
        return replace(self, commit=commit, state=SignatureState.REVOKED if is_lost else self.state)

    @property
    def is_good(self) -> bool:
        """Whether it counts."""
        return self.state is SignatureState.GOOD

    @property
    def line(self) -> str:
        """Return it as a sentence, for people."""
        key = " ".join(part for part in (self.kind, self.fingerprint) if part)
        if self.is_good:
            return f"signed by {self.signer or 'nobody named'} ({key})"
        detail = f": {self.detail}" if self.detail else ""
        return f"commit {self.commit[:7]} {_FAULTS[self.state].text}{f' ({key})' if key else ''}{detail}"

    def problem(self, severity: Severity) -> Problem:
        """Return what is wrong with it as a finding of a plan."""
        fault = _FAULTS[self.state]
        return Problem(fault.code, self.line, severity, hint=fault.hint)

    def as_json(self) -> dict[str, Any]:
        """Return it as the API and the ledger show it."""
        return {
            "state": self.state.value,
            "kind": self.kind,
            "signer": self.signer,
            "fingerprint": self.fingerprint,
            "commit": self.commit,
            "commits": self.commits,
            "detail": self.detail,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any] | None) -> CommitSignature | None:
        """Return what `as_json` gave; None for nothing."""
        if not found:
            return None
        known = {each.name: found[each.name] for each in fields(cls) if each.name in found}
        return cls(**{**known, "state": SignatureState(found["state"])})


def shown(text: str) -> str:
    """Return a text from outside as one line of at most 200 printable characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in text.strip())[:_MOST_TEXT]


def described(found: Mapping[str, Any] | None) -> str | None:
    """Return the words for a signature as `CommitSignature.as_json` gave it: `alice@example.org` or `unknown key`."""
    if not found:
        return None
    if found["state"] == SignatureState.GOOD:
        return str(found["signer"])
    return "not signed" if found["state"] == SignatureState.MISSING else str(found["state"]).replace("_", " ")
