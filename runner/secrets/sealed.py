"""Files `_secrets.yaml`: secrets of a namespace, in git, encrypted by SOPS for the server that runs its flows.

A file stands in the folder of its namespace. Each top key with something encrypted is a secret: a text, or JSON where
it is a map. What is opened is sealed again at once, as the store keeps secrets; nothing in the clear leaves here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from runner.errors import FlowError, InvalidError, Problem
from runner.flows.loader import Document, load
from runner.flows.models import NAMESPACE
from runner.secrets.age import AgeKeys
from runner.secrets.encryption import Encryption
from runner.secrets.sops import SopsFile
from runner.secrets.stored import demand_secret
from runner.store.records import StoredSecret

NAMES: Final = ("_secrets.yaml", "_secrets.yml")
MOST_SECRETS: Final = 1_000
"""Secrets of one file."""


@dataclass(frozen=True, slots=True)
class Seal:
    """Opens what repositories hold, and closes it as the store does. `encryption` is asked for when it is needed."""

    keys: AgeKeys
    encryption: Callable[[], Encryption]

    def resealed(self, file: SopsFile) -> dict[str, str]:
        """Return the secrets of a file by name, as the store keeps them.

        Raises:
            InvalidError: as `SopsFile.opened`; `secret.key.invalid`, `secret.value.invalid`.
        """
        opened = file.opened(self.keys.open)
        for name, value in opened.items():
            try:
                demand_secret(name, value)
            except InvalidError as error:
                raise InvalidError(error.code, f"{name}: {error.message}", hint=error.hint) from None
        encryption = self.encryption()
        return {name: encryption.encrypt(value) for name, value in opened.items()}


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """A secret as git wants it. `sealed` is what the store keeps of it, None where it was not opened."""

    namespace: str
    key: str
    mark: str
    file: str
    line: int
    sealed: str | None = field(default=None, repr=False)

    what = "secret"
    kind = None
    overwrite = False

    def is_said_by(self, row: StoredSecret) -> bool:
        """Whether the store has what git says, as far as one can tell without opening either."""
        return row.mark == self.mark

    def difference_to(self, _row: StoredSecret) -> None:
        """Return nothing: a plan says that a secret changes, never how."""


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A file as it was read: no secrets when there is a problem."""

    file: str
    secrets: tuple[SealedSecret, ...] = ()
    problems: tuple[Problem, ...] = ()


def is_sealed(path: str) -> bool:
    """Whether a path, with slashes, is that of a file of secrets."""
    return path.rpartition("/")[2] in NAMES


def parse_sealed(source: bytes, *, file: str, namespace: str | None, seal: Seal | None) -> SealedFile:
    """Parse a file of secrets that stands in a folder of `namespace` (None: in that of no namespace).

    Without a `seal` nothing is opened: names are all that is learnt of it.
    """
    try:
        document = load(source, file=file)
    except FlowError as error:
        # Whoever forgot to encrypt the file must not find its text in an answer.
        return SealedFile(file, problems=tuple(_without_text(each) for each in error.problems))
    try:
        return SealedFile(file, tuple(_secrets(document, file, namespace, seal)))
    except InvalidError as error:
        return SealedFile(file, problems=(Problem(error.code, error.message, file=file, line=1, hint=error.hint),))


def _without_text(problem: Problem) -> Problem:
    text = "the file is not acceptable YAML at this place"
    return Problem(problem.code, text, file=problem.file, line=problem.line, column=problem.column)


def _secrets(document: Document, file: str, namespace: str | None, seal: Seal | None) -> list[SealedSecret]:
    if namespace is None or not re.match(NAMESPACE, namespace):
        text = "the file stands in the folder of no namespace, so nobody could read its secrets"
        raise InvalidError("seed.namespace.missing", text, hint=f"move it, to flows/NAMESPACE/{NAMES[0]} say")
    found = SopsFile.of(document.value)
    if len(found.names) > MOST_SECRETS:
        raise InvalidError("secret.sealed.invalid", f"the file has more than {MOST_SECRETS:,} secrets")
    sealed = seal.resealed(found) if seal is not None else {}
    return [
        SealedSecret(
            namespace=namespace,
            key=name.upper(),
            mark=found.mark(name),
            file=file,
            line=document.positions.key((name,)).line,
            sealed=sealed.get(name),
        )
        for name in found.names
    ]
