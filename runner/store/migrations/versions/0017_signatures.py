"""The ledger holds what was found of the signature of a commit.

Revision ID: 0017
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; of the rows that are there nothing is known, and their digests stay what they are."""
    op.add_column("revisions", sa.Column("signature", sa.Text()))
