"""The ledger holds the webhook delivery that told of a commit, and who caused it.

Revision ID: 0021
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; of the rows that are there nothing is known, and their digests stay what they are."""
    op.add_column("revisions", sa.Column("delivery", sa.Text()))
    op.add_column("revisions", sa.Column("sender", sa.Text()))
