"""Files and secrets that a case brings along."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from runner.errors import MainstemError
from runner.namespace_files import NamespaceFiles
from runner.secrets.base import Secrets


class GivenFiles:
    """The files of a case before those of the namespace."""

    def __init__(self, given: Mapping[str, str], namespace: str, rest: NamespaceFiles) -> None:
        self._given = given
        self._namespace = namespace
        self._rest = rest

    def read(self, environment: str | None, commit: str | None, namespace: str, path: str) -> bytes:
        """Return the content of the file. Raises `NotFoundError` `namespace.file.missing`."""
        text = self._given.get(path.lstrip("/")) if namespace == self._namespace else None
        return self._rest.read(environment, commit, namespace, path) if text is None else text.encode()

    def list(self, environment: str | None, commit: str | None, namespace: str) -> list[str]:
        """Return the paths of the namespace's files, sorted."""
        own = self._given if namespace == self._namespace else ()
        return sorted({*own, *self._rest.list(environment, commit, namespace)})


class GivenSecrets:
    """The secrets of a case."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = {key.upper(): value for key, value in given.items()}

    def get(self, namespace: str, key: str) -> str | None:  # noqa: ARG002 - the backend's
        """Return the secret, None when there is none."""
        return self._given.get(key)

    def keys(self, namespace: str) -> list[str]:  # noqa: ARG002 - the backend's
        """Return the keys, sorted."""
        return sorted(self._given)

    def values(self) -> Iterator[str]:
        """Yield all values, so that they are masked."""
        yield from self._given.values()


class OtherSecrets:
    """The secrets that the host has anyway."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets

    def get(self, namespace: str, key: str) -> str | None:
        """Return the secret as the flow namespace sees it, None when there is none."""
        try:
            return self._secrets.get(namespace, key)
        except MainstemError:
            return None

    def keys(self, namespace: str) -> list[str]:
        """Return the keys that the namespace sees, sorted."""
        return self._secrets.keys(namespace)

    def values(self) -> Iterator[str]:
        """Yield nothing: whoever opened them has seen to it."""
        yield from ()
