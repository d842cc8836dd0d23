"""Commands in comments on change requests, and when a head was told of.

Revision ID: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and the table."""
    op.add_column("reviews", sa.Column("head_at", sa.BigInteger()))
    op.create_table(
        "review_commands",
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("told", sa.Text()),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("commit", sa.Text()),
        sa.Column("answer", sa.Text()),
        sa.Column("claimed_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("repository", "comment"),
    )
