"""Metrics are found by their time: charts look at all of a window.

Revision ID: 0022
"""

from __future__ import annotations

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    op.create_index("metrics_timestamp", "metrics", ["timestamp"])
