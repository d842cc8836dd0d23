"""Who we are at Google Cloud, on `google-auth`: tokens for requests, and signatures for addresses."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final

import httpx

from task_runners.cloud import denied

__all__ = ["SCOPE", "GoogleAccess", "Signer"]

SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
Credentials = Any  # google-auth is an extra without complete types


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs with the key of a service account, here or at Google."""

    email: str
    key: Any

    def sign(self, message: bytes) -> bytes:
        """Return the RSA-SHA256 signature. Raises `cloud.access.denied`."""
        import google.auth.exceptions

        try:
            return bytes(self.key.sign(message))
        except google.auth.exceptions.GoogleAuthError as error:
            raise denied("Google Cloud", f"nothing can be signed: {error}") from error


@dataclass(frozen=True, slots=True)
class GoogleAccess:
    """A service account by its JSON key, or whoever the ambient chain (environment, gcloud, metadata server) names."""

    service_account: str | None = None
    impersonated: str | None = None
    scopes: tuple[str, ...] = (SCOPE,)

    def auth(self) -> httpx.Auth:
        """Return what puts a token on each request, made at the first one.

        Raises:
            ImportError: the extra `gcp` is not installed.
        """
        import google.auth  # noqa: F401 - so that a missing extra is told here, not at the first request

        return _TokenAuth(self)

    def signer(self) -> Signer:
        """Return what signs as this account.

        Raises:
            TaskRunnerError: `cloud.access.denied` when it is no service account.
        """
        import google.auth.iam

        found = _credentials(self)
        email = getattr(found, "service_account_email", None)
        key = getattr(found, "signer", None)
        if email == "default":  # the metadata server tells the name with the first token
            found.refresh(_transport())
            email = found.service_account_email
        if not email:
            raise denied("Google Cloud", "addresses can be signed by a service account only, not by a person")
        return Signer(email, key or google.auth.iam.Signer(_transport(), found, email))


class _TokenAuth(httpx.Auth):
    def __init__(self, access: GoogleAccess) -> None:
        self._access = access
        self._lock = threading.Lock()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        import google.auth.exceptions

        try:
            with self._lock:
                credentials = _credentials(self._access)
                if not credentials.valid:
                    credentials.refresh(_transport())
        except google.auth.exceptions.GoogleAuthError as error:
            raise denied("Google Cloud", str(error)) from error
        request.headers["Authorization"] = f"Bearer {credentials.token}"
        yield request


@functools.lru_cache(maxsize=32)
def _credentials(access: GoogleAccess) -> Credentials:
    import google.auth
    import google.auth.exceptions
    from google.auth import impersonated_credentials
    from google.oauth2 import service_account

    try:
        if access.service_account:
            key = json.loads(access.service_account)
            found = service_account.Credentials.from_service_account_info(key, scopes=access.scopes)
        else:
            found, _ = google.auth.default(scopes=access.scopes)
    except (ValueError, google.auth.exceptions.GoogleAuthError) as error:
        # The text of a key must not come into a log by way of the error.
        reason = str(error) if isinstance(error, google.auth.exceptions.GoogleAuthError) else "no JSON key of one"
        raise denied("Google Cloud", f"the service account cannot be used: {reason}") from None
    if access.impersonated:
        return impersonated_credentials.Credentials(found, access.impersonated, list(access.scopes))
    return found


def _transport() -> Any:
    from google.auth.transport.requests import Request

    return Request()
