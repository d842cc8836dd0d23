"""Jobs that run elsewhere: how far their logs are told; groups of workers.

Revision ID: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, and the table where logs are in this database."""
    op.add_column("workers", sa.Column("groups", sa.Text(), nullable=False, server_default="[]"))
    if op.get_bind().dialect.name == "postgresql":
        op.create_table(
            "logs_progress",
            sa.Column("task_run_id", sa.Text(), nullable=False, primary_key=True),
            sa.Column("execution_id", sa.Text(), nullable=False),
            sa.Column("epoch", sa.BigInteger(), nullable=False),
            sa.Column("document", sa.Text(), nullable=False),
        )
        op.create_index("logs_progress_execution", "logs_progress", ["execution_id"])
