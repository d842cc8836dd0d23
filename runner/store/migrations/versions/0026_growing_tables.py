"""What grows for ever is found without reading all of it: the audit log, the ledger, answers, handles of attempts.

Revision ID: 0026
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the indexes."""
    op.create_index("audit_at", "audit", ["at"])
    op.create_index("audit_target", "audit", ["target", "id"])
    op.create_index("idempotency_at", "idempotency", ["at"])
    op.create_index("revisions_in_order", "revisions", ["environment", "id"])
    some = sa.text("handle IS NOT NULL")
    op.create_index("attempts_handle", "attempts", ["task_run_id"], sqlite_where=some, postgresql_where=some)
