"""Encryption of what must not lie in the store as it is: SECRET inputs and outputs, credentials of repositories."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from runner.errors import InvalidError, MainstemError
from runner.settings import Settings

SEALED = "io.kestra.datatype:aes_encrypted"
"""The type under which Kestra's API shows an encrypted value."""

_KEY_BYTES = 32
_NONCE_BYTES = 12


class Encryption:
    """AES-256-GCM with one key. A text encrypted twice gives two results; a result that was changed is refused."""

    def __init__(self, key: bytes) -> None:
        if len(key) != _KEY_BYTES:
            raise InvalidError("encryption.key.invalid", f"the encryption key has {len(key)} bytes, not {_KEY_BYTES}")
        self._key = key
        self._cipher = AESGCM(key)
        self._key = key

    @classmethod
    def open(cls, home: Path) -> Encryption:
        """Return the encryption of a home; its key file `encryption.key` (0600) is made at first use.

        Raises:
            InvalidError: `encryption.key.invalid` when the file holds something else than a key.
        """
        path = home / "encryption.key"
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            _create(path)
        try:
            key = base64.b64decode(path.read_bytes(), validate=False)
        except binascii.Error:
            raise InvalidError("encryption.key.invalid", f"{path} is not base64") from None
        return cls(key)

    @classmethod
    def of(cls, settings: Settings, home: Path | None = None) -> Encryption:
        """Return the encryption of a server: by the key that is set, which several processes share, or its home's.

        Raises:
            InvalidError: `encryption.key.invalid`.
        """
        if settings.encryption_key is None:
            return cls.open(home or settings.home)
        try:
            return cls(base64.b64decode(settings.encryption_key, validate=True))
        except binascii.Error:
            raise InvalidError("encryption.key.invalid", "the encryption key that is set is not base64") from None

    def derive(self, purpose: str) -> bytes:
        """Return a key of 32 bytes for another purpose; it tells nothing about this one."""
        return HKDF(SHA256(), _KEY_BYTES, salt=None, info=purpose.encode()).derive(self._key)

    def encrypt(self, text: str) -> str:
        """Return `text` encrypted, in base64."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return base64.b64encode(nonce + self._cipher.encrypt(nonce, text.encode(), None)).decode()

    def decrypt(self, encrypted: str) -> str:
        """Return the text that `encrypt` was given.

        Raises:
            MainstemError: `encryption.value.invalid` when another key made it or it was changed.
        """
        try:
            raw = base64.b64decode(encrypted, validate=True)
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], None).decode()
        except (binascii.Error, InvalidTag, ValueError):
            raise MainstemError(
                "encryption.value.invalid",
                "an encrypted value cannot be decrypted",
                hint="encryption.key in the home must be the one that it was encrypted with; is it in your backup?",
            ) from None

    def derived(self, purpose: str) -> bytes:
        """Return a key for another purpose, which tells nothing of this one."""
        return hmac.digest(self._key, f"mainstem {purpose}".encode(), "sha256")

    def seal(self, text: str) -> dict[str, str]:
        """Return the map that stands for `text` among inputs and outputs."""
        return {"type": SEALED, "value": self.encrypt(text)}

    def unseal(self, value: Any, watch: Callable[[str], Any] = lambda _text: None) -> Any:
        """Return `value` with every sealed text in it opened, maps and lists deep; `watch` hears each of them."""
        if is_sealed(value):
            text = self.decrypt(value["value"])
            watch(text)
            return text
        if isinstance(value, Mapping):
            return {key: self.unseal(item, watch) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.unseal(item, watch) for item in value]
        return value


def is_sealed(value: Any) -> bool:
    """Return whether `value` is what `Encryption.seal` gives."""
    return isinstance(value, Mapping) and value.get("type") == SEALED and isinstance(value.get("value"), str)


def _create(path: Path) -> None:
    # Written aside and linked into place, so that of two processes that start at once one key wins, whole.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.b64encode(secrets.token_bytes(_KEY_BYTES)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):
        os.link(temporary, path)
    temporary.unlink()
