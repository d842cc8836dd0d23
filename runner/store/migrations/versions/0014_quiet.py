"""An execution whose open runs all wait remembers that; what happens to one of them is found by an index.

Revision ID: 0014
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, empty: whoever loads an execution next looks at all its open runs. Add the indexes."""
    op.add_column("executions", sa.Column("quiet", sa.Text()))
    op.drop_index("task_runs_open", "task_runs")
    _index("task_runs_open", "parent_id", "ended_at IS NULL")
    _index("task_runs_told", "result", "result IS NOT NULL AND ended_at IS NULL")
    _index("task_runs_timers", "due_at", "due_at IS NOT NULL AND ended_at IS NULL")


def _index(name: str, column: str, where: str) -> None:
    condition = sa.text(where)
    columns = ["execution_id", column]
    op.create_index(name, "task_runs", columns, sqlite_where=condition, postgresql_where=condition)
