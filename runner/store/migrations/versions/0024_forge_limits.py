"""What forges said last of their limits: every process sees what the one that asks was told.

Revision ID: 0024
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "forge_limits",
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("remaining", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("allowed", sa.BigInteger()),
        sa.Column("resets_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("repository"),
    )
