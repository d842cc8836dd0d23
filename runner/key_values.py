"""The key-value store of namespaces, as tasks and expressions use it."""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from runner.durations import format_duration, parse_duration
from runner.errors import ConflictError, InvalidError
from runner.plugin import KeyValues
from runner.secrets.file import around

KINDS = ("STRING", "NUMBER", "BOOLEAN", "DATETIME", "DATE", "DURATION", "JSON")

_KEY = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]*")
_MAXIMUM_KEY_CHARS = 256


def checked_key(key: str) -> str:
    """Return `key` if it can be one. Raises `InvalidError` `kv.key.invalid`."""
    if len(key) > _MAXIMUM_KEY_CHARS or not _KEY.fullmatch(key):
        hint = "letters, digits, dots, hyphens and underscores, starting with a letter or digit"
        raise InvalidError("kv.key.invalid", f"{key[:200]!r} cannot be a key", hint=hint)
    return key


def typed_value(value: Any, kind: str | None = None) -> tuple[str, Any]:
    """Return the kind of `value` and its JSON value, read as `kind` (one of `KINDS`) when that is given.

    Dates, times and durations are kept as their ISO-8601 text.

    Raises:
        InvalidError: `kv.type.unknown`, or `kv.value.invalid` when the value cannot be of that kind.
    """
    if kind is None:
        return _guessed(value)
    name = kind.upper()
    if name not in KINDS:
        raise InvalidError("kv.type.unknown", f"no type named {kind!r}", hint=f"one of {', '.join(KINDS)}")
    try:
        return name, _PARSERS[name](value)
    except (ValueError, TypeError, InvalidError):
        raise InvalidError("kv.value.invalid", f"the value is no {name}") from None


def lookup(values: KeyValues, namespace: str, key: str) -> tuple[bool, Any]:
    """Return whether `namespace` or a namespace around it has `key`, and the nearest value."""
    for place in around(namespace):
        found, value = values.get(place, key)
        if found:
            return True, value
    return False, None


@dataclass(frozen=True, slots=True)
class _Entry:
    kind: str
    value: Any
    expires_at: datetime | None


class MemoryKeyValues:
    """A key-value store that lives as long as the process: for runs without a server. Safe to use from any thread."""

    def __init__(
        self,
        values: Mapping[str, Mapping[str, Any]] | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._entries: dict[tuple[str, str], _Entry] = {}
        for namespace, pairs in (values or {}).items():
            for key, value in pairs.items():
                self.put(namespace, key, value)

    def get(self, namespace: str, key: str) -> tuple[bool, Any]:
        """Return whether the key exists (and has not expired) and its typed value."""
        with self._lock:
            entry = self._entries.get((namespace, key))
        if entry is None or (entry.expires_at is not None and entry.expires_at <= self._clock()):
            return False, None
        return True, entry.value

    def put(self, namespace: str, key: str, value: Any, **options: Any) -> None:
        """Store a value. Options: `kind`, `ttl` (timedelta), `description`, `overwrite` (default True).

        Raises:
            ConflictError: `kv.key.exists` when it is there and `overwrite` is False.
            InvalidError: `kv.key.invalid`, `kv.value.invalid`.
        """
        kind, typed = typed_value(value, options.get("kind"))
        ttl: timedelta | None = options.get("ttl")
        exists, _ = self.get(namespace, checked_key(key))
        if exists and not options.get("overwrite", True):
            raise already_there(namespace, key)
        with self._lock:
            self._entries[namespace, key] = _Entry(kind, typed, self._clock() + ttl if ttl else None)

    def delete(self, namespace: str, key: str) -> bool:
        """Remove a key; return whether it was there."""
        exists, _ = self.get(namespace, key)
        with self._lock:
            return self._entries.pop((namespace, key), None) is not None and exists

    def keys(self, namespace: str, prefix: str = "") -> list[str]:
        """Return the keys of a namespace that start with `prefix`, sorted."""
        with self._lock:
            keys = [key for place, key in self._entries if place == namespace and key.startswith(prefix)]
        return sorted(key for key in keys if self.get(namespace, key)[0])


def already_there(namespace: str, key: str) -> ConflictError:
    """Return the error for a key that must not be overwritten."""
    return ConflictError(
        "kv.key.exists",
        f"Cannot set value for key '{key}' in namespace '{namespace}': it exists and `overwrite` is set to `false`.",
    )


def _guessed(value: Any) -> tuple[str, Any]:
    for types, kind in _KIND_OF_TYPE:
        if isinstance(value, types):
            return kind, _PARSERS[kind](value)
    return "JSON", value


def _number(value: Any) -> int | float:
    if isinstance(value, bool):
        raise TypeError
    if isinstance(value, int):
        return value
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return int(value) if isinstance(value, str) and re.fullmatch(r"[+-]?\d+", value.strip()) else number


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word not in {"true", "false"}:
        raise ValueError
    return word == "true"


def _datetime(value: Any) -> str:
    # An instant needs an offset: the same text would mean another moment in another zone.
    text = value.isoformat() if isinstance(value, datetime) else str(value).strip()
    if datetime.fromisoformat(text).tzinfo is None:
        raise ValueError
    return text


def _date(value: Any) -> str:
    return date.fromisoformat(str(value).strip()).isoformat()


def _duration(value: Any) -> str:
    return format_duration(value if isinstance(value, timedelta) else parse_duration(str(value)))


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value


_PARSERS: dict[str, Callable[[Any], Any]] = {
    "STRING": str,
    "NUMBER": _number,
    "BOOLEAN": _boolean,
    "DATETIME": _datetime,
    "DATE": _date,
    "DURATION": _duration,
    "JSON": _json,
}

# bool is an int and datetime a date, so the narrower types stand first.
_KIND_OF_TYPE: tuple[tuple[Any, str], ...] = (
    (bool, "BOOLEAN"),
    (int | float, "NUMBER"),
    (str, "STRING"),
    (datetime, "DATETIME"),
    (date, "DATE"),
    (timedelta, "DURATION"),
)
