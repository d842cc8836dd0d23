"""Parameters of a query as a route declares them: what they are called, mean, default to and may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

MOST_ROWS: Final = 1_000
"""The largest page."""
_ROWS: Final = 10


class UndeclaredParameterError(TypeError):
    """A handler reads what its route does not declare: a mistake of the programmer."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a query.

    `default` is what a handler gets without it. `least` and `most` bound numbers, `choices` name all values there are.
    `fields` are the operators by field of `filters[field][operator]=value`.
    """

    name: str
    summary: str
    kind: Literal["string", "boolean", "integer", "object"] = "string"
    default: Any = None
    is_required: bool = False
    is_repeated: bool = False
    least: int = 0
    most: int | None = None
    choices: tuple[str, ...] = ()
    fields: Mapping[str, frozenset[str]] | None = None

    def as_openapi(self) -> dict[str, Any]:
        """Return the Parameter Object of OpenAPI 3.1."""
        shown: dict[str, Any] = {"name": self.name, "in": "query", "description": self.summary}
        if self.is_required:
            shown["required"] = True
        if self.fields is not None:
            shown["style"] = "deepObject"
        return {**shown, "schema": self._schema()}

    def _schema(self) -> dict[str, Any]:
        if self.fields is not None:
            return {"type": "object", "properties": {name: _operators(ops) for name, ops in self.fields.items()}}
        schema: dict[str, Any] = {"type": self.kind}
        if self.kind == "integer":
            schema["minimum"] = self.least
            if self.most is not None:
                schema["maximum"] = self.most
        if self.choices:
            schema["enum"] = list(self.choices)
        if self.default is not None:
            schema["default"] = self.default
        return {"type": "array", "items": schema} if self.is_repeated else schema


def _operators(names: frozenset[str]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "string"} for name in sorted(names)}}


def text(name: str, summary: str, **more: Any) -> Parameter:
    """Return a parameter that is any text."""
    return Parameter(name, summary, **more)


def required(name: str, summary: str, **more: Any) -> Parameter:
    """Return a parameter without which the request is refused."""
    return Parameter(name, summary, is_required=True, **more)


def flag(name: str, summary: str, *, default: bool = False) -> Parameter:
    """Return a parameter that is `true` or `false`."""
    return Parameter(name, summary, "boolean", default)


def number(name: str, summary: str, default: int | None = None, **more: Any) -> Parameter:
    """Return a parameter that is a whole number."""
    return Parameter(name, summary, "integer", default, **more)


def several(name: str, summary: str, **more: Any) -> Parameter:
    """Return a parameter that may be given again and again."""
    return Parameter(name, summary, is_repeated=True, **more)


def filters(fields: Mapping[str, frozenset[str]]) -> Parameter:
    """Return the filters of a search, of which all must hold."""
    return Parameter(
        "filters", "Conditions, as `filters[field][operator]=value`; all must hold.", "object", fields=fields
    )


def paging(rows: int = _ROWS) -> tuple[Parameter, ...]:
    """Return the parameters of a page of a list that has `rows` rows unless asked otherwise."""
    return (
        number("page", "Which page; the first is 1.", 1, least=1),
        number("size", "Rows of a page.", rows, least=1, most=MOST_ROWS),
        several("sort", "Order of the rows: `field:asc` or `field:desc`."),
    )


REVISION: Final = number("revision", "This revision of the flow; the active one without it.", least=1)
"""The revision of a flow."""
