"""Secrets of the environment: `SECRET_<KEY>` in base64, for every namespace (Kestra's way)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class EnvironmentSecrets:
    """Secrets by upper-case key, as `runner.settings.secrets_from_environment` gives them; all namespaces see them."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._secrets = {key.upper(): value for key, value in secrets.items()}

    def get(self, namespace: str, key: str) -> str | None:  # noqa: ARG002 - the environment knows no namespaces
        """Return the secret, None when there is none."""
        return self._secrets.get(key.upper())

    def keys(self, namespace: str) -> list[str]:  # noqa: ARG002 - the environment knows no namespaces
        """Return all keys, sorted."""
        return sorted(self._secrets)

    def values(self) -> Iterator[str]:
        """Yield every value."""
        yield from self._secrets.values()
