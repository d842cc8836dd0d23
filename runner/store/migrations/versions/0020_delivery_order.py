"""Deliveries are found by their ref and by their order without reading all of their repository.

Revision ID: 0020
"""

from __future__ import annotations

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the indexes."""
    op.create_index("deliveries_of_ref", "deliveries", ["repository", "ref", "received_at"])
    op.create_index("deliveries_in_order", "deliveries", ["repository", "id"])
