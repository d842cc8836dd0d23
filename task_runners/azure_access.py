"""Who we are at Azure: an account and its key, or a token of Entra ID; at Storage both sign addresses of blobs."""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import threading
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Final

import httpx

from task_runners.cloud import denied
from task_runners.errors import TaskRunnerError

__all__ = ["SAS_VERSION", "BatchKeyAuth", "StorageKey", "TokenAuth", "parse_connection_string", "sas_query"]

SAS_VERSION: Final = "2020-12-06"
_EARLY: Final = timedelta(minutes=5)  # clocks differ; a token is taken as expired so long before its end
_KEY_FIELDS: Final = {
    "skoid": "SignedOid",
    "sktid": "SignedTid",
    "skt": "SignedStart",
    "ske": "SignedExpiry",
    "sks": "SignedService",
    "skv": "SignedVersion",
}


@dataclass(frozen=True, slots=True)
class StorageKey:
    """What signs: the key of an account (`delegation` is empty), or one that Entra ID lent to a user."""

    account: str
    secret: str
    delegation: Mapping[str, str] | None = None


def parse_connection_string(text: str) -> tuple[StorageKey, str]:
    """Return the account key and the address of its blobs from `DefaultEndpointsProtocol=...;AccountName=...;...`.

    Raises:
        TaskRunnerError: `cloud.connection.invalid`; the text itself, which holds the key, is not shown.
    """
    fields = dict(part.split("=", 1) for part in text.strip().split(";") if "=" in part)
    name, secret = fields.get("AccountName"), fields.get("AccountKey")
    if not name or not secret:
        raise TaskRunnerError(
            "cloud.connection.invalid", "the connection string of the storage account has no AccountName or AccountKey"
        )
    suffix = fields.get("EndpointSuffix", "core.windows.net")
    usual = f"{fields.get('DefaultEndpointsProtocol', 'https')}://{name}.blob.{suffix}"
    return StorageKey(name, secret), fields.get("BlobEndpoint", usual).rstrip("/")


def sas_query(key: StorageKey, path: str, permissions: str, lifetime: timedelta) -> dict[str, str]:
    """Return the query that grants `permissions` (letters in the order `racwdl`) on a container or blob.

    `path` is `container` or `container/blob`.
    """
    now = datetime.now(UTC)
    expiry = f"{now + lifetime:%Y-%m-%dT%H:%M:%SZ}"
    resource = "b" if "/" in path else "c"
    canonical = f"/blob/{key.account}/{path}"
    own = [] if key.delegation is None else [key.delegation[field] for field in _KEY_FIELDS.values()]
    # permissions, start, expiry, resource, identifier (or the lent key and three users), IP, protocol, version ...
    middle = [canonical, ""] if key.delegation is None else [canonical, *own, "", "", ""]
    lines = [permissions, "", expiry, *middle, "", "", SAS_VERSION, resource, "", "", "", "", "", "", ""]
    signature = _hmac(key.secret, "\n".join(lines))
    named = {} if key.delegation is None else dict(zip(_KEY_FIELDS, own, strict=True))
    return {"sv": SAS_VERSION, "sr": resource, "se": expiry, "sp": permissions, **named, "sig": signature}


def _hmac(secret: str, text: str) -> str:
    try:
        raw = base64.b64decode(secret, validate=True)
    except ValueError:
        raise denied("Azure", "the account key is not base64") from None
    return base64.b64encode(hmac.new(raw, text.encode(), hashlib.sha256).digest()).decode()


class BatchKeyAuth(httpx.Auth):
    """Signs each request to Azure Batch with the key of its account."""

    _SIGNED: ClassVar[tuple[str, ...]] = (
        "content-encoding",
        "content-language",
        "content-length",
        "content-md5",
        "content-type",
        "date",
        "if-modified-since",
        "if-match",
        "if-none-match",
        "if-unmodified-since",
        "range",
    )

    def __init__(self, account: str, key: str) -> None:
        self._account, self._key = account, key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Give the request its date and signature."""
        request.headers["ocp-date"] = email.utils.formatdate(usegmt=True)
        request.headers["Authorization"] = f"SharedKey {self._account}:{self.signature(request)}"
        yield request

    def signature(self, request: httpx.Request) -> str:
        """Return the signature over what of the request is signed."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        if request.method not in {"GET", "HEAD"}:
            headers.setdefault("content-length", "0")
        own = [f"{name}:{value}" for name, value in sorted(headers.items()) if name.startswith("ocp-")]
        query = [f"{name}:{value}" for name, value in sorted(request.url.params.items()) if value]
        path = f"/{self._account}{request.url.raw_path.partition(b'?')[0].decode()}"
        lines = [request.method, *(headers.get(name, "") for name in self._SIGNED), *own, path, *query]
        return _hmac(self._key, "\n".join(lines))


class TokenAuth(httpx.Auth):
    """Puts a token of the ambient chain (environment, workload, managed identity, `az login`) on each request."""

    def __init__(self, scope: str) -> None:
        from azure.identity import DefaultAzureCredential

        self._scope = scope
        self._chain: Any = DefaultAzureCredential()
        self._token: Any = None
        self._lock = threading.Lock()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Give the request its token, made anew when the last one is about to expire."""
        request.headers["Authorization"] = f"Bearer {self._current()}"
        yield request

    def _current(self) -> str:
        from azure.core.exceptions import AzureError

        with self._lock:
            ends = datetime.now(UTC) + _EARLY
            if self._token is None or self._token.expires_on < ends.timestamp():
                try:
                    self._token = self._chain.get_token(self._scope)
                except AzureError as error:
                    raise denied("Azure", str(error)) from error
            return str(self._token.token)
