"""The revisions become a ledger: what was ordered and why, each row chained to the one before. Pins of environments.

Revision ID: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns and table; rows that are there were all asked for by git, and begin no chain."""
    op.add_column("revisions", sa.Column("action", sa.Text(), nullable=False, server_default="sync"))
    for name in ("reason", "prior", "digest"):
        op.add_column("revisions", sa.Column(name, sa.Text()))
    op.create_table(
        "pins",
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("commit", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger()),
        sa.PrimaryKeyConstraint("environment"),
    )
