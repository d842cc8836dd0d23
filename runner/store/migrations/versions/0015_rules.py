"""Environments know which ref they follow of those that fit a pattern, and the rules of their active commit.

Revision ID: 0015
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; the next activation fills them."""
    op.add_column("environments", sa.Column("followed", sa.Text(), nullable=True))
    op.add_column("environments", sa.Column("followed_commit", sa.Text(), nullable=True))
    op.add_column("environments", sa.Column("rules", sa.Text(), nullable=True))
