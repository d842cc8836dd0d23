"""Environments that are previews of change requests.

Revision ID: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; no environment is a preview yet."""
    for column in (
        sa.Column("previews", sa.Text()),
        sa.Column("change", sa.BigInteger()),
        sa.Column("expires_at", sa.BigInteger()),
    ):
        op.add_column("environments", column)
