"""Secrets of a file in the home: namespace, key, value; a namespace sees those of the namespaces around it."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from runner.errors import FlowError, InvalidError
from runner.flows.loader import load_value

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class FileSecrets:
    """The secrets of one YAML file, read again when it changes; a missing file holds none.

        company:
          DB_PASSWORD: correct horse
        company.team:
          API_KEY: "12345678"

    Raises:
        InvalidError: `secret.file.mode` when anybody but the owner may read the file, `secret.file.invalid`.
    """

    is_namespaced = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._secrets: dict[str, dict[str, str]] = {}
        self._current()

    def get(self, namespace: str, key: str) -> str | None:
        """Return the secret of the nearest namespace that has it: `a.b.c`, then `a.b`, then `a`."""
        secrets = self._current()
        for place in around(namespace):
            value = secrets.get(place, {}).get(key.upper())
            if value is not None:
                return value
        return None

    def keys(self, namespace: str) -> list[str]:
        """Return the keys that `namespace` sees, sorted."""
        secrets = self._current()
        return sorted({key for place in around(namespace) for key in secrets.get(place, {})})

    def values(self) -> Iterator[str]:
        """Yield every value of the file."""
        for secrets in self._current().values():
            yield from secrets.values()

    def _current(self) -> Mapping[str, Mapping[str, str]]:
        with self._lock:
            try:
                status = self._path.stat()
            except FileNotFoundError:
                self._seen, self._secrets = None, {}
                return self._secrets
            seen = (status.st_mtime_ns, status.st_size, status.st_mode)
            if seen != self._seen:
                self._secrets = _read(self._path)
                self._seen = seen
            return self._secrets


def around(namespace: str) -> Iterator[str]:
    """Yield `namespace` and the namespaces around it, the nearest first."""
    parts = namespace.split(".")
    for length in range(len(parts), 0, -1):
        yield ".".join(parts[:length])


def _read(path: Path) -> dict[str, dict[str, str]]:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if status.st_mode & _OTHERS:
            message = f"{path} may be read by others (mode {stat.S_IMODE(status.st_mode):o})"
            raise InvalidError("secret.file.mode", message, hint=f"chmod 600 {path}")
        try:
            content = load_value(file.read()) or {}
        except FlowError as error:
            # The loader's own message may quote the file, which holds secrets.
            place = error.problems[0].line
            where = f", line {place}" if place else ""
            raise InvalidError("secret.file.invalid", f"{path} is not acceptable YAML{where}") from None
    if not isinstance(content, dict) or not all(isinstance(part, dict) for part in content.values()):
        raise InvalidError("secret.file.invalid", f"{path} must hold maps of namespace, key and value")
    return {str(name): _texts(path, str(name), part) for name, part in content.items()}


def _texts(path: Path, namespace: str, part: Mapping[object, object]) -> dict[str, str]:
    for key, value in part.items():
        if not isinstance(value, str):
            message = f"{path}: {namespace}.{key} is not a text"
            raise InvalidError("secret.file.invalid", message, hint="quote numbers, dates and true/false")
    return {str(key).upper(): str(value) for key, value in part.items()}
