"""The tables. The first columns of each are the fields of its dataclass, in order; what follows is the store's own.

A row of `executions` or `task_runs` is open while `ended_at` is null; the partial indexes rest on that.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from runner.store.columns import (
    blob,
    flag,
    histories,
    identity,
    labels,
    moment,
    number,
    prose,
    real,
    series,
    state,
    structure,
    text,
    trigger,
)

metadata: Final = sa.MetaData()


def _table(name: str, *columns: sa.Column[object], keys: tuple[str, ...] = ()) -> sa.Table:
    parts: list[sa.schema.SchemaItem] = [*columns]
    if keys:
        parts.append(sa.PrimaryKeyConstraint(*keys))
    automatic = any(column.primary_key and column.autoincrement is True for column in columns)
    return sa.Table(name, metadata, *parts, sqlite_autoincrement=automatic)


def _index(name: str, *columns: sa.Column[object], where: str | None = None, unique: bool = False) -> None:
    condition = None if where is None else sa.text(where)
    sa.Index(name, *columns, unique=unique, sqlite_where=condition, postgresql_where=condition)


executions: Final = _table(
    "executions",
    text("id"),
    text("namespace"),
    text("flow_id"),
    number("flow_revision"),
    state(),
    moment("created_at"),
    number("version"),
    text("environment", null=True),
    text("commit", null=True),
    labels(),
    structure("inputs"),
    structure("variables"),
    structure("outputs"),
    trigger(),
    text("original_id"),
    text("parent_id", null=True),
    text("parent_execution_id", null=True),
    text("parent_task_run_id", null=True),
    text("kind"),
    number("attempt_number"),
    number("depth"),
    prose("error"),
    moment("schedule_date", null=True),
    moment("due_at", null=True),
    moment("started_at", null=True),
    moment("ended_at", null=True),
    histories(),
    series("breakpoints"),
    structure("memory"),
    text("trigger_execution_id", null=True),  # trigger.variables.executionId, to be searched by
    structure("quiet", null=True),  # what a load may leave out; null: nothing that is open
    keys=("id",),
)
_index("executions_created", executions.c.created_at, executions.c.id)
_index("executions_state", executions.c.state, executions.c.created_at)
_index("executions_flow", executions.c.namespace, executions.c.flow_id, executions.c.created_at)
_index(
    "executions_open", executions.c.namespace, executions.c.flow_id, executions.c.created_at, where="ended_at IS NULL"
)
_index("executions_due", executions.c.due_at, where="due_at IS NOT NULL AND ended_at IS NULL")
_index("executions_parent_execution", executions.c.parent_execution_id, where="parent_execution_id IS NOT NULL")
_index("executions_parent", executions.c.parent_id, where="parent_id IS NOT NULL")
_index("executions_trigger_execution", executions.c.trigger_execution_id, where="trigger_execution_id IS NOT NULL")

task_runs: Final = _table(
    "task_runs",
    text("id"),
    text("execution_id"),
    text("task_id"),
    state(),
    moment("created_at"),
    number("seq"),
    text("parent_id", null=True),
    text("branch"),
    prose("value"),
    number("iteration", null=True),
    number("epoch"),
    number("attempts"),
    number("losses"),
    structure("memory"),
    state("result", null=True),
    prose("error"),
    text("runner", null=True),
    text("queue"),
    moment("due_at", null=True),
    moment("started_at", null=True),
    moment("ended_at", null=True),
    histories(),
    number("stamp"),
    structure("outputs", null=True),  # last, so that reading a run never touches the pages of large outputs
    keys=("id",),
)
_index("task_runs_execution", task_runs.c.execution_id, task_runs.c.seq)
_index("task_runs_open", task_runs.c.execution_id, task_runs.c.parent_id, where="ended_at IS NULL")
_index("task_runs_place", task_runs.c.execution_id, task_runs.c.parent_id, task_runs.c.iteration)
_index("task_runs_told", task_runs.c.execution_id, task_runs.c.result, where="result IS NOT NULL AND ended_at IS NULL")
_index(
    "task_runs_timers", task_runs.c.execution_id, task_runs.c.due_at, where="due_at IS NOT NULL AND ended_at IS NULL"
)
_index("task_runs_due", task_runs.c.due_at, where="due_at IS NOT NULL AND ended_at IS NULL")

attempts: Final = _table(
    "attempts",
    text("task_run_id"),
    text("execution_id"),
    number("number"),
    number("epoch"),
    state(),
    text("worker_id", null=True),
    moment("started_at", null=True),
    moment("ended_at", null=True),
    number("exit_code", null=True),
    text("failure_reason", null=True),
    prose("message"),
    structure("handle", null=True),
    histories(),
    text("log_file", null=True),
    keys=("task_run_id", "number"),
)
_index("attempts_execution", attempts.c.execution_id)
_index("attempts_worker", attempts.c.worker_id, where="ended_at IS NULL AND worker_id IS NOT NULL")
_index("attempts_handle", attempts.c.task_run_id, where="handle IS NOT NULL")
_index("attempts_claim", attempts.c.task_run_id, attempts.c.epoch, where="epoch > 0", unique=True)

history: Final = _table(
    "history",
    text("execution_id"),
    number("version"),
    text("kind"),
    moment("at"),
    text("task_run_id", null=True),
    structure("payload"),
    identity(),
)
_index("history_execution", history.c.execution_id, history.c.id)

outbox: Final = _table(
    "outbox",
    text("kind"),
    text("key"),
    structure("payload"),
    moment("available_at"),  # 0: at once
    identity(),
    moment("created_at"),
)
_index("outbox_kind", outbox.c.kind, outbox.c.available_at, outbox.c.id)
_index("outbox_key", outbox.c.key, outbox.c.kind)

metrics: Final = _table(
    "metrics",
    text("execution_id"),
    text("namespace"),
    text("flow_id"),
    text("task_id"),
    text("task_run_id"),
    text("name"),
    text("kind"),
    real("value"),
    moment("timestamp"),
    labels("tags"),
    identity(),
)
_index("metrics_execution", metrics.c.execution_id)
_index("metrics_timestamp", metrics.c.timestamp)
_index("metrics_flow", metrics.c.namespace, metrics.c.flow_id, metrics.c.name, metrics.c.timestamp)

workers: Final = _table(
    "workers",
    text("id"),
    text("host"),
    number("pid"),
    moment("started_at"),
    number("beats"),
    flag("draining"),
    series("groups"),
    keys=("id",),
)

flows: Final = _table(
    "flows",
    text("namespace"),
    text("flow_id"),
    number("revision"),
    text("blob"),
    prose("source", null=False),
    moment("created_at"),
    text("environment", null=True),
    text("commit", null=True),
    prose("path"),
    flag("disabled"),
    flag("deleted"),
    flag("active"),
    labels(),
    prose("defaults"),
    keys=("namespace", "flow_id", "revision"),
)
_index("flows_active", flows.c.namespace, flows.c.flow_id, where="active = 1", unique=True)
_index("flows_environment", flows.c.environment, where="active = 1")

repositories: Final = _table(
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
    text("api_url", null=True),
    text("api_token", null=True),
    keys=("name",),
)

forge_limits: Final = _table(
    "forge_limits",
    text("repository"),
    number("remaining"),
    moment("seen_at"),
    number("allowed", null=True),
    moment("resets_at", null=True),
    keys=("repository",),
)

environments: Final = _table(
    "environments",
    text("name"),
    text("repository"),
    text("ref"),
    text("path"),
    series("namespaces"),
    text("writes"),
    flag("reject_invalid"),
    flag("reports"),
    text("active", null=True),
    text("held", null=True),
    text("state"),
    prose("message"),
    moment("checked_at", null=True),
    moment("changed_at", null=True),
    number("told", null=True),
    text("previews", null=True),
    number("change", null=True),
    moment("expires_at", null=True),
    text("on_invalid"),
    text("followed", null=True),
    text("followed_commit", null=True),
    structure("rules", null=True),
    keys=("name",),
)
_index("environments_repository", environments.c.repository)

reviews: Final = _table(
    "reviews",
    text("repository"),
    number("number"),
    moment("wanted_at"),
    moment("done_at", null=True),
    text("base", null=True),
    flag("is_open"),
    text("head", null=True),
    text("comment", null=True),
    text("digest", null=True),
    prose("message"),
    moment("head_at", null=True),
    moment("claimed_at", null=True),
    keys=("repository", "number"),
)

review_commands: Final = _table(
    "review_commands",
    text("repository"),
    text("comment"),
    number("number"),
    prose("line", null=False),
    text("account"),
    text("name"),
    moment("at"),
    text("told", null=True),
    text("state"),
    text("commit", null=True),
    prose("answer"),
    moment("claimed_at", null=True),
    keys=("repository", "comment"),
)

pins: Final = _table(
    "pins",
    text("environment"),
    text("commit"),
    text("actor"),
    prose("reason", null=False),
    moment("at"),
    moment("until", null=True),
    keys=("environment",),
)

commit_tests: Final = _table(
    "commit_tests",
    text("environment"),
    text("commit"),
    moment("at"),
    flag("is_good"),
    prose("text", null=False),
    series("problems"),
    text("base", null=True),
    keys=("environment",),
)

revisions: Final = _table(
    "revisions",
    text("environment"),
    text("commit"),
    text("result"),
    moment("at"),
    text("tree", null=True),
    prose("author"),
    prose("message"),
    text("actor", null=True),
    text("previous", null=True),
    real("seconds"),
    series("changes"),
    series("problems"),
    text("action"),
    prose("reason"),
    structure("signature", null=True),
    *(text(name, null=True) for name in ("delivery", "sender", "prior", "digest")),
    identity(),
)
_index("revisions_environment", revisions.c.environment, revisions.c.commit)
_index("revisions_in_order", revisions.c.environment, revisions.c.id)

triggers: Final = _table(
    "triggers",
    text("namespace"),
    text("flow_id"),
    text("trigger_id"),
    text("kind"),
    flag("disabled"),
    moment("next_at", null=True),
    moment("last_at", null=True),
    moment("evaluated_at", null=True),
    text("execution_id", null=True),
    flag("locked"),
    structure("memory"),
    moment("updated_at", null=True),
    keys=("namespace", "flow_id", "trigger_id"),
)
_index("triggers_due", triggers.c.next_at, where="next_at IS NOT NULL AND disabled = 0")

ticks: Final = _table("ticks", text("trigger_key"), moment("tick"), keys=("trigger_key", "tick"))
_index("ticks_tick", ticks.c.tick)

deliveries: Final = _table(
    "deliveries",
    text("repository"),
    text("delivery_id"),
    text("event"),
    moment("received_at"),
    text("result"),
    text("ref", null=True),
    text("before", null=True),
    text("after", null=True),
    prose("actor"),
    prose("reason"),
    blob("body"),
    structure("headers"),
    identity(),
)
_index("deliveries_unique", deliveries.c.repository, deliveries.c.delivery_id, unique=True)
_index("deliveries_received", deliveries.c.received_at)
_index("deliveries_of_ref", deliveries.c.repository, deliveries.c.ref, deliveries.c.received_at)
_index("deliveries_in_order", deliveries.c.repository, deliveries.c.id)

idempotency: Final = _table(
    "idempotency",
    text("key"),
    text("digest"),
    structure("response"),
    moment("at"),
    keys=("key",),
)
_index("idempotency_at", idempotency.c.at)

key_values: Final = _table(
    "key_values",
    text("namespace"),
    text("key"),
    text("kind"),
    structure("value"),
    moment("created_at"),
    moment("updated_at"),
    moment("expires_at", null=True),
    prose("description"),
    number("revision"),
    text("origin", null=True),
    keys=("namespace", "key"),
)
_index("key_values_expires", key_values.c.expires_at, where="expires_at IS NOT NULL")
_index("key_values_origin", key_values.c.origin, where="origin IS NOT NULL")

secrets: Final = _table(
    "secrets",
    text("namespace"),
    text("key"),
    text("sealed"),
    moment("updated_at"),
    prose("description"),
    structure("tags"),
    text("origin", null=True),
    text("mark", null=True),
    keys=("namespace", "key"),
)

dashboards: Final = _table(
    "dashboards",
    text("id"),
    prose("title", null=False),
    prose("source", null=False),
    text("environment"),
    prose("path", null=False),
    moment("created_at"),
    moment("updated_at"),
    text("namespace", null=True),
    keys=("id",),
)

engines: Final = _table("engines", text("key"), prose("sealed", null=False), moment("used_at"), keys=("key",))

tokens: Final = _table(
    "tokens",
    text("name"),
    text("digest"),
    text("prefix"),
    text("role"),
    moment("created_at"),
    series("namespaces"),
    moment("expires_at", null=True),
    moment("last_used_at", null=True),
    keys=("name",),
)
_index("tokens_digest", tokens.c.digest, unique=True)

audit: Final = _table(
    "audit",
    moment("at"),
    text("actor"),
    text("action"),
    prose("target", null=False),
    text("result"),
    structure("detail"),
    identity(),
)
_index("audit_at", audit.c.at)
_index("audit_target", audit.c.target, audit.c.id)

report_state: Final = _table(
    "report_state",
    text("environment"),
    text("key"),
    structure("value"),
    keys=("environment", "key"),
)

uids: Final = _table("uids", text("namespace"), number("uid"), keys=("namespace",))
sa.Index("uids_uid", uids.c.uid, unique=True)

counters: Final = _table("counters", text("name"), number("value"), keys=("name",))
