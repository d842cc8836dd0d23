"""Workers: the processes that claim task runs, their heartbeat counters, and the user ids their bodies run as."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from runner.store import schema
from runner.store.connection import Connection
from runner.store.records import Worker
from runner.store.shelf import Drawer, Shelf
from runner.store.statements import Statement

_WORKERS: Final = Drawer(Worker, schema.workers, "id")
_w: Final = schema.workers.c
_u: Final = schema.uids.c

_BEAT: Final = Statement(sa.update(schema.workers).where(_w.id == sa.bindparam("worker")).values(beats=_w.beats + 1))
_DRAIN: Final = Statement(
    sa.update(schema.workers).where(_w.id == sa.bindparam("worker")).values(draining=sa.bindparam("drains"))
)
_UID: Final = Statement(sa.select(_u.uid).where(_u.namespace == sa.bindparam("space")))
_LAST_UID: Final = Statement(sa.select(sa.func.coalesce(sa.func.max(_u.uid), -1)))
_ADD_UID: Final = Statement(sa.insert(schema.uids).values(namespace=sa.bindparam("space"), uid=sa.bindparam("number")))


class Workers(Shelf[Worker]):
    """Workers by id. Whether one lives is judged by whoever watches `beats`, with a clock of its own."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection, _WORKERS)

    def register(self, worker: Worker) -> None:
        """Write a worker that has started."""
        self.put(worker)

    def beat(self, worker_id: str) -> bool:
        """Raise the heartbeat counter; False when the worker was removed, and must not go on."""
        return self._db.run(_BEAT, worker=worker_id) == 1

    def remove(self, worker_id: str) -> bool:
        """Remove a worker that has ended or is lost."""
        return self.delete(worker_id)

    def set_draining(self, worker_id: str, *, draining: bool = True) -> bool:
        """Say that a worker takes no new runs, or takes them again."""
        return self._db.run(_DRAIN, worker=worker_id, drains=int(draining)) == 1


class Uids:
    """One number for each namespace, from 0, never given twice; the user id is a base plus this number."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection

    def allocate(self, namespace: str) -> int:
        """Return the number of a namespace, a new one at its first use."""
        self._db.lock("uids")
        found = self._db.one(_UID, space=namespace)
        if found is not None:
            return int(found[0])
        number = int(self._db.one(_LAST_UID)[0]) + 1
        self._db.run(_ADD_UID, space=namespace, number=number)
        return number

    def get(self, namespace: str) -> int | None:
        """Return the number of a namespace if it has one."""
        found = self._db.one(_UID, space=namespace)
        return int(found[0]) if found else None
