"""The JSON of one run: for programs, and for `mainstem run --from-execution REPORT.json`."""

from __future__ import annotations

from typing import Any, Final

from runner.executions.models import Histories, TaskRun
from runner.reports.details import RunDetails
from runner.reports.rows import RunRow
from runner.reports.values import HIDDEN, Mask, masked, without_secrets

SCHEMA: Final = "mainstem.run/1"
_MOST_TEXT: Final = 16_000


def run_document(details: RunDetails, mask: Mask) -> dict[str, Any]:
    """Return a run as JSON values, masked. A change that old readers would misread raises the number of the schema.

    Inputs are whole, unlike on the page, so that the run can be repeated; `hiddenInputs` names those whose values are
    secret and must be given again.
    """
    execution, row = details.execution, details.row
    inputs = without_secrets(execution.inputs, details.secret_inputs, mask)
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "id": execution.id,
        "environment": execution.environment,
        "namespace": execution.namespace,
        "flowId": execution.flow_id,
        "flowRevision": execution.flow_revision,
        "commit": execution.commit,
        "state": {"current": execution.state.value, "histories": _histories(execution.histories)},
        "startDate": row.as_json()["start"],
        "endDate": row.as_json()["end"],
        "seconds": row.seconds,
        "error": row.error,
        "trigger": _trigger(details, mask),
        "labels": masked(execution.labels, mask),
        "inputs": inputs,
        "hiddenInputs": sorted(name for name, value in inputs.items() if HIDDEN in str(value)),
        "outputs": _small(masked(execution.outputs, mask)),
        "taskRunList": [_task_run(details, run, mask) for run in details.runs],
        "artifacts": [
            {"taskId": each.task, "name": mask(each.name), "size": each.size, "sha256": each.sha256}
            for each in details.artifacts
        ],
        "sinceLastGoodRun": _since(details.good, details, mask),
        "flow": {"namespace": execution.namespace, "id": execution.flow_id, "revision": execution.flow_revision},
    }
    if details.source is not None:
        document["flow"]["source"] = mask(details.source)
    return document


def _trigger(details: RunDetails, mask: Mask) -> dict[str, Any] | None:
    trigger = details.execution.trigger
    if trigger is None:
        return None
    return {"id": trigger.id, "type": trigger.type, "variables": _small(masked(trigger.variables, mask))}


def _task_run(details: RunDetails, run: TaskRun, mask: Mask) -> dict[str, Any]:
    return {
        "id": run.id,
        "taskId": run.task_id,
        "parentTaskRunId": run.parent_id,
        "value": None if run.value is None else mask(run.value),
        "iteration": run.iteration,
        "state": {"current": run.state.value, "histories": _histories(run.histories)},
        "runner": run.runner,
        "error": None if run.error is None else mask(run.error)[:_MOST_TEXT],
        "attempts": [
            {
                "number": attempt.number,
                "state": attempt.state.value,
                "exitCode": attempt.exit_code,
                "failureReason": attempt.failure_reason,
            }
            for attempt in details.attempts_of(run)
        ],
        "outputs": _small(masked(details.outputs.get(run.id, {}), mask)),
        "log": [
            {"date": entry.timestamp.isoformat(), "level": entry.level, "message": mask(entry.message)[:_MOST_TEXT]}
            for entry in details.logs.get(run.id, ())
        ],
    }


def _since(good: RunRow | None, details: RunDetails, mask: Mask) -> dict[str, Any] | None:
    if good is None:
        return None
    return {
        "id": good.id,
        "flowRevision": good.revision,
        "commit": good.commit,
        "endDate": good.as_json()["end"],
        "changes": [mask(change) for change in details.changes],
    }


def _histories(histories: Histories) -> list[dict[str, str]]:
    return [{"state": state.value, "date": at.isoformat()} for state, at in histories]


def _small(values: Any) -> Any:
    """Return outputs that are short enough for a report, and in place of others how long they are."""
    if isinstance(values, dict):
        return {key: value if len(str(value)) <= _MOST_TEXT else _left_out(value) for key, value in values.items()}
    return values


def _left_out(value: Any) -> str:
    return f"(left out: {len(str(value)):,} characters)"
