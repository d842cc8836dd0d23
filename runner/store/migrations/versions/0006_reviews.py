"""Reviews of change requests, and how the API of a forge is reached.

Revision ID: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns and table."""
    for name in ("api_url", "api_token"):
        op.add_column("repositories", sa.Column(name, sa.Text()))
    op.create_table(
        "reviews",
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("wanted_at", sa.BigInteger(), nullable=False),
        sa.Column("done_at", sa.BigInteger()),
        sa.Column("base", sa.Text()),
        sa.Column("is_open", sa.SmallInteger(), nullable=False),
        sa.Column("head", sa.Text()),
        sa.Column("comment", sa.Text()),
        sa.Column("digest", sa.Text()),
        sa.Column("message", sa.Text()),
        sa.Column("claimed_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("repository", "number"),
    )
