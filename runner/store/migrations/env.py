"""What Alembic runs for each command: the connection comes from `runner.store.migration`."""

from __future__ import annotations

from alembic import context

from runner.store.schema import metadata

connection = context.config.attributes["connection"]
# The caller's transaction holds everything; SQLite can roll back DDL too when nothing commits in between.
context.configure(connection=connection, target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
