"""What an execution has decided once: the time its first attempt began, the promise it broke.

Revision ID: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; executions that are there have decided nothing."""
    op.add_column("executions", sa.Column("memory", sa.Text(), nullable=False, server_default="{}"))
