"""Values of inputs and outputs without what must not leave the server."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from runner.reports.text import MOST_VALUE_CHARS, cut, plain

Mask = Callable[[str], str]
HIDDEN: Final = "******"
_MOST_DEPTH: Final = 50


def clean(text: str, mask: Mask) -> str:
    """Return text of others masked and without control characters, also where these stood inside a secret."""
    return mask(plain(mask(text)))


def masked(value: Any, mask: Mask, depth: int = 0) -> Any:
    """Return a JSON value in which every text, key and number is masked; what JSON does not know becomes text."""
    if depth > _MOST_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        return {mask(str(key)): masked(item, mask, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [masked(item, mask, depth + 1) for item in value]
    if value is None or isinstance(value, bool):
        return value
    text = str(value)
    hidden = mask(text)
    if isinstance(value, int | float):
        return value if hidden == text else hidden
    return hidden


def without_secrets(inputs: Mapping[str, Any], secret: frozenset[str], mask: Mask) -> dict[str, Any]:
    """Return inputs with the values of the names in `secret` hidden, and everything else masked."""
    return {
        name: HIDDEN if name in secret and value is not None else masked(value, mask) for name, value in inputs.items()
    }


def shown(value: Any, limit: int = MOST_VALUE_CHARS) -> str:
    """Return a masked value as text of at most `limit` characters: texts as they are, the rest as JSON."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return cut(text, limit)
