"""One request as a handler sees it: who asks, with which parameters, and what it may touch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import orjson
from starlette.requests import Request

from runner.access import ALL_NAMESPACES, Identity, Permission, covers
from runner.errors import InvalidError
from webhooks.filters import Group, parse_filters
from webhooks.parameters import Parameter, UndeclaredParameterError
from webhooks.problems import RequestError

if TYPE_CHECKING:
    from sync.proposals import Proposal
    from webhooks.services import Services

_LONGEST_NUMBER: Final = 12


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
    """A request whose caller is known. `identity` is None on routes that prove their caller themselves.

    `proposals` are those that were made in place of commits: the answer is about them then (`webhooks.proposing`).

    Only parameters of the query that the route declares can be read: what is not documented is not there.
    """

    request: Request
    services: Services
    permission: Permission
    identity: Identity | None
    declared: Mapping[str, Parameter] = field(default_factory=dict)
    body: bytes = b""
    proposals: list[Proposal] = field(default_factory=list)

    @property
    def actor(self) -> str:
        """Return the name for the audit log and for commits."""
        return self.identity.name if self.identity else "anonymous"

    def path(self, name: str) -> str:
        """Return a parameter of the path."""
        return str(self.request.path_params[name])

    def query(self, name: str) -> str | None:
        """Return the last value of a query parameter; its default when it is absent or empty. Choices have any case."""
        parameter = self._declared(name)
        value = self.request.query_params.get(name) or None
        if value is None and parameter.is_required:
            raise RequestError("request.parameter.missing", f"the query parameter {name!r} is missing")
        if value is None or not parameter.choices:
            return parameter.default if value is None else value
        for choice in parameter.choices:
            if choice.lower() == value.lower():
                return choice
        named = ", ".join(parameter.choices)
        raise RequestError("request.parameter.invalid", f"{name}={value[:40]} is not one of {named}")

    def is_given(self, name: str) -> bool:
        """Whether a query parameter is there, empty or not."""
        self._declared(name)
        return name in self.request.query_params

    def required(self, name: str) -> str:
        """Return a query parameter that is declared so. Raises `RequestError` `request.parameter.missing`."""
        value = self.query(name)
        assert value is not None, "only what is declared to be required is read this way"
        return value

    def values(self, name: str) -> list[str]:
        """Return all values of a repeated query parameter."""
        self._declared(name)
        return [value for value in self.request.query_params.getlist(name) if value]

    def flag(self, name: str) -> bool:
        """Return a query parameter that is `true` or `false`."""
        parameter = self._declared(name, "boolean")
        text = self.request.query_params.get(name) or None
        if text is None:
            return bool(parameter.default)
        if text.lower() not in {"true", "false"}:
            raise RequestError("request.parameter.invalid", f"{name}={text} is neither true nor false")
        return text.lower() == "true"

    def number(self, name: str) -> int | None:
        """Return a query parameter that is a whole number within its bounds; its default when it is absent or empty."""
        parameter = self._declared(name, "integer")
        text = self.request.query_params.get(name) or None
        if text is None:
            default: int | None = parameter.default
            return default
        digits = text.removeprefix("-")
        if not digits.isascii() or not digits.isdigit() or len(text) > _LONGEST_NUMBER or int(text) < parameter.least:
            message = f"{name}={text[:40]} is not a whole number of {parameter.least} or more"
            raise InvalidError("request.parameter.invalid", message)
        if parameter.most is not None and int(text) > parameter.most:
            raise InvalidError("request.page.invalid", f"{name}={text} is more than {parameter.most}")
        return int(text)

    def count(self, name: str) -> int:
        """Return a whole number that has a default."""
        value = self.number(name)
        assert value is not None, "only numbers with a default are read this way"
        return value

    def paging(self) -> Paging:
        """Return `page`, `size` and `sort` of the query.

        Raises:
            InvalidError: `request.page.invalid` or `request.sort.invalid` (422).
        """
        return Paging(self.count("page"), self.count("size"), tuple(_sort_key(text) for text in self.values("sort")))

    def conditions(self) -> Group:
        """Return the filters of the query. Raises `RequestError` `request.filter.invalid` (400)."""
        fields = self._declared("filters", "object").fields
        assert fields is not None
        return parse_filters(self.pairs(), fields)

    def pairs(self) -> list[tuple[str, str]]:
        """Return everything in the query, as it was written."""
        return self.request.query_params.multi_items()

    def _declared(self, name: str, kind: str | None = None) -> Parameter:
        parameter = self.declared.get(name)
        if parameter is None or (kind is not None and parameter.kind != kind):
            route = self.request.scope.get("path")
            raise UndeclaredParameterError(
                f"{route} reads {name!r}, which its route does not declare as {kind or 'any'}"
            )
        return parameter

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

    def note(self, target: str, *, result: str = "OK", **detail: Any) -> None:
        """Write what was done, or proposed, to the audit log."""
        if self.proposals:
            detail["proposal"] = self.proposals[0].url or self.proposals[0].branch
        self.services.access.note(self.actor, str(self.permission), target, result=result, **detail)


def page_of(rows: Iterable[Any], total: int) -> dict[str, Any]:
    """Return the shape of a page of results."""
    return {"results": list(rows), "total": total}


def _sort_key(text: str) -> tuple[str, bool]:
    field, colon, direction = text.partition(":")
    if not colon or not field or ":" in direction:
        raise InvalidError("request.sort.invalid", f"sort={text} is not <field>:asc or <field>:desc")
    return field, direction == "asc"
