"""Environments remember the newest revision whose result their forge was told.

Revision ID: 0008
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of what is active now the forge is told when it changes next."""
    op.add_column("environments", sa.Column("told", sa.BigInteger()))
    op.execute("UPDATE environments SET told = (SELECT max(id) FROM revisions WHERE environment = environments.name)")
