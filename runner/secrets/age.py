"""The age identities of a server: what opens secrets that repositories hold. They lie outside of git."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from runner.errors import InvalidError

_PREFIX: Final = "AGE-SECRET-KEY-1"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_MOST_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class AgeKeys:
    """The identities of a file as `age-keygen` writes it; None: the server was given none. Read at each use."""

    file: Path | None

    def open(self, armoured: str) -> bytes:
        """Return what was encrypted for one of the identities.

        Raises:
            InvalidError: `secret.sealed.key` when there is no file, no identity in it, none that fits, or no library;
                `secret.file.mode` when others may read the file.
        """
        if self.file is None:
            text = "this server has no key for the secrets of repositories"
            raise InvalidError("secret.sealed.key", text, hint="set ageKeyFile to a file of age-keygen")
        pyrage = _library()
        try:
            identities = [pyrage.x25519.Identity.from_str(line) for line in _lines(self.file)]
            return bytes(pyrage.decrypt(armoured.encode(), identities))
        except (pyrage.IdentityError, pyrage.DecryptError):
            # The text of the library may quote what it was given.
            text = "no key of this server opens it" if _is_sound(pyrage, self.file) else f"{self.file} holds no age key"
            raise InvalidError(
                "secret.sealed.key", text, hint="encrypt it for the server too: sops updatekeys"
            ) from None


def _library() -> Any:
    try:
        import pyrage
    except ImportError:
        text = "secrets of repositories need a library that is not installed"
        raise InvalidError("secret.sealed.key", text, hint="pip install 'mainstem[age]'") from None
    return pyrage


def _is_sound(pyrage: Any, path: Path) -> bool:
    try:
        return bool([pyrage.x25519.Identity.from_str(line) for line in _lines(path)])
    except pyrage.IdentityError:
        return False


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(_MOST_BYTES).decode("ascii", "replace")
    except OSError as error:
        raise InvalidError("secret.sealed.key", f"{path} cannot be read: {error.strerror}") from None
    if mode & _OTHERS:
        message = f"{path} may be read by others (mode {stat.S_IMODE(mode):o})"
        raise InvalidError("secret.file.mode", message, hint=f"chmod 600 {path}")
    found = [line.strip() for line in content.splitlines() if line.strip().startswith(_PREFIX)]
    if not found:
        raise InvalidError("secret.sealed.key", f"{path} holds no age key", hint=f"age-keygen -o {path}")
    return found
