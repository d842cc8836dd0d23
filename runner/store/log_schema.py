"""The tables of logs: a file of their own on SQLite, so that logs never wait for the state, nor it for them."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from runner.store.columns import identity, moment, number, prose, structure, text

metadata: Final = sa.MetaData()

logs: Final = sa.Table(
    "logs",
    metadata,
    text("execution_id"),
    text("namespace"),
    text("flow_id"),
    moment("timestamp"),
    text("level"),
    prose("message", null=False),
    text("task_id", null=True),
    text("task_run_id", null=True),
    number("attempt", null=True),
    text("trigger_id", null=True),
    identity(),
    sqlite_autoincrement=True,
)
sa.Index("logs_execution", logs.c.execution_id, logs.c.id)
sa.Index("logs_timestamp", logs.c.timestamp)

# How far the log of a job is told that runs elsewhere, written in the transaction of the lines themselves.
logs_progress: Final = sa.Table(
    "logs_progress",
    metadata,
    text("task_run_id"),
    text("execution_id"),
    number("epoch"),
    structure("document"),
    sa.PrimaryKeyConstraint("task_run_id"),
)
sa.Index("logs_progress_execution", logs_progress.c.execution_id)
