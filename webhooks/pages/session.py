"""Sessions of the pages: who signed in with a token, kept in a cookie that opens nothing but the pages.

The cookie names the digest of the token, not the token, and is signed with the key that all processes share. The API
never looks at it, so no page of another site can act through it; a revoked token ends its sessions.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import Response

from runner.access import AccessControl, Identity, digest_of

if TYPE_CHECKING:
    from runner.secrets.encryption import Encryption

COOKIE: Final = "mainstem_session"
PATH: Final = "/ui"
LASTS_S: Final = 12 * 3600
_PARTS: Final = 3


class Sessions:
    """Gives out cookies and tells whom they belong to."""

    def __init__(self, access: AccessControl, encryption: Encryption, *, is_secure: bool) -> None:
        self._access = access
        self._key = encryption.derive("sessions of the pages")
        self._is_secure = is_secure

    def identity(self, request: Request) -> Identity | None:
        """Return who signed in, None without a cookie that counts. May wait for the store."""
        parts = request.cookies.get(COOKIE, "").split(".")
        if len(parts) != _PARTS:
            return None
        digest, expiry, signature = parts
        if not hmac.compare_digest(signature.encode(), self._signature(digest, expiry).encode()):
            return None
        if int(expiry) < time.time():
            return None
        return self._access.by_digest(digest)

    def begin(self, secret: str, response: Response) -> Identity | None:
        """Set the cookie of a session when the secret is that of a token; return whose it is."""
        digest = digest_of(secret)
        identity = self._access.by_digest(digest)
        if identity is not None:
            expiry = str(int(time.time()) + LASTS_S)
            self._set(response, f"{digest}.{expiry}.{self._signature(digest, expiry)}", LASTS_S)
        return identity

    def end(self, response: Response) -> None:
        """Have the browser forget the cookie."""
        self._set(response, "", 0)

    def _set(self, response: Response, value: str, seconds: int) -> None:
        # Lax: a link in a report or on a forge leads here signed in, and nothing here changes by being opened.
        response.set_cookie(
            COOKIE, value, max_age=seconds, path=PATH, secure=self._is_secure, httponly=True, samesite="lax"
        )

    def _signature(self, digest: str, expiry: str) -> str:
        return hmac.new(self._key, f"{digest}.{expiry}".encode(), hashlib.sha256).hexdigest()
