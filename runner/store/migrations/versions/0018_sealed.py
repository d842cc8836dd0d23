"""Secrets remember the environment whose commit brought them, and which encrypted text it was.

Revision ID: 0018
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, empty: what is there was set by somebody."""
    op.add_column("secrets", sa.Column("origin", sa.Text()))
    op.add_column("secrets", sa.Column("mark", sa.Text()))
