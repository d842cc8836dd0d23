"""Signatures over raw bytes, compared in constant time.

Bytes are compared, never text: `compare_digest` raises TypeError for text that is not ASCII, and a sender could make
that a failure of the server.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from sync.forges.base import Headers, UnprovenError

SIGNING_PREFIX: Final = "whsec_"
WINDOW_S: Final = 300
_MOST_SIGNATURES: Final = 8
_VERSION: Final = b"v1,"
_LONGEST_TIME: Final = 12


def hex_signature(secret: str, raw: bytes) -> str:
    """Return the HMAC-SHA256 of a body as lower-case hexadecimal digits, as GitHub and others sign."""
    return hmac.new(secret.encode(), raw, "sha256").hexdigest()


def demand_hex(given: str | None, raw: bytes, secrets: Sequence[str], *, prefix: str = "", header: str) -> None:
    """Return when `given` is `prefix` and the signature of `raw` with one of the secrets.

    Raises:
        UnprovenError: in every other case. The body is hashed with every secret whatever was given.
    """
    presented = _wire(given or "")
    matches = [
        hmac.compare_digest(presented, f"{prefix}{hex_signature(secret, raw)}".encode()) for secret in secrets if secret
    ]
    if given is None:
        raise UnprovenError(f"the header {header} is missing")
    if not any(matches):
        raise UnprovenError(f"the signature in {header} fits no secret")


def demand_token(given: str | None, secrets: Sequence[str], *, header: str) -> None:
    """Return when `given` is one of the secrets, as older webhooks of GitLab send it. Raises `UnprovenError`."""
    presented = _wire(given or "")
    matches = [hmac.compare_digest(presented, secret.encode()) for secret in secrets if secret]
    if given is None:
        raise UnprovenError(f"the header {header} is missing")
    if not any(matches):
        raise UnprovenError(f"the token in {header} fits no secret")


def standard_signature(key: bytes, message_id: str, timestamp: str, raw: bytes) -> str:
    """Return `v1,<base64>` over `id.timestamp.body`.

    Source: the Standard Webhooks specification 1.0, standardwebhooks.com.
    """
    digest = hmac.new(key, _wire(f"{message_id}.{timestamp}."), "sha256")
    digest.update(raw)
    return (_VERSION + base64.b64encode(digest.digest())).decode()


def demand_standard(headers: Headers, raw: bytes, secrets: Iterable[str], now: datetime) -> str:
    """Return the id of a delivery signed after Standard Webhooks, signed within five minutes of `now`.

    A secret that begins with `whsec_` is base64 of the key; any other is the key itself.

    Raises:
        UnprovenError: a header is missing, no signature fits, or the time is too far away.
    """
    message_id = headers.one("webhook-id")
    timestamp = headers.one("webhook-timestamp")
    presented = _wire(headers.one("webhook-signature") or "").split(b" ")
    if len(presented) > _MOST_SIGNATURES:
        raise UnprovenError(f"webhook-signature holds {len(presented)} signatures")
    matches = [
        hmac.compare_digest(one, standard_signature(key, message_id or "", timestamp or "", raw).encode())
        for key in _keys(secrets)
        for one in presented
    ]
    if message_id is None or timestamp is None:
        raise UnprovenError("webhook-id or webhook-timestamp is missing")
    if not any(matches):
        raise UnprovenError("webhook-signature fits no secret")
    _demand_recent(timestamp, now)
    return message_id


def signing_key(secret: str) -> bytes | None:
    """Return the key that a secret of Standard Webhooks stands for, None when it is no base64 after `whsec_`."""
    if not secret.startswith(SIGNING_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(SIGNING_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return None  # a key that nobody can have signed with


def _keys(secrets: Iterable[str]) -> list[bytes]:
    return [key for secret in secrets if (key := signing_key(secret))]


def _demand_recent(timestamp: str, now: datetime) -> None:
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _LONGEST_TIME):
        raise UnprovenError("webhook-timestamp is no number of seconds")
    away = int(timestamp) - now.timestamp()
    if abs(away) > WINDOW_S:
        raise UnprovenError(f"it was signed {abs(away):.0f} s {'ahead of' if away > 0 else 'before'} this clock")


def _wire(text: str) -> bytes:
    # Header values come as Latin-1; whatever else a caller passes must not raise.
    return text.encode("latin-1", "replace")
