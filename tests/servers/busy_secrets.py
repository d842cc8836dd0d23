"""Secrets that lie in a database which has no connection to spare just then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from runner.errors import StoreError


def _busy() -> Exception:
    return StoreError("store.busy", "all connections to the database are in use")


@dataclass
class BusySecrets:
    """A place of secrets that fails so many `times`; then each key has the same value."""

    times: int = 1
    error: Exception = field(default_factory=_busy)

    def get(self, _namespace: str, _key: str) -> str | None:
        if self.times > 0:
            self.times -= 1
            raise self.error
        return "s3cret"

    def keys(self, _namespace: str) -> list[str]:
        return []

    def values(self) -> Iterator[str]:
        return iter(())
