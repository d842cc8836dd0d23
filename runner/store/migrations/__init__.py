"""Migrations of the store's tables, run by Alembic. Files in `versions` are only added, never changed."""
