"""The JSON Schema of single values: what the loader takes for an annotation, no less and no more.

Where the loader turns one kind of scalar into another (a number into text, `"5"` into 5, enum words in any case), the
schema admits both.
"""

from __future__ import annotations

import datetime as dt
import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

Schema = dict[str, Any]

TEXT: Schema = {"type": ["string", "number", "boolean"]}
TEMPLATE: Schema = {"type": "string", "pattern": r"\{[{%]"}
LABELS: Schema = {
    "anyOf": [
        {"type": "object", "additionalProperties": TEXT},
        {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["key", "value"],
                "properties": {"key": TEXT, "value": TEXT},
                "additionalProperties": False,
            },
        },
    ]
}
_DURATION = (
    r"^\s*[-+]?[Pp](?:[-+]?\d+[Ww])?(?:[-+]?\d+[Dd])?"
    r"(?:[Tt](?:[-+]?\d+[Hh])?(?:[-+]?\d+[Mm])?(?:[-+]?\d+(?:[.,]\d{1,9})?[Ss])?)?\s*$"
)
_HOW_LONG = "write a duration like PT30S, PT5M or P1DT2H"
_BOOLEANS = ("true", "false", "yes", "no", "on", "off", "t", "f", "y", "n", "1", "0")
_LIMITS: Mapping[str, tuple[str, str]] = {
    # attribute of a constraint: the keyword for numbers, the keyword for others
    "ge": ("minimum", ""),
    "gt": ("exclusiveMinimum", ""),
    "le": ("maximum", ""),
    "lt": ("exclusiveMaximum", ""),
    "min_length": ("", "minLength minItems"),
    "max_length": ("", "maxLength maxItems"),
    "pattern": ("", "pattern"),
}


def scalar(arm: Any, *, or_text: bool) -> Schema:  # noqa: PLR0911 - one line a kind
    """Return the schema of one alternative that is neither a model nor a container.

    `or_text` says that text is another alternative, so that a template may stand here.
    """
    if arm is str:
        return TEXT
    if arm is type(None):
        return {"type": "null"}
    if arm is bool:
        return {"anyOf": [{"type": "boolean"}, in_any_case(_BOOLEANS)]}
    if arm is int:
        return {"anyOf": [{"type": "integer"}, {"type": "string", "pattern": r"^\s*[-+]?\d+(?:\.0+)?\s*$"}]}
    if arm is float:
        return {"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^\s*[-+.\deE]+\s*$"}]}
    if arm is dt.timedelta:
        pattern = _DURATION + (r"|\{" if or_text else "")
        return {"type": ["string", "number"], "pattern": pattern, "patternErrorMessage": _HOW_LONG}
    words = _words(arm)
    if words:
        return {"anyOf": [{"enum": words}, in_any_case(words)]}
    return {"type": ["string", "number"]} if arm in {dt.time, dt.date, dt.datetime} else {}


def any_of(schemas: Iterable[Schema]) -> Schema:
    """Return the schema that admits what any of `schemas` admits; `{}` when one of them admits everything."""
    flat: list[Schema] = []
    for schema in schemas:
        if not schema:
            return {}
        for part in schema["anyOf"] if set(schema) == {"anyOf"} else [schema]:
            if part not in flat:
                flat.append(part)
    flat = _nullable(flat)
    plain = [part for part in flat if set(part) == {"type"}]
    if len(plain) > 1:  # "type": [...] says the same in one line
        names = dict.fromkeys(name for part in plain for name in _names(part["type"]))
        flat = [part for part in flat if part not in plain] + [{"type": list(names)}]
    return flat[0] if len(flat) == 1 else {"anyOf": flat}


def _nullable(parts: list[Schema]) -> list[Schema]:
    """Return `parts` with null taken into one that has a type: an editor then tells what is wrong inside that one."""
    null: Schema = {"type": "null"}
    typed = next((part for part in parts if "type" in part and part != null), None)
    if null not in parts or typed is None:
        return parts
    merged = {**typed, "type": list(dict.fromkeys([*_names(typed["type"]), "null"]))}
    return [merged if part is typed else part for part in parts if part != null]


def constrained(schema: Schema, constraints: Sequence[Any]) -> Schema:
    """Return `schema` with the limits of a field; a keyword counts for values of its kind only."""
    found: Schema = {}
    for constraint in constraints:
        for attribute, (numeric, other) in _LIMITS.items():
            limit = getattr(constraint, attribute, None)
            if limit is not None:
                found |= dict.fromkeys([numeric] if numeric else other.split(), limit)
    return {**schema, **found} if found else schema


def in_any_case(words: Iterable[str]) -> Schema:
    """Return the schema of texts that are one of `words`, in capitals or not."""
    written = ("".join(_either_case(char) for char in word) for word in words)
    return {"type": "string", "pattern": f"^(?:{'|'.join(written)})$"}


def spelled(names: Iterable[str]) -> Schema:
    """Return the schema of texts that are one of `names`."""
    # A pattern and no `enum`: editors would offer every old spelling.
    return {"type": "string", "pattern": f"^(?:{'|'.join(name.replace('.', '[.]') for name in names)})$"}


def _either_case(char: str) -> str:
    return f"[{char.upper()}{char.lower()}]" if char.isalpha() else re.escape(char)


def _words(arm: Any) -> list[str]:
    if get_origin(arm) is Literal:
        return [word for word in get_args(arm) if isinstance(word, str)]
    if isinstance(arm, type) and issubclass(arm, enum.Enum):
        return [str(member.value) for member in arm]
    return []


def _names(types: str | list[str]) -> list[str]:
    return [types] if isinstance(types, str) else types
