"""Indexes by which the runs that matter to a long execution are found without reading the others.

Revision ID: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the indexes."""
    is_open = sa.text("ended_at IS NULL")
    op.create_index("task_runs_open", "task_runs", ["execution_id"], sqlite_where=is_open, postgresql_where=is_open)
    op.create_index("task_runs_place", "task_runs", ["execution_id", "parent_id", "iteration"])
