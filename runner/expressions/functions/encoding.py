"""Encryption with a key that the flow holds: AES-GCM, the nonce before the ciphertext, all in base 64."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from runner.errors import ExpressionError
from runner.expressions.frame import Frame
from runner.expressions.registry import function
from runner.expressions.values import to_text

_KEY_BYTES: Final = frozenset({16, 24, 32})
_NONCE: Final = 12  # bytes; what GCM is defined for


@function()
def encrypt(frame: Frame, key: str, plaintext: str) -> str:
    """Return the text encrypted with `key`: 16, 24 or 32 bytes in base 64.

    Example:
        {{ encrypt('0123456789abcdef', 'text') | length }} -> 44
    """
    return encrypt_text(to_text(plaintext), key, frame.services.random_bytes(_NONCE))


@function()
def decrypt(key: str, encrypted: str) -> str:
    """Return the text that `encrypt` encrypted with the same key.

    Example:
        {{ decrypt('0123456789abcdef', encrypt('0123456789abcdef', 'text')) }} -> text
    """
    return decrypt_text(to_text(encrypted), key)


def encrypt_text(text: str, key: Any, nonce: bytes) -> str:
    """Return nonce, ciphertext and tag of `text` in base 64; the nonce must be used once only."""
    return base64.b64encode(nonce + _cipher(key).encrypt(nonce, text.encode(), None)).decode()


def decrypt_text(encrypted: str, key: Any) -> str:
    """Return what `encrypt_text` was given.

    Raises:
        ExpressionError: `expression.value` when the key is another one or the text was changed.
    """
    from cryptography.exceptions import InvalidTag

    try:
        content = base64.b64decode(encrypted, validate=True)
        plain: bytes = _cipher(key).decrypt(content[:_NONCE], content[_NONCE:], None)
    except (binascii.Error, InvalidTag, ValueError):
        raise ExpressionError("expression.value", "the text cannot be decrypted with this key") from None
    return plain.decode("utf-8", "replace")


def _cipher(key: Any) -> Any:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    content = to_text(key).encode()
    try:
        decoded = base64.b64decode(content, validate=True)
    except binascii.Error:
        decoded = b""
    # Kestra's keys are base 64; a plain text of the right length is taken as it is.
    chosen = next((one for one in (decoded, content) if len(one) in _KEY_BYTES), None)
    if chosen is None:
        raise ExpressionError("expression.argument", "an encryption key has 16, 24 or 32 bytes, in base 64")
    return AESGCM(chosen)
