"""The API of a Kestra server, as far as its flows are read from it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from io import BytesIO
from typing import Any, Final
from urllib.parse import quote

import httpx

from runner.errors import AccessError, InvalidError, MainstemError

_MOST_BYTES: Final = 256 << 20
_PAGE: Final = 100
_MOST_FLOWS: Final = 50_000
_TIMEOUT_S: Final = 60.0


class UnreachableError(MainstemError):
    """The server cannot be reached, or does not answer like one of Kestra."""

    exit_code = 6


@dataclass(frozen=True, slots=True)
class Access:
    """How to get in: user and password, or a token. `ref` is the branch or tag of a git repository, or a full ref."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    tenant: str = "main"
    ref: str = "HEAD"

    @property
    def refs(self) -> tuple[str, ...]:
        """What `ref` may stand for."""
        is_full = self.ref == "HEAD" or self.ref.startswith("refs/")
        return (self.ref,) if is_full else (f"refs/heads/{self.ref}", f"refs/tags/{self.ref}")

    def client(self, url: str) -> httpx.Client:
        """Return a client for the server at `url`; the address of its pages (`…/ui/…`) is understood too."""
        base = url.partition("/ui/")[0].removesuffix("/ui").rstrip("/")
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        auth = httpx.BasicAuth(self.username, self.password or "") if self.username else None
        return httpx.Client(base_url=base, headers=headers, auth=auth, timeout=_TIMEOUT_S, follow_redirects=False)


def speaks_git(url: str, access: Access) -> bool:
    """Return whether the address is that of a git repository. Raises as `exported`."""
    with access.client(url) as client:
        answer = _asked(client, "/info/refs", {"service": "git-upload-pack"})
    return str(answer.headers.get("content-type", "")).startswith("application/x-git-")


def exported(url: str, access: Access) -> bytes:
    """Return all flows of the server in one zip, whose entries are `<namespace>.<id>.yml`.

    Servers of before 0.23 have no tenant in their paths, and some have no export: there, flows are read one by one.

    Raises:
        UnreachableError: `kestra.server.unreachable`, `kestra.server.unknown`.
        AccessError: `kestra.access.denied`.
        InvalidError: `kestra.export.invalid` when there is more than can be flows.
    """
    with access.client(url) as client:
        for prefix in (f"/api/v1/{quote(access.tenant, safe='')}", "/api/v1"):
            answer = _asked(client, f"{prefix}/flows/export/by-query", {})
            if answer.is_success and zipfile.is_zipfile(BytesIO(answer.content)):
                return answer.content
            found = _asked(client, f"{prefix}/flows/search", {"page": "1", "size": str(_PAGE)})
            if found.is_success and _is_page(found):
                return _collected(client, prefix, found.json())
    raise UnreachableError(
        "kestra.server.unknown",
        f"{url} does not answer like a Kestra server (tenant {access.tenant!r})",
        hint="name the address of the server itself, and its tenant with --tenant",
    )


def _is_page(answer: httpx.Response) -> bool:
    body = _body(answer)
    return isinstance(body.get("results"), list) and isinstance(body.get("total"), int)


def _body(answer: httpx.Response) -> dict[str, Any]:
    """Return the JSON object of an answer, an empty one for anything else."""
    try:
        body = answer.json()
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _collected(client: httpx.Client, prefix: str, first: dict[str, Any]) -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for flow in _flows(client, prefix, first):
            namespace, name = str(flow.get("namespace")), str(flow.get("id"))
            place = f"{prefix}/flows/{quote(namespace, safe='')}/{quote(name, safe='')}"
            answer = _asked(client, place, {"source": "true"})
            source = _body(answer).get("source") if answer.is_success else None
            if not isinstance(source, str):
                message = f"{client.base_url} does not give the source of {namespace}.{name}"
                raise UnreachableError("kestra.server.unknown", message, hint="name an export of it instead")
            archive.writestr(f"{namespace}.{name}.yml", source)
    return packed.getvalue()


def _flows(client: httpx.Client, prefix: str, first: dict[str, Any]) -> Iterator[dict[str, Any]]:
    page, number, seen = first, 1, 0
    while True:
        results = [each for each in page["results"] if isinstance(each, dict)]
        yield from results
        seen += len(results)
        if not results or seen >= min(page["total"], _MOST_FLOWS):
            return
        number += 1
        answer = _asked(client, f"{prefix}/flows/search", {"page": str(number), "size": str(_PAGE)})
        if not (answer.is_success and _is_page(answer)):
            raise UnreachableError("kestra.server.unknown", f"page {number} of the flows is no page of flows")
        page = answer.json()


def _asked(client: httpx.Client, path: str, params: dict[str, str]) -> httpx.Response:
    """Return the whole answer to a GET, bounded. A refusal is raised; other faults are for the caller to judge."""
    try:
        with client.stream("GET", path, params=params) as answer:
            content = bytearray()
            for chunk in answer.iter_bytes():
                content += chunk
                if len(content) > _MOST_BYTES:
                    raise InvalidError("kestra.export.invalid", f"{client.base_url} sends more than can be flows")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        message = f"{client.base_url} cannot be asked: {str(error) or type(error).__name__}"
        raise UnreachableError("kestra.server.unreachable", message) from None
    if answer.status_code in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        raise AccessError(
            "kestra.access.denied",
            f"{client.base_url} refuses: {answer.status_code}",
            hint="give --username and --password, or --token",
        )
    headers = [(name, text) for name, text in answer.headers.items() if name.lower() != "content-encoding"]
    return httpx.Response(answer.status_code, headers=headers, content=bytes(content))
