"""Compares values with the matchers of an execution case: plain values are equal, maps of known names are matchers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Protocol

from runner.durations import parse_duration
from runner.expressions.ion import from_ion


class Files(Protocol):
    """Where the content of `kestra://` URIs comes from."""

    def read(self, uri: str) -> bytes:
        """Return the bytes of a stored file."""


def differs(expected: Any, actual: Any, files: Files, *, partly: bool = False) -> str | None:
    """Return how `actual` differs from `expected`, None if it does not.

    With `partly` keys that a map does not name are free, and lists are compared element by element.
    """
    if isinstance(expected, Mapping) and expected and set(expected) <= _NAMES:
        return _by_matchers(expected, actual, files)
    if isinstance(expected, Mapping):
        return _by_keys(expected, actual, files, partly=partly)
    if isinstance(expected, list):
        return _by_place(expected, actual, files, partly=partly)
    if expected is None and actual is None:
        return None
    if isinstance(expected, bool) is isinstance(actual, bool) and expected == actual:
        return None
    return f"expected {expected!r}, got {_short(actual)}"


def _by_keys(expected: Mapping[str, Any], actual: Any, files: Files, *, partly: bool) -> str | None:
    if not isinstance(actual, Mapping):
        return f"expected a map, got {_short(actual)}"
    if not partly and {key for key, value in actual.items() if value is not None} - set(expected):
        return f"expected {expected!r}, got {_short(actual)}"
    for key, wanted in expected.items():
        problem = differs(wanted, actual.get(key), files, partly=partly)
        if problem is not None:
            return f"{key}: {problem}"
    return None


def _by_place(expected: list[Any], actual: Any, files: Files, *, partly: bool) -> str | None:
    if not isinstance(actual, list) or len(actual) != len(expected):
        return f"expected {expected!r}, got {_short(actual)}"
    for number, (wanted, found) in enumerate(zip(expected, actual, strict=True)):
        problem = differs(wanted, found, files, partly=partly)
        if problem is not None:
            return f"[{number}]: {problem}"
    return None


def _by_matchers(expected: Mapping[str, Any], actual: Any, files: Files) -> str | None:
    for name, wanted in expected.items():
        try:
            holds = _MATCHERS[name](wanted, actual, files)
        except (TypeError, ValueError, AttributeError, KeyError) as error:
            return f"{name} {_short(wanted)} cannot be asked of {_short(actual)}: {error}"
        if not holds:
            return f"{name} {_short(wanted)} does not hold for {_short(actual)}"
    return None


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else text[:300] + "..."


def _lines(uri: str, files: Files) -> list[str]:
    return files.read(uri).decode().splitlines()


def _contains(wanted: Any, actual: Any, _files: Files) -> bool:
    return all(part in actual for part in (wanted if isinstance(wanted, list) else [wanted]))


def _any_order(wanted: Any, actual: Any, _files: Files) -> bool:
    return sorted(map(repr, wanted)) == sorted(map(repr, actual))


def _ion_rows(wanted: Any, uri: Any, files: Files) -> bool:
    return bool(from_ion(files.read(uri).decode()) == wanted)


def _each(wanted: Any, actual: Any, files: Files) -> bool:
    return bool(actual) and all(differs(wanted, item, files, partly=True) is None for item in actual)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _uris(value: Any) -> list[str]:
    return [str(item) for item in (value.values() if isinstance(value, Mapping) else value)]


_MATCHERS: dict[str, Callable[[Any, Any, Files], bool]] = {
    "contains": _contains,
    "startswith": lambda wanted, actual, _: actual.startswith(wanted),
    "endswith": lambda wanted, actual, _: bool(actual.endswith(wanted)),
    "regex": lambda wanted, actual, _: re.search(wanted, actual) is not None,
    "not": lambda wanted, actual, _: bool(actual != wanted),
    "present": lambda wanted, actual, _: (actual is not None) is bool(wanted),
    "one_of": lambda wanted, actual, _: actual in wanted,
    "any_order": _any_order,
    "size": lambda wanted, actual, _: len(actual) == wanted,
    "has_keys": lambda wanted, actual, _: set(wanted) <= set(actual),
    "file_content": lambda wanted, uri, files: files.read(uri).decode() == wanted,
    "file_content_endswith": lambda wanted, uri, files: files.read(uri).decode().rstrip("\n").endswith(wanted),
    "file_line_count": lambda wanted, uri, files: len(_lines(uri, files)) == wanted,
    "first_endswith": lambda wanted, uris, _: _uris(uris)[0].endswith(wanted),
    "total_lines": lambda wanted, uris, files: sum(len(_lines(uri, files)) for uri in _uris(uris)) == wanted,
    "concatenated_equals": lambda wanted, uris, files: b"".join(map(files.read, _uris(uris))).decode() == wanted,
    "ion_rows": _ion_rows,
    "datetime": lambda wanted, actual, _: _instant(wanted) == _instant(actual),
    "datetime_within_seconds_of_now": lambda wanted, actual, _: (
        abs(datetime.now(UTC) - _instant(actual)) < timedelta(seconds=wanted)
    ),
    "date": lambda wanted, actual, _: date.fromisoformat(wanted) == date.fromisoformat(actual),
    "time": lambda wanted, actual, _: time.fromisoformat(wanted) == time.fromisoformat(actual),
    "duration": lambda wanted, actual, _: parse_duration(wanted) == parse_duration(actual),
    "value": lambda wanted, actual, files: differs(wanted, actual, files) is None,
    "each": _each,
}
_NAMES = frozenset(_MATCHERS)
