"""Plugin defaults of namespaces, kept with the versions of the flows that they are for.

Revision ID: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("flows", sa.Column("defaults", sa.Text(), nullable=True))
