"""How far the log of a job is told that runs elsewhere; written in the transaction of the lines that were told.

One row for each task run whose log is being followed. It names the epoch of the claim under which it is followed:
what a worker under an older one still tells is left out, since the newer one tells it too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from runner.store import log_schema
from runner.store.columns import dump, load
from runner.store.connection import Connection
from runner.store.records import Told
from runner.store.statements import Statement, listed, one_of

_p: Final = log_schema.logs_progress.c
_NAMES: Final = ("task_run_id", "execution_id", "epoch", "document")
_RUN: Final[Any] = sa.bindparam("run")

_PUT: Final = Statement.upsert(log_schema.logs_progress, _NAMES, ["task_run_id"])
_GET: Final = Statement(sa.select(_p.epoch, _p.document).where(_p.task_run_id == _RUN))
_EPOCHS: Final = Statement(sa.select(_p.task_run_id, _p.epoch).where(one_of(_p.task_run_id, "runs")))
_FORGET: Final = Statement(sa.delete(log_schema.logs_progress).where(_p.task_run_id == _RUN))
_FORGET_ALL: Final = Statement(sa.delete(log_schema.logs_progress).where(_p.execution_id == sa.bindparam("execution")))


def take_over(connection: Connection, told: Told) -> Mapping[str, Any] | None:
    """Have only the epoch of `told` tell from now on; return the progress so far, None when nothing was told."""
    found = connection.one(_GET, run=told.task_run_id)
    document = load(found[1]) if found else None
    if found is None or found[0] < told.epoch:
        _put(connection, told, document)
    return document or None


def current(connection: Connection, units: Sequence[Told]) -> list[Told]:
    """Return the units whose claim nobody has taken over."""
    if not units:
        return []
    epochs = dict(connection.all(_EPOCHS, runs=listed({unit.task_run_id for unit in units})))
    return [unit for unit in units if epochs.get(unit.task_run_id, 0) <= unit.epoch]


def advance(connection: Connection, units: Sequence[Told]) -> None:
    """Write the newest progress of each run."""
    for unit in {unit.task_run_id: unit for unit in units}.values():
        if unit.progress is None:
            connection.run(_FORGET, run=unit.task_run_id)
        else:
            _put(connection, unit, unit.progress())


def forget(connection: Connection, execution_id: str) -> None:
    """Remove the progress of all runs of an execution."""
    connection.run(_FORGET_ALL, execution=execution_id)


def _put(connection: Connection, told: Told, document: Mapping[str, Any] | None) -> None:
    row = (told.task_run_id, told.execution_id, told.epoch, dump(document))
    connection.run(_PUT, **dict(zip(_NAMES, row, strict=True)))
