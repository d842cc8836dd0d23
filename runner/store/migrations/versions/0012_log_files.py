"""Attempts remember the file to which their log was moved.

Revision ID: 0012
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; the logs of attempts that have ended stand where they were written."""
    op.add_column("attempts", sa.Column("log_file", sa.Text()))
