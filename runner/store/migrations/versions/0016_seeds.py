"""Keys remember the environment whose commit wrote them last.

Revision ID: 0016
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, empty: what is there was written at run time."""
    op.add_column("key_values", sa.Column("origin", sa.Text()))
    where = sa.text("origin IS NOT NULL")
    op.create_index("key_values_origin", "key_values", ["origin"], sqlite_where=where, postgresql_where=where)
