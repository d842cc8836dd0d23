"""Containers of Azure Blob Storage, on its REST interface; every request carries a signature for this container."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import IO, ClassVar, Final
from urllib.parse import quote, unquote, urlencode

import httpx

from task_runners.azure_access import SAS_VERSION, StorageKey, TokenAuth, parse_connection_string, sas_query
from task_runners.cloud import CloudApi, FileBody
from task_runners.errors import TaskRunnerError
from task_runners.staging.object_store import CHUNK_BYTES, ObjectStore
from task_runners.staging.port import SignedUpload

__all__ = ["AzureStore"]

_BLOCK_BYTES: Final = 64 * 1024 * 1024
_LIFETIME: Final = timedelta(hours=1)
_SCOPE: Final = "https://storage.azure.com/.default"
_BLOB: Final = {"x-ms-blob-type": "BlockBlob"}


class AzureStore(ObjectStore):
    """One container. Files over 64 MiB travel in blocks, so that a broken connection costs one of them.

    With `connectionString`, or `account` and `accountKey`, the key signs. With `account` alone, requests carry a token
    of Entra ID, and addresses are signed with a key that this token borrows.
    """

    options_known: ClassVar[frozenset[str]] = frozenset({"connectionString", "account", "accountKey", "endpoint"})

    def __init__(self, bucket: str, prefix: str, options: Mapping[str, str] | None = None) -> None:
        super().__init__(bucket, prefix, options or {})
        self._key, endpoint = _account(options or {})
        self._url = f"{endpoint}/{bucket}"
        auth = None if self._key.secret else TokenAuth(_SCOPE)
        headers = {"x-ms-version": SAS_VERSION}
        self._api = CloudApi(f"the container {bucket!r}", endpoint, auth, headers)
        self._borrowed: tuple[datetime, StorageKey] | None = None

    def close(self) -> None:
        """Close the connections."""
        self._api.close()

    def _send(self, name: str, source: IO[bytes], size: int) -> None:
        if size <= _BLOCK_BYTES:
            self._put(name, FileBody(source, size), {}, _BLOB)
            return
        blocks = [base64.b64encode(f"{at:020d}".encode()).decode() for at in range(0, size, _BLOCK_BYTES)]
        for number, block in enumerate(blocks):
            length = min(_BLOCK_BYTES, size - number * _BLOCK_BYTES)
            self._put(name, FileBody(source, length), {"comp": "block", "blockid": block}, {})
        document = "".join(f"<Latest>{block}</Latest>" for block in blocks)
        listed = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{document}</BlockList>'.encode()
        self._put(name, listed, {"comp": "blocklist"}, {})

    def _put(self, name: str, body: FileBody | bytes, params: dict[str, str], headers: dict[str, str]) -> None:
        length = body.headers if isinstance(body, FileBody) else {}
        answer = self._api.call(
            "PUT", self._path(name, **params), content=body, headers={**headers, **length}, accept=(404,)
        )
        self._found(answer, None)

    def _read(self, name: str) -> Iterator[bytes]:
        with self._api.stream(self._path(name)) as answer:
            if not answer.is_success:
                if answer.status_code != 404:
                    raise self._api.fault_of(answer)
                self._found(answer, name)
            yield from answer.iter_bytes(CHUNK_BYTES)

    def _size(self, name: str) -> int:
        answer = self._api.call("HEAD", self._path(name), accept=(404,))
        self._found(answer, name)
        return int(answer.headers["Content-Length"])

    def _list(self, prefix: str) -> Iterator[str]:
        asked = {"restype": "container", "comp": "list", "prefix": prefix}
        while True:
            answer = self._api.call("GET", self._path(None, **asked), accept=(404,))
            self._found(answer, None)
            page = ET.fromstring(answer.content)  # noqa: S314 - from the server that we trust with the files
            yield from map(_name, page.iterfind("Blobs/Blob/Name"))
            marker = page.findtext("NextMarker")
            if not marker:
                return
            asked["marker"] = marker

    def _delete(self, names: list[str]) -> None:
        for name in names:
            self._api.call("DELETE", self._path(name), accept=(404,))

    def _sign_get(self, name: str, lifetime: timedelta) -> str:
        return self._signed(name, "r", lifetime)

    def _sign_put(self, name: str, lifetime: timedelta) -> SignedUpload:
        return SignedUpload(self._signed(name, "cw", lifetime), _BLOB)

    def sign_container(self, lifetime: timedelta) -> str:
        """Return the address of the container with the right to write, for engines that store files."""
        return f"{self._url}?{urlencode(sas_query(self._signing_key(lifetime), self.bucket, 'cw', lifetime))}"

    def _signed(self, name: str, permissions: str, lifetime: timedelta) -> str:
        query = sas_query(self._signing_key(lifetime), f"{self.bucket}/{name}", permissions, lifetime)
        return f"{self._url}/{quote(name, safe='/~')}?{urlencode(query)}"

    def _path(self, name: str | None, **params: str) -> str:
        """Return the path and query of a blob or, with None, of the container."""
        granted = sas_query(self._key, self.bucket, "racwdl", _LIFETIME) if self._key.secret else {}
        path = self._url if name is None else f"{self._url}/{quote(name, safe='/~')}"
        query = urlencode({**params, **granted}, quote_via=quote)
        return f"{path}?{query}" if query else path

    def _signing_key(self, lifetime: timedelta) -> StorageKey:
        if self._key.secret:
            return self._key
        ends = datetime.now(UTC) + lifetime
        if self._borrowed is None or self._borrowed[0] < ends:
            self._borrowed = self._borrow(ends + _LIFETIME)
        return self._borrowed[1]

    def _borrow(self, until: datetime) -> tuple[datetime, StorageKey]:
        start = datetime.now(UTC) - timedelta(minutes=5)
        body = (
            f"<KeyInfo><Start>{start:%Y-%m-%dT%H:%M:%SZ}</Start><Expiry>{until:%Y-%m-%dT%H:%M:%SZ}</Expiry></KeyInfo>"
        )
        answer = self._api.call("POST", "/?restype=service&comp=userdelegationkey", content=body.encode())
        fields = {child.tag: child.text or "" for child in ET.fromstring(answer.content)}  # noqa: S314 - as above
        return until, StorageKey(self._key.account, fields["Value"], fields)

    def _found(self, answer: httpx.Response, name: str | None) -> None:
        if answer.status_code != 404:
            return
        if name is None:
            raise TaskRunnerError("bucket.unknown", f"there is no container {self.bucket!r}")
        raise TaskRunnerError("bucket.object.missing", f"the container {self.bucket!r} has no object {name!r}")


def _name(element: ET.Element) -> str:
    text = element.text or ""
    return unquote(text) if element.get("Encoded") == "true" else text


def _account(options: Mapping[str, str]) -> tuple[StorageKey, str]:
    text = options.get("connectionString")
    if text:
        key, endpoint = parse_connection_string(text)
        return key, options.get("endpoint", endpoint).rstrip("/")
    account = options.get("account")
    if not account:
        raise TaskRunnerError(
            "cloud.connection.invalid",
            "no storage account is named",
            hint="set `connectionString`, or `account` with or without `accountKey`",
        )
    endpoint = options.get("endpoint", f"https://{account}.blob.core.windows.net")
    return StorageKey(account, options.get("accountKey", "")), endpoint.rstrip("/")
