"""The rules that repositories have in force, as the tasks of this process ask for them: never older than a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from runner.rules import RepositoryRules
from runner.store import Store

__all__ = ["RulesInForce"]

_FRESH_S: Final = 1.0  # each task asks, and a burst of instant tasks asks many times
_NOTHING_SAID: Final = RepositoryRules()


class RulesInForce:
    """What the active commit of an environment says of its repository. Safe for any number of threads."""

    def __init__(self, store: Store, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store, self._monotonic = store, monotonic
        self._known: dict[str, tuple[float, RepositoryRules]] = {}
        self._lock = threading.Lock()

    def __call__(self, name: str | None) -> RepositoryRules:
        """Return the rules of an environment; those of a preview are what its base says, not what the proposal does."""
        if name is None:
            return _NOTHING_SAID
        now = self._monotonic()
        with self._lock:
            asked_at, rules = self._known.get(name, (now - _FRESH_S, _NOTHING_SAID))
        if now - asked_at < _FRESH_S:
            return rules
        rules = self._read(name)
        with self._lock:
            self._known = {each: said for each, said in self._known.items() if now - said[0] < _FRESH_S}
            self._known[name] = (now, rules)
        return rules

    def _read(self, name: str) -> RepositoryRules:
        environment = self._store.read(lambda db: db.environments.get(name))
        if environment is None or not (environment.previews or environment.rules):
            return _NOTHING_SAID
        return self(environment.previews) if environment.previews else RepositoryRules.of_json(environment.rules)
