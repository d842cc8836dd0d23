"""The first schema: repositories, flows, executions and everything beside them.

Revision ID: 0001
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def text(name: str, *, null: bool = False) -> sa.Column[Any]:
    """A text column."""
    return sa.Column(name, sa.Text(), nullable=null)


def number(name: str, *, null: bool = False) -> sa.Column[Any]:
    """A 64-bit integer column; moments are microseconds since 1970."""
    return sa.Column(name, sa.BigInteger(), nullable=null)


def real(name: str) -> sa.Column[Any]:
    """A column of doubles."""
    return sa.Column(name, sa.Double(), nullable=False)


def flag(name: str) -> sa.Column[Any]:
    """A column of 0 and 1."""
    return sa.Column(name, sa.SmallInteger(), nullable=False)


def blob(name: str) -> sa.Column[Any]:
    """A column of bytes."""
    return sa.Column(name, sa.LargeBinary(), nullable=False)


def identity(name: str) -> sa.Column[Any]:
    """A number that is never given twice."""
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column(name, kind, primary_key=True, autoincrement=True)


def table(name: str, *columns: sa.Column[Any], keys: tuple[str, ...] = ()) -> None:
    """Create a table; without `keys` it has an identity."""
    constraints = [sa.PrimaryKeyConstraint(*keys)] if keys else []
    op.create_table(name, *columns, *constraints, sqlite_autoincrement=not keys)


def index(name: str, of: str, *columns: str, where: str | None = None, unique: bool = False) -> None:
    """Create an index, partial with `where`."""
    condition = None if where is None else sa.text(where)
    op.create_index(name, of, list(columns), unique=unique, sqlite_where=condition, postgresql_where=condition)


def upgrade() -> None:
    """Create all tables."""
    executions()
    beside_executions()
    repositories()
    triggers()
    access()
    if op.get_bind().dialect.name == "postgresql":
        logs()


def executions() -> None:
    """Create executions, their runs and attempts."""
    table(
        "executions",
        text("id"),
        text("namespace"),
        text("flow_id"),
        number("flow_revision"),
        text("state"),
        number("created_at"),
        number("version"),
        text("environment", null=True),
        text("commit", null=True),
        text("labels"),
        text("inputs"),
        text("variables"),
        text("outputs"),
        text("trigger", null=True),
        text("original_id"),
        text("parent_id", null=True),
        text("parent_execution_id", null=True),
        text("parent_task_run_id", null=True),
        text("kind"),
        number("attempt_number"),
        number("depth"),
        text("error", null=True),
        number("schedule_date", null=True),
        number("due_at", null=True),
        number("started_at", null=True),
        number("ended_at", null=True),
        text("histories"),
        text("breakpoints"),
        text("trigger_execution_id", null=True),
        keys=("id",),
    )
    index("executions_created", "executions", "created_at", "id")
    index("executions_due", "executions", "due_at", where="due_at IS NOT NULL AND ended_at IS NULL")
    index("executions_flow", "executions", "namespace", "flow_id", "created_at")
    index("executions_open", "executions", "namespace", "flow_id", "created_at", where="ended_at IS NULL")
    index("executions_parent", "executions", "parent_id", where="parent_id IS NOT NULL")
    index("executions_parent_execution", "executions", "parent_execution_id", where="parent_execution_id IS NOT NULL")
    index("executions_state", "executions", "state", "created_at")
    index(
        "executions_trigger_execution", "executions", "trigger_execution_id", where="trigger_execution_id IS NOT NULL"
    )
    table(
        "task_runs",
        text("id"),
        text("execution_id"),
        text("task_id"),
        text("state"),
        number("created_at"),
        number("seq"),
        text("parent_id", null=True),
        text("branch"),
        text("value", null=True),
        number("iteration", null=True),
        number("epoch"),
        number("attempts"),
        number("losses"),
        text("memory"),
        text("result", null=True),
        text("error", null=True),
        text("runner", null=True),
        text("queue"),
        number("due_at", null=True),
        number("started_at", null=True),
        number("ended_at", null=True),
        text("histories"),
        number("stamp"),
        text("outputs", null=True),
        keys=("id",),
    )
    index("task_runs_due", "task_runs", "due_at", where="due_at IS NOT NULL AND ended_at IS NULL")
    index("task_runs_execution", "task_runs", "execution_id", "seq")
    table(
        "attempts",
        text("task_run_id"),
        text("execution_id"),
        number("number"),
        number("epoch"),
        text("state"),
        text("worker_id", null=True),
        number("started_at", null=True),
        number("ended_at", null=True),
        number("exit_code", null=True),
        text("failure_reason", null=True),
        text("message", null=True),
        text("handle", null=True),
        text("histories"),
        keys=(
            "task_run_id",
            "number",
        ),
    )
    index("attempts_claim", "attempts", "task_run_id", "epoch", where="epoch > 0", unique=True)
    index("attempts_execution", "attempts", "execution_id")
    index("attempts_worker", "attempts", "worker_id", where="ended_at IS NULL AND worker_id IS NOT NULL")


def beside_executions() -> None:
    """Create what executions write beside themselves, and who works on them."""
    table(
        "history",
        text("execution_id"),
        number("version"),
        text("kind"),
        number("at"),
        text("task_run_id", null=True),
        text("payload"),
        identity("id"),
    )
    index("history_execution", "history", "execution_id", "id")
    table(
        "outbox",
        text("kind"),
        text("key"),
        text("payload"),
        number("available_at"),
        identity("id"),
        number("created_at"),
    )
    index("outbox_key", "outbox", "key", "kind")
    index("outbox_kind", "outbox", "kind", "available_at", "id")
    table(
        "metrics",
        text("execution_id"),
        text("namespace"),
        text("flow_id"),
        text("task_id"),
        text("task_run_id"),
        text("name"),
        text("kind"),
        real("value"),
        number("timestamp"),
        text("tags"),
        identity("id"),
    )
    index("metrics_execution", "metrics", "execution_id")
    index("metrics_flow", "metrics", "namespace", "flow_id", "name", "timestamp")
    table(
        "workers",
        text("id"),
        text("host"),
        number("pid"),
        number("started_at"),
        number("beats"),
        flag("draining"),
        keys=("id",),
    )


def repositories() -> None:
    """Create flows and where they come from."""
    table(
        "flows",
        text("namespace"),
        text("flow_id"),
        number("revision"),
        text("blob"),
        text("source"),
        number("created_at"),
        text("environment", null=True),
        text("commit", null=True),
        text("path", null=True),
        flag("disabled"),
        flag("deleted"),
        flag("active"),
        text("labels"),
        keys=(
            "namespace",
            "flow_id",
            "revision",
        ),
    )
    index("flows_active", "flows", "namespace", "flow_id", where="active = 1", unique=True)
    index("flows_environment", "flows", "environment", where="active = 1")
    table(
        "repositories",
        text("name"),
        text("url"),
        text("kind"),
        text("username", null=True),
        text("password", null=True),
        text("ssh_key", null=True),
        text("webhook_secret", null=True),
        text("previous_webhook_secret", null=True),
        number("interval_s"),
        keys=("name",),
    )
    table(
        "environments",
        text("name"),
        text("repository"),
        text("ref"),
        text("path"),
        text("namespaces"),
        text("writes"),
        flag("reject_invalid"),
        flag("reports"),
        text("active", null=True),
        text("held", null=True),
        text("state"),
        text("message", null=True),
        number("checked_at", null=True),
        number("changed_at", null=True),
        keys=("name",),
    )
    index("environments_repository", "environments", "repository")
    table(
        "revisions",
        text("environment"),
        text("commit"),
        text("result"),
        number("at"),
        text("tree", null=True),
        text("author", null=True),
        text("message", null=True),
        text("actor", null=True),
        text("previous", null=True),
        real("seconds"),
        text("changes"),
        text("problems"),
        identity("id"),
    )
    index("revisions_environment", "revisions", "environment", "commit")


def triggers() -> None:
    """Create what starts executions and syncs."""
    table(
        "triggers",
        text("namespace"),
        text("flow_id"),
        text("trigger_id"),
        text("kind"),
        flag("disabled"),
        number("next_at", null=True),
        number("last_at", null=True),
        number("evaluated_at", null=True),
        text("execution_id", null=True),
        flag("locked"),
        text("memory"),
        number("updated_at", null=True),
        keys=(
            "namespace",
            "flow_id",
            "trigger_id",
        ),
    )
    index("triggers_due", "triggers", "next_at", where="next_at IS NOT NULL AND disabled = 0")
    table(
        "ticks",
        text("trigger_key"),
        number("tick"),
        keys=(
            "trigger_key",
            "tick",
        ),
    )
    index("ticks_tick", "ticks", "tick")
    table(
        "deliveries",
        text("repository"),
        text("delivery_id"),
        text("event"),
        number("received_at"),
        text("result"),
        text("ref", null=True),
        text("before", null=True),
        text("after", null=True),
        text("actor", null=True),
        text("reason", null=True),
        blob("body"),
        text("headers"),
        identity("id"),
    )
    index("deliveries_received", "deliveries", "received_at")
    index("deliveries_unique", "deliveries", "repository", "delivery_id", unique=True)
    table(
        "idempotency",
        text("key"),
        text("digest"),
        text("response"),
        number("at"),
        keys=("key",),
    )


def access() -> None:
    """Create values, tokens and small counters."""
    table(
        "key_values",
        text("namespace"),
        text("key"),
        text("kind"),
        text("value"),
        number("created_at"),
        number("updated_at"),
        number("expires_at", null=True),
        text("description", null=True),
        number("revision"),
        keys=(
            "namespace",
            "key",
        ),
    )
    index("key_values_expires", "key_values", "expires_at", where="expires_at IS NOT NULL")
    table(
        "tokens",
        text("name"),
        text("digest"),
        text("prefix"),
        text("role"),
        number("created_at"),
        text("namespaces"),
        number("expires_at", null=True),
        number("last_used_at", null=True),
        keys=("name",),
    )
    index("tokens_digest", "tokens", "digest", unique=True)
    table(
        "audit",
        number("at"),
        text("actor"),
        text("action"),
        text("target"),
        text("result"),
        text("detail"),
        identity("id"),
    )
    table(
        "report_state",
        text("environment"),
        text("key"),
        text("value"),
        keys=(
            "environment",
            "key",
        ),
    )
    table(
        "uids",
        text("namespace"),
        number("uid"),
        keys=("namespace",),
    )
    index("uids_uid", "uids", "uid", unique=True)
    table(
        "counters",
        text("name"),
        number("value"),
        keys=("name",),
    )


def logs() -> None:
    """Create the partitioned log table of PostgreSQL; the log writer adds one partition a day.

    The id comes from a sequence: identity columns of partitioned tables need PostgreSQL 17.
    """
    op.execute("CREATE SEQUENCE logs_id")
    op.execute(
        """
        CREATE TABLE logs (
            execution_id TEXT NOT NULL, namespace TEXT NOT NULL, flow_id TEXT NOT NULL, timestamp BIGINT NOT NULL,
            level TEXT NOT NULL, message TEXT NOT NULL, task_id TEXT, task_run_id TEXT, attempt BIGINT,
            trigger_id TEXT, id BIGINT NOT NULL DEFAULT nextval('logs_id'), PRIMARY KEY (timestamp, id)
        ) PARTITION BY RANGE (timestamp)
        """
    )
    op.execute("ALTER SEQUENCE logs_id OWNED BY logs.id")
    index("logs_execution", "logs", "execution_id", "id")
    index("logs_timestamp", "logs", "timestamp")
