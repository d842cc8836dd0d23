"""Environments say what a file with errors keeps from being activated: all of its commit, or itself.

Revision ID: 0013
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; what is there goes on as before."""
    op.add_column("environments", sa.Column("on_invalid", sa.Text(), nullable=False, server_default="block"))
