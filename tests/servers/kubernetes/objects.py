"""The objects that the server keeps, each change of which has a version and a place in the history."""

from __future__ import annotations

import copy
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.servers.kubernetes.answers import Refusal

Object = dict[str, Any]
KINDS = {"pods": "Pod", "secrets": "Secret", "events": "Event"}


@dataclass(frozen=True)
class Change:
    """What happened to one object; `kind` is ADDED, MODIFIED or DELETED."""

    version: int
    resource: str
    kind: str
    object: Object


def now() -> str:
    """Return the time as API objects have it, in whole seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Objects:
    """All objects by resource, namespace and name. What is given out is a copy."""

    def __init__(self) -> None:
        self._objects: dict[tuple[str, str, str], Object] = {}
        self._history: list[Change] = []
        self._version = 1000
        self._oldest = self._version
        self._lock = threading.RLock()
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have `listener` called after each change, from the thread that makes it."""
        self._listeners.append(listener)

    @property
    def version(self) -> int:
        """The version of the newest change."""
        return self._version

    def create(self, resource: str, namespace: str, obj: Object) -> Object:
        """Keep a new object and return it as it is kept. Raises `Refusal` 409."""
        made = copy.deepcopy(obj)
        name = made["metadata"]["name"]
        with self._lock:
            if (resource, namespace, name) in self._objects:
                raise Refusal(409, "AlreadyExists", f'{resource} "{name}" already exists')
            made["metadata"] |= {"namespace": namespace, "uid": str(uuid.uuid4()), "creationTimestamp": now()}
            made |= {"apiVersion": "v1", "kind": KINDS[resource]}
            return self._store(resource, "ADDED", made)

    def get(self, resource: str, namespace: str, name: str) -> Object:
        """Return an object. Raises `Refusal` 404."""
        with self._lock:
            found = self._objects.get((resource, namespace, name))
            if found is None:
                raise Refusal(404, "NotFound", f'{resource} "{name}" not found')
            return copy.deepcopy(found)

    def update(self, resource: str, namespace: str, name: str, change: Callable[[Object], None]) -> Object | None:
        """Change an object and return it, or None when it is gone; nothing happens when nothing changed."""
        with self._lock:
            found = self._objects.get((resource, namespace, name))
            if found is None:
                return None
            changed = copy.deepcopy(found)
            change(changed)
            return self._store(resource, "MODIFIED", changed) if changed != found else changed

    def remove(self, resource: str, namespace: str, name: str, uid: str | None = None) -> None:
        """Remove an object if it is there (with this `uid`)."""
        with self._lock:
            found = self._objects.get((resource, namespace, name))
            if found is not None and uid in {None, found["metadata"]["uid"]}:
                self._store(resource, "DELETED", copy.deepcopy(found))

    def list(self, resource: str, namespace: str | None) -> tuple[int, list[Object]]:
        """Return the version and the objects of a namespace (None: all), by namespace and name."""
        with self._lock:
            found = [
                copy.deepcopy(obj)
                for (kind, place, _), obj in sorted(self._objects.items())
                if kind == resource and namespace in {None, place}
            ]
            return self._version, found

    def changes_since(self, version: int) -> Iterator[Change]:
        """Yield what happened after `version`. Raises `Refusal` 410 when that is no longer known."""
        with self._lock:
            if version < self._oldest:
                raise Refusal(410, "Expired", f"too old resource version: {version} ({self._oldest})")
            found = [change for change in self._history if change.version > version]
        yield from found

    def forget_history(self) -> None:
        """Forget what happened so far, as a compaction of etcd does."""
        with self._lock:
            self._history.clear()
            self._version += 1
            self._oldest = self._version

    def _store(self, resource: str, kind: str, obj: Object) -> Object:
        self._version += 1
        obj["metadata"]["resourceVersion"] = str(self._version)
        place = (resource, obj["metadata"]["namespace"], obj["metadata"]["name"])
        if kind == "DELETED":
            del self._objects[place]
        else:
            self._objects[place] = obj
        self._history.append(Change(self._version, resource, kind, copy.deepcopy(obj)))
        for listener in self._listeners:
            listener()
        return copy.deepcopy(obj)
