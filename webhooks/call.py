"""One request as a handler sees it: who asks, with which parameters, and what it may touch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from starlette.requests import Request

from runner.access import ALL_NAMESPACES, Identity, Permission, covers
from runner.errors import InvalidError, MainstemError

if TYPE_CHECKING:
    from webhooks.services import Services

MAX_PAGE_SIZE = 1_000
_DEFAULT_PAGE_SIZE = 10


class RequestError(MainstemError):
    """The request itself is malformed: a parameter is missing or cannot be read (400)."""

    status = 400


@dataclass(frozen=True, slots=True)
class Paging:
    """Which page of a list is wanted, in which order. `sort` holds (field, is ascending)."""

    page: int
    size: int
    sort: tuple[tuple[str, bool], ...] = ()

    @property
    def offset(self) -> int:
        """Return how many rows come before the page."""
        return (self.page - 1) * self.size


@dataclass(slots=True)
class Call:
    """A request whose caller is known. `identity` is None on routes that prove their caller themselves."""

    request: Request
    services: Services
    permission: Permission
    identity: Identity | None
    body: bytes = b""

    @property
    def actor(self) -> str:
        """Return the name for the audit log and for commits."""
        return self.identity.name if self.identity else "anonymous"

    def path(self, name: str) -> str:
        """Return a parameter of the path."""
        return str(self.request.path_params[name])

    def query(self, name: str) -> str | None:
        """Return the last value of a query parameter; None when it is absent or empty."""
        return self.request.query_params.get(name) or None

    def required(self, name: str) -> str:
        """Return a query parameter. Raises `RequestError` `request.parameter.missing`."""
        value = self.query(name)
        if value is None:
            raise RequestError("request.parameter.missing", f"the query parameter {name!r} is missing")
        return value

    def values(self, name: str) -> list[str]:
        """Return all values of a repeated query parameter."""
        return [value for value in self.request.query_params.getlist(name) if value]

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return a query parameter that is `true` or `false`."""
        text = self.query(name)
        if text is None:
            return default
        if text.lower() not in {"true", "false"}:
            raise RequestError("request.parameter.invalid", f"{name}={text} is neither true nor false")
        return text.lower() == "true"

    def number(self, name: str, default: int | None = None, *, least: int = 0) -> int | None:
        """Return a query parameter that is a whole number not below `least`."""
        text = self.query(name)
        if text is None:
            return default
        if not text.lstrip("-").isascii() or not text.lstrip("-").isdigit() or len(text) > 12 or int(text) < least:
            raise InvalidError("request.parameter.invalid", f"{name}={text} is not a whole number of {least} or more")
        return int(text)

    def paging(self, default_size: int = _DEFAULT_PAGE_SIZE) -> Paging:
        """Return `page`, `size` and `sort` of the query.

        Raises:
            InvalidError: `request.page.invalid` or `request.sort.invalid` (422).
        """
        page = self.number("page", 1, least=1) or 1
        size = self.number("size", default_size, least=1) or default_size
        if size > MAX_PAGE_SIZE:
            raise InvalidError("request.page.invalid", f"size={size} is more than {MAX_PAGE_SIZE}")
        return Paging(page, size, tuple(_sort_key(text) for text in self.values("sort")))

    def json(self) -> Any:
        """Return the body as JSON; None when it is empty.

        Raises:
            InvalidError: `request.json.invalid` (422).
        """
        if not self.body.strip():
            return None
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise InvalidError("request.json.invalid", f"the body is not JSON: {error}") from None

    def json_map(self) -> dict[str, Any]:
        """Return the body as a JSON object. Raises `InvalidError` `request.json.invalid`."""
        content = self.json()
        if not isinstance(content, dict):
            raise InvalidError("request.json.invalid", "the body must be a JSON object")
        return content

    def text(self) -> str:
        """Return the body as text. Raises `InvalidError` `request.text.invalid` when it is not UTF-8."""
        try:
            return self.body.decode()
        except UnicodeDecodeError:
            raise InvalidError("request.text.invalid", "the body is not UTF-8 text") from None

    def require(self, namespace: str, permission: Permission | None = None) -> None:
        """Return when the caller may do this in `namespace`. Raises `AccessError` 403."""
        assert self.identity is not None, "a route without a caller cannot ask for a namespace"
        self.services.access.require(self.identity, permission or self.permission, namespace)

    def sees(self, namespace: str) -> bool:
        """Whether the caller's token counts for `namespace`."""
        return self.identity is not None and covers(self.identity.namespaces, namespace)

    def namespaces(self) -> tuple[str, ...] | None:
        """Return the prefixes that lists must be cut down to; None when the caller sees everything."""
        if self.identity is None:
            return ()
        return None if ALL_NAMESPACES in self.identity.namespaces else self.identity.namespaces

    def note(self, target: str, **detail: Any) -> None:
        """Write what was done to the audit log."""
        self.services.access.note(self.actor, str(self.permission), target, **detail)


def page_of(rows: Iterable[Any], total: int) -> dict[str, Any]:
    """Return the shape of a page of results."""
    return {"results": list(rows), "total": total}


def _sort_key(text: str) -> tuple[str, bool]:
    field, colon, direction = text.partition(":")
    if not colon or not field or ":" in direction:
        raise InvalidError("request.sort.invalid", f"sort={text} is not <field>:asc or <field>:desc")
    return field, direction == "asc"
