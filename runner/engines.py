"""The engines that jobs run at, by the task runners that lead there: remembered beyond the end of this process.

What a flow says of an engine, credentials too, is stored sealed, before the first job of this process starts there.
"""

from __future__ import annotations

import hmac
import json
import logging
import threading
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from runner.errors import MainstemError
from runner.store.records import StoredEngine
from task_runners.base import TaskRunner, TaskRunnerError
from task_runners.registry import runner_class

if TYPE_CHECKING:
    from runner.services import Host
    from runner.store.session import Session

log = logging.getLogger(__name__)

_MOST: Final = 64
_KEPT: Final = timedelta(days=14)
"""How long an engine is remembered at which no job starts and none is taken over any more."""
_STORED_ANEW: Final = timedelta(hours=1)
# What is said of a job; two of them at one engine differ in it.
_OF_A_JOB: Final = {"image", "labels", "resources", "cpu", "memory", "user", "entry_point", "shm_size", "machine_type"}


class Engines:
    """What of the engines is known. Safe for any thread."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._used: dict[str, TaskRunner] = {}  # the latest last
        self._stored: dict[str, datetime] = {}
        self._lock = threading.Lock()

    def note(self, runner: TaskRunner) -> None:
        """Remember the engine of a task runner that is about to start a job, or follows one."""
        key, now = self._key(runner), self._host.clock()
        with self._lock:
            self._used.pop(key, None)
            self._used[key] = runner
            if len(self._used) > _MOST:
                oldest = next(iter(self._used))
                del self._used[oldest]
                self._stored.pop(oldest, None)  # the store may have forgotten it, too
            before = self._stored.get(key)
        if before is None or now - before >= _STORED_ANEW:
            self._store(key, runner, now)
            with self._lock:
                self._stored[key] = now

    def all(self) -> list[TaskRunner]:
        """Return a task runner for each engine: those of this process, and those that the store remembers besides."""
        with self._lock:
            used = dict(self._used)
        others = [self._opened(each) for each in self._remembered() if each.key not in used]
        return [*used.values(), *(each for each in others if each is not None)]

    @cached_property
    def _secret(self) -> bytes:
        encryption = self._host.encryption
        return encryption.derived("engines") if encryption is not None else b""

    def _key(self, runner: TaskRunner) -> str:
        # Keyed, since what leads to an engine may hold a password that somebody could guess at.
        said = runner.model_dump(mode="json", exclude=_OF_A_JOB, fallback=str)
        return hmac.digest(self._secret, json.dumps(said, sort_keys=True).encode(), "sha256").hex()

    def _store(self, key: str, runner: TaskRunner, now: datetime) -> None:
        store, encryption = self._host.store, self._host.encryption
        if store is None or encryption is None:
            return
        said: dict[str, Any] = runner.model_dump(mode="json", by_alias=True, exclude_defaults=True, fallback=str)
        row = StoredEngine(key, encryption.encrypt(json.dumps(said | {"type": runner.type})), now)

        def write(db: Session) -> None:
            db.engines.put(row)
            db.engines.forget(_MOST, now - _KEPT)

        store.write(write)

    def _remembered(self) -> list[StoredEngine]:
        store, since = self._host.store, self._host.clock() - _KEPT
        return store.read(lambda db: db.engines.late(_MOST, since)) if store is not None else []

    def _opened(self, row: StoredEngine) -> TaskRunner | None:
        """Return the task runner of a stored engine; None when it is not installed any more or the key is another."""
        encryption = self._host.encryption
        if encryption is None:
            return None
        try:
            said = json.loads(encryption.decrypt(row.sealed))
            return runner_class(said["type"]).model_validate(said)
        except (MainstemError, TaskRunnerError, ValidationError, ImportError, ValueError):
            log.info("an engine that was used is not known any more", extra={"engine": row.key[:12]})
            return None
