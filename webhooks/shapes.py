"""From rows to the JSON of the API. Pure; the names are those of Kestra's public API, ours stand beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from runner.durations import format_duration
from runner.executions.ending import attempt_of
from runner.executions.models import Attempt, Execution, Histories, LogEntry, TaskRun
from runner.flows.inputs import SECRET_MASK
from runner.flows.models import Flow
from runner.links import execution_page
from runner.secrets.encryption import is_sealed
from runner.settings import Settings
from runner.states import State
from runner.store.records import (
    AuditEntry,
    Delivery,
    Environment,
    FlowVersion,
    ForgeLimit,
    KeyValue,
    Pin,
    Repository,
    Revision,
    Token,
    TriggerState,
)
from runner.triggers.backfill import backfill_of
from webhooks.routes import TENANT


def instant(time: datetime | None) -> str | None:
    """Return a time in UTC with always six decimals: clients compare them as text."""
    return None if time is None else time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def masked(value: Any) -> Any:
    """Return `value` with a mask in place of every sealed secret in it: whoever may read a run may not read those."""
    if is_sealed(value):
        return SECRET_MASK
    if isinstance(value, dict):
        return {key: masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    return value


def labels_json(labels: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return labels as pairs."""
    return [{"key": key, "value": str(value)} for key, value in labels.items()]


def state_json(state: State, histories: Histories, created_at: datetime) -> dict[str, Any]:
    """Return the `state` of an execution, task run or attempt."""
    start = histories[0][1] if histories else created_at
    last = histories[-1][1] if histories else created_at
    end = last if state.is_terminal else None
    until = end or datetime.now(UTC)
    return {
        "current": str(state),
        "histories": [{"state": str(item), "date": instant(at)} for item, at in histories],
        "startDate": instant(start),
        "endDate": instant(end),
        "duration": format_duration(max(until - start, timedelta(0))),
    }


def light_execution_json(execution: Execution) -> dict[str, Any]:
    """Return a row of a search: everything but the task runs."""
    return {
        "tenantId": TENANT,
        "id": execution.id,
        "namespace": execution.namespace,
        "flowId": execution.flow_id,
        "flowRevision": execution.flow_revision,
        "state": state_json(execution.state, execution.histories, execution.created_at),
        "originalId": execution.original_id or execution.id,
        "deleted": False,
        "kind": execution.kind,
        "inputs": masked(execution.inputs),
        "outputs": masked(execution.outputs),
        "labels": labels_json(execution.labels),
        "variables": masked(execution.variables),
        "parentId": execution.parent_id or execution.parent_execution_id,
        "trigger": execution.trigger.as_json() if execution.trigger else None,
        "scheduleDate": instant(execution.schedule_date),
        "metadata": {
            "originalCreatedDate": instant(execution.original_created_at),
            "attemptNumber": execution.attempt_number,
        },
        "breakpoints": [{"id": item} for item in execution.breakpoints],
        "environment": execution.environment,
        "commit": execution.commit,
        "error": execution.error,
    }


def execution_json(
    execution: Execution,
    runs: Sequence[TaskRun] = (),
    *,
    attempts: Iterable[Attempt] = (),
    outputs: Mapping[str, Mapping[str, Any]] | None = None,
    url: str | None = None,
) -> dict[str, Any]:
    """Return an execution with its task runs and, per run, its attempts and outputs."""
    tried: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        tried.setdefault(attempt.task_run_id, []).append(attempt)
    body = light_execution_json(execution)
    body["taskRunList"] = [
        task_run_json(execution, run, tried.get(run.id) or told(run), (outputs or {}).get(run.id, {})) for run in runs
    ]
    if url is not None:
        body["url"] = url
    return body


def told(run: TaskRun) -> list[Attempt]:
    """Return the one attempt of a run that no worker carried out; the engine keeps no row for it."""
    return [attempt_of(run)] if run.attempts else []


def task_run_json(
    execution: Execution, run: TaskRun, attempts: Iterable[Attempt] = (), outputs: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return one task run."""
    tried = list(attempts)
    return {
        "tenantId": TENANT,
        "id": run.id,
        "executionId": execution.id,
        "namespace": execution.namespace,
        "flowId": execution.flow_id,
        "taskId": run.task_id,
        "parentTaskRunId": run.parent_id,
        "value": run.value,
        "iteration": run.iteration,
        "branch": run.branch,
        "state": state_json(run.state, run.histories, run.created_at),
        "attempts": [attempt_json(item) for item in tried],
        "outputs": masked(dict(outputs or {})),
        "dynamic": False,
        "runner": run.runner or _runner_of(tried),
        "error": run.error,
    }


def _runner_of(attempts: Sequence[Attempt]) -> str | None:
    """Return the type of the task runner that the last attempt began on, as its handle says before it has a result."""
    handle = attempts[-1].handle if attempts else None
    return str(handle["runner"]) if handle and handle.get("runner") else None


def attempt_json(attempt: Attempt) -> dict[str, Any]:
    """Return one attempt of a task run."""
    histories = attempt.histories
    if not histories and attempt.started_at is not None:
        histories = ((State.RUNNING, attempt.started_at),)
        if attempt.ended_at is not None:
            histories = (*histories, (attempt.state, attempt.ended_at))
    started = attempt.started_at or (histories[0][1] if histories else datetime.fromtimestamp(0, UTC))
    return {
        "state": state_json(attempt.state, histories, started),
        "workerId": attempt.worker_id,
        "exitCode": attempt.exit_code,
        "failureReason": attempt.failure_reason,
        "message": attempt.message,
        "logFile": attempt.log_file,
    }


def execution_url(settings: Settings, execution: Execution) -> str:
    """Return the address under which people find an execution."""
    return settings.public_url + execution_page(execution.namespace, execution.flow_id, execution.id)


def flow_json(flow: Flow, version: FlowVersion, *, source: bool = False) -> dict[str, Any]:
    """Return a flow: its model as it was written, labels as pairs, and where it comes from."""
    body = flow.model_dump(mode="json", by_alias=True, exclude_unset=True)
    body.update(_version_json(version))
    body["id"], body["namespace"] = flow.id, flow.namespace
    body["disabled"], body["draft"] = flow.disabled, flow.draft
    body["labels"] = labels_json(flow.labels)
    if source:
        body["source"] = version.source
        body.update({"defaults": version.defaults} if version.defaults else {})
    return body


def broken_flow_json(version: FlowVersion, message: str, *, source: bool = False) -> dict[str, Any]:
    """Return a flow whose stored source can no longer be read: what is known without it."""
    body = {"id": version.flow_id, "namespace": version.namespace, "tasks": [], "labels": [], "draft": False}
    body.update(_version_json(version))
    body["disabled"] = version.disabled
    body["exception"] = message
    if source:
        body["source"] = version.source
    return body


def _version_json(version: FlowVersion) -> dict[str, Any]:
    return {
        "tenantId": TENANT,
        "revision": version.revision,
        "deleted": version.deleted,
        "updated": instant(version.created_at),
        "environment": version.environment,
        "commit": version.commit,
        "path": version.path,
    }


def log_json(entry: LogEntry) -> dict[str, Any]:
    """Return one line of log."""
    return {
        "tenantId": TENANT,
        "namespace": entry.namespace,
        "flowId": entry.flow_id,
        "executionId": entry.execution_id,
        "taskId": entry.task_id,
        "taskRunId": entry.task_run_id,
        "attemptNumber": entry.attempt,
        "triggerId": entry.trigger_id,
        "timestamp": instant(entry.timestamp),
        "level": entry.level,
        "message": entry.message,
    }


def log_text(entries: Iterable[LogEntry]) -> str:
    """Return lines of log as text: time, level, message."""
    return "".join(entry.as_text() for entry in entries)


def trigger_state_json(state: TriggerState, *, is_locked: bool, stop_after: Sequence[str]) -> dict[str, Any]:
    """Return what a trigger remembers; it is locked while the execution that it started last goes on."""
    backfill = backfill_of(state)
    return {
        "tenantId": TENANT,
        "namespace": state.namespace,
        "flowId": state.flow_id,
        "triggerId": state.trigger_id,
        "kind": state.kind,
        "disabled": state.disabled,
        "locked": is_locked,
        "updatedAt": instant(state.updated_at or state.evaluated_at or state.next_at),
        "evaluatedAt": instant(state.evaluated_at),
        "nextEvaluationDate": instant(state.next_at),
        "nextExecutionDate": instant(state.next_at),
        "lastTriggeredDate": instant(state.last_at),
        "date": instant(state.last_at),
        "executionId": state.execution_id,
        "backfill": backfill.as_json() if backfill else None,
        "stopAfter": list(stop_after),
        "workerId": None,
    }


def key_value_json(row: KeyValue) -> dict[str, Any]:
    """Return one entry of the key-value store, without its value."""
    return {
        "tenantId": TENANT,
        "namespace": row.namespace,
        "key": row.key,
        "revision": row.revision,
        "description": row.description,
        "creationDate": instant(row.created_at),
        "updateDate": instant(row.updated_at),
        "expirationDate": instant(row.expires_at),
    }


def repository_json(repository: Repository) -> dict[str, Any]:
    """Return a repository without anything secret; whether a secret is set is all one learns of it."""
    return {
        "name": repository.name,
        "url": without_credentials(repository.url),
        "kind": repository.kind,
        "intervalSeconds": repository.interval_s,
        "hasCredentials": bool(repository.password or repository.ssh_key),
        "hasWebhookSecret": bool(repository.webhook_secret),
    }


def limit_json(limit: ForgeLimit | None, now: datetime) -> dict[str, Any] | None:
    """Return how many requests a forge still takes; None where it has not said, or the number began anew since."""
    if limit is None or limit.is_over(now):
        return None
    return {
        "remaining": limit.remaining,
        "of": limit.allowed,
        "resetsAt": instant(limit.resets_at),
        "seenAt": instant(limit.seen_at),
        "isLow": limit.is_low(now),
    }


def without_credentials(url: str) -> str:
    """Return a URL without user and password."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def environment_json(environment: Environment) -> dict[str, Any]:
    """Return an environment and what is active in it."""
    return {
        "name": environment.name,
        "repository": environment.repository,
        "ref": environment.ref,
        "following": environment.following,
        "settings": environment.rules,
        "path": environment.path,
        "namespaces": list(environment.namespaces),
        "writes": environment.writes,
        "rejectInvalid": environment.reject_invalid,
        "onInvalid": environment.on_invalid,
        "reports": environment.reports,
        "active": environment.active,
        "held": environment.held,
        "state": environment.state,
        "message": environment.message,
        "checkedAt": instant(environment.checked_at),
        "changedAt": instant(environment.changed_at),
        "previewOf": environment.previews,
        "changeRequest": environment.change,
        "expiresAt": instant(environment.expires_at),
    }


def pin_json(pin: Pin) -> dict[str, Any]:
    """Return what keeps an environment at a commit."""
    return {
        "commit": pin.commit,
        "actor": pin.actor,
        "reason": pin.reason,
        "at": instant(pin.at),
        "until": instant(pin.until),
    }


def revision_json(revision: Revision) -> dict[str, Any]:
    """Return a commit that was planned for an environment, and what became of it."""
    return {
        "id": revision.id,
        "environment": revision.environment,
        "commit": revision.commit,
        "tree": revision.tree,
        "previous": revision.previous,
        "action": revision.action,
        "reason": revision.reason,
        "result": revision.result,
        "at": instant(revision.at),
        "author": revision.author,
        "actor": revision.actor,
        "message": revision.message,
        "seconds": revision.seconds,
        "changes": list(revision.changes),
        "problems": list(revision.problems),
        "signature": revision.signature,
        "delivery": revision.delivery,
        "sender": revision.sender,
        "prior": revision.prior,
        "digest": revision.digest,
    }


def delivery_json(delivery: Delivery) -> dict[str, Any]:
    """Return a webhook delivery without its body and headers."""
    return {
        "id": delivery.id,
        "repository": delivery.repository,
        "deliveryId": delivery.delivery_id,
        "event": delivery.event,
        "receivedAt": instant(delivery.received_at),
        "result": delivery.result,
        "ref": delivery.ref,
        "before": delivery.before,
        "after": delivery.after,
        "actor": delivery.actor,
        "reason": delivery.reason,
    }


def token_json(token: Token) -> dict[str, Any]:
    """Return a token without its digest."""
    return {
        "name": token.name,
        "prefix": token.prefix,
        "role": token.role,
        "namespaces": list(token.namespaces),
        "createdAt": instant(token.created_at),
        "expiresAt": instant(token.expires_at),
        "lastUsedAt": instant(token.last_used_at),
    }


def audit_json(entry: AuditEntry) -> dict[str, Any]:
    """Return a row of the audit log."""
    return {
        "id": entry.id,
        "at": instant(entry.at),
        "actor": entry.actor,
        "action": entry.action,
        "target": entry.target,
        "result": entry.result,
        "detail": entry.detail,
    }
