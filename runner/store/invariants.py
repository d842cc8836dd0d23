"""What must hold in every database, whatever happened to the processes that wrote it."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from runner.states import State
from runner.store import schema
from runner.store.connection import Connection
from runner.store.statements import SQLITE, Statement

_r: Final = schema.task_runs.c
_a: Final = schema.attempts.c
_e: Final = schema.executions.c
_MOST: Final[Any] = sa.literal_column("100")  # findings of one kind; more of them say nothing new

_MINE: Final = sa.exists().where(_a.task_run_id == _r.id, _a.epoch == _r.epoch)
_RULES: Final[list[tuple[str, Statement]]] = [
    (
        "task run {0} is RUNNING under a claim that has no open attempt",
        Statement(
            sa.select(_r.id)
            .where(
                _r.state == State.RUNNING.value,
                _r.epoch > sa.literal_column("0"),
                _r.result.is_(None),
                ~_MINE.where(_a.ended_at.is_(None)),
            )
            .limit(_MOST)
        ),
    ),
    (
        "task run {0} has an attempt of a newer epoch than its own",
        # A run of epoch 0 is carried out under the claim of the run around it; it is never claimed itself.
        Statement(
            sa.select(_r.id)
            .where(_r.epoch > sa.literal_column("0"), sa.exists().where(_a.task_run_id == _r.id, _a.epoch > _r.epoch))
            .limit(_MOST)
        ),
    ),
    (
        "task run {0} has a result that no ended attempt of its epoch gave",
        Statement(
            sa.select(_r.id)
            .where(_r.result.is_not(None), _r.epoch > sa.literal_column("0"), ~_MINE.where(_a.ended_at.is_not(None)))
            .limit(_MOST)
        ),
    ),
    (
        "the attempts of task run {0} are not numbered 1 to {1}",
        Statement(
            sa.select(_a.task_run_id, sa.func.count())
            .group_by(_a.task_run_id)
            .having(
                sa.or_(
                    sa.func.min(_a.number) != sa.literal_column("1"),
                    sa.func.max(_a.number) != sa.func.count(),
                )
            )
            .limit(_MOST)
        ),
    ),
    (
        "task run {0} belongs to no execution",
        Statement(sa.select(_r.id).where(~sa.exists().where(_e.id == _r.execution_id)).limit(_MOST)),
    ),
    (
        "attempt {1} belongs to no task run {0}",
        Statement(sa.select(_a.task_run_id, _a.number).where(~sa.exists().where(_r.id == _a.task_run_id)).limit(_MOST)),
    ),
]


def findings(connection: Connection) -> list[str]:
    """Return one sentence for each contradiction, at most 100 of each kind."""
    found = []
    if connection.dialect == SQLITE:
        answers = connection.driver.execute("PRAGMA integrity_check").fetchall()
        found += [f"integrity check: {answer}" for (answer,) in answers if answer != "ok"]
        found += [f"foreign key: {row}" for row in connection.driver.execute("PRAGMA foreign_key_check").fetchall()]
        if not connection.driver.execute("SELECT 1 FROM sqlite_master WHERE name = 'executions'").fetchone():
            return found  # the log file
    for sentence, statement in _RULES:
        found += [sentence.format(*row) for row in connection.all(statement)]
    return found
