"""Buckets of Google Cloud Storage, on its JSON interface; signed addresses by its V4 signatures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import IO, ClassVar, Final
from urllib.parse import quote, urlencode, urlsplit

import httpx

from task_runners.cloud import CloudApi, FileBody
from task_runners.errors import TaskRunnerError
from task_runners.google_access import GoogleAccess, Signer
from task_runners.staging.object_store import CHUNK_BYTES, ObjectStore
from task_runners.staging.port import SignedUpload

__all__ = ["GoogleStore"]

_ENDPOINT: Final = "https://storage.googleapis.com"
_ALGORITHM: Final = "GOOG4-RSA-SHA256"
_LONGEST: Final = timedelta(days=7)  # what Google signs for at most


class GoogleStore(ObjectStore):
    """One bucket. A file travels in one request, of whatever size, and again from its start after a broken one.

    An endpoint without TLS is an emulator: it gets no token and its addresses are signed only with a given account.
    """

    options_known: ClassVar[frozenset[str]] = frozenset({"endpoint", "serviceAccount", "impersonatedServiceAccount"})

    def __init__(
        self, bucket: str, prefix: str, options: Mapping[str, str] | None = None, access: GoogleAccess | None = None
    ) -> None:
        super().__init__(bucket, prefix, options or {})
        given = options or {}
        self._endpoint = given.get("endpoint", _ENDPOINT).rstrip("/")
        self._access = access or GoogleAccess(given.get("serviceAccount"), given.get("impersonatedServiceAccount"))
        self._is_open = self._endpoint.startswith("http://")
        auth = None if self._is_open else self._access.auth()
        self._api = CloudApi(f"the bucket {bucket!r}", self._endpoint, auth)
        self._objects = f"/storage/v1/b/{quote(bucket, safe='')}/o"

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def _send(self, name: str, source: IO[bytes], size: int) -> None:
        body = FileBody(source, size)
        headers = {**body.headers, "Content-Type": "application/octet-stream"}
        answer = self._api.call(
            "POST",
            f"/upload{self._objects}",
            params={"uploadType": "media", "name": name},
            content=body,
            headers=headers,
            accept=(404,),
        )
        self._found(answer, None)

    def _read(self, name: str) -> Iterator[bytes]:
        with self._api.stream(self._path(name), params={"alt": "media"}) as answer:
            if not answer.is_success:
                if answer.status_code != 404:
                    raise self._api.fault_of(answer)
                self._found(answer, name)
            yield from answer.iter_bytes(CHUNK_BYTES)

    def _size(self, name: str) -> int:
        answer = self._api.call("GET", self._path(name), params={"fields": "size"}, accept=(404,))
        self._found(answer, name)
        return int(answer.json()["size"])

    def _list(self, prefix: str) -> Iterator[str]:
        asked = {"prefix": prefix, "fields": "items(name),nextPageToken"}
        while True:
            answer = self._api.call("GET", self._objects, params=asked, accept=(404,))
            self._found(answer, None)
            page = answer.json()
            yield from (item["name"] for item in page.get("items", ()))
            if not page.get("nextPageToken"):
                return
            asked["pageToken"] = page["nextPageToken"]

    def _delete(self, names: list[str]) -> None:
        for name in names:
            self._api.call("DELETE", self._path(name), accept=(404,))

    def _sign_get(self, name: str, lifetime: timedelta) -> str:
        return self._signed("GET", name, lifetime)

    def _sign_put(self, name: str, lifetime: timedelta) -> SignedUpload:
        return SignedUpload(self._signed("PUT", name, lifetime))

    def _path(self, name: str) -> str:
        return f"{self._objects}/{quote(name, safe='')}"

    def _found(self, answer: httpx.Response, name: str | None) -> None:
        if answer.status_code != 404:
            return
        if name is None:
            raise TaskRunnerError("bucket.unknown", f"there is no bucket {self.bucket!r}")
        raise TaskRunnerError("bucket.object.missing", f"the bucket {self.bucket!r} has no object {name!r}")

    def _signer(self) -> Signer | None:
        return None if self._is_open and not self._access.service_account else self._access.signer()

    def _signed(self, method: str, name: str, lifetime: timedelta) -> str:
        path = f"/{self.bucket}/{quote(name, safe='/~')}"
        signer = self._signer()
        if signer is None:
            return f"{self._endpoint}{path}"
        now = datetime.now(UTC)
        scope = f"{now:%Y%m%d}/auto/storage/goog4_request"
        query = urlencode(
            {
                "X-Goog-Algorithm": _ALGORITHM,
                "X-Goog-Credential": f"{signer.email}/{scope}",
                "X-Goog-Date": f"{now:%Y%m%dT%H%M%SZ}",
                "X-Goog-Expires": str(int(min(lifetime, _LONGEST).total_seconds())),
                "X-Goog-SignedHeaders": "host",
            },
            quote_via=quote,
            safe="~",
        )
        host = urlsplit(self._endpoint).netloc
        request = f"{method}\n{path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
        digest = hashlib.sha256(request.encode()).hexdigest()
        signature = signer.sign(f"{_ALGORITHM}\n{now:%Y%m%dT%H%M%SZ}\n{scope}\n{digest}".encode())
        return f"{self._endpoint}{path}?{query}&X-Goog-Signature={signature.hex()}"
