"""Words for JSON Schemas: what bodies and answers of the API look like.

A `Shape` has a name and becomes a component of the OpenAPI document; everything else is written in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

Schema = Any
"""A JSON Schema, in which a `Shape` may stand wherever a schema may."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A schema with a name."""

    name: str
    schema: Mapping[str, Any]


ANYTHING: Final[Schema] = {}
TEXT: Final[Schema] = {"type": "string"}
WHOLE: Final[Schema] = {"type": "integer"}
NUMBER: Final[Schema] = {"type": "number"}
FLAG: Final[Schema] = {"type": "boolean"}
MAP: Final[Schema] = {"type": "object"}
BYTES: Final[Schema] = {"type": "string", "format": "binary"}
TIME: Final[Schema] = {"type": "string", "format": "date-time"}
DURATION: Final[Schema] = {"type": "string", "format": "duration"}


@dataclass(frozen=True, slots=True)
class Optional:
    """A property that may be absent."""

    schema: Schema


def optional(schema: Schema) -> Optional:
    """Return a property that may be absent."""
    return Optional(schema)


def nullable(schema: Schema) -> Schema:
    """Return a schema that lets null through too."""
    return {"anyOf": [schema, {"type": "null"}]}


def listed(items: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def mapped(values: Schema) -> Schema:
    """Return the schema of a map with any keys."""
    return {"type": "object", "additionalProperties": values}


def word(*choices: str) -> Schema:
    """Return the schema of one of some words."""
    return {"type": "string", "enum": list(choices)}


def record(properties: Mapping[str, Schema] | None = None, /, **more: Schema) -> Schema:
    """Return the schema of an object; a property is there unless it is `optional`. A later version may add others."""
    every = {**(properties or {}), **more}
    return {
        "type": "object",
        "required": [name for name, schema in every.items() if not isinstance(schema, Optional)],
        "properties": {
            name: schema.schema if isinstance(schema, Optional) else schema for name, schema in every.items()
        },
    }


def extended(base: Shape, **more: Schema) -> Schema:
    """Return the schema of an object that has what `base` has, and more."""
    added = record(**more)
    return {
        "type": "object",
        "required": [*base.schema["required"], *added["required"]],
        "properties": {**base.schema["properties"], **added["properties"]},
    }


def opened(schema: Schema) -> Schema:
    """Return the schema of an object that has whatever else somebody wrote into it."""
    return {**schema, "additionalProperties": True}


def page(rows: Schema) -> Schema:
    """Return the schema of a page of a list."""
    return record(results=listed(rows), total=WHOLE)
