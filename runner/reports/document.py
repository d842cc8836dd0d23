"""The JSON of one run: for programs, and for `mainstem run --from-execution REPORT.json`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from runner.executions.models import Histories, LogEntry, TaskRun
from runner.reports.details import RunDetails
from runner.reports.rows import RunRow, failed_leaves
from runner.reports.text import cut
from runner.reports.values import HIDDEN, Mask, masked, without_secrets
from runner.storage.uris import is_uri

SCHEMA: Final = "mainstem.run/1"
_MOST_TEXT: Final = 16_000
_MOST_INPUTS: Final = 500_000
_MOST_OUTPUTS: Final = 500_000
_MOST_LINE: Final = 2_000
_MOST_RUNS: Final = 1_000
_SECRET_NAME: Final = re.compile(r"""\bsecret\(\s*(?:key\s*=\s*)?\\?['"]([\w.\-]+)""")


class _Room:
    """How many more characters of values a document may hold."""

    def __init__(self, left: int) -> None:
        self._left = left

    def values(self, values: Mapping[str, Any], most_each: int = _MOST_TEXT) -> dict[str, Any]:
        """Return values, and in place of those that are too long how long they are."""
        return {name: self._value(value, most_each) for name, value in values.items()}

    def _value(self, value: Any, most: int) -> Any:
        length = len(str(value))
        if length > min(most, self._left):
            return f"(left out: {length:,} characters)"
        self._left -= length
        return value


def run_document(details: RunDetails, mask: Mask) -> dict[str, Any]:
    """Return a run as JSON values, masked. A change that old readers would misread raises the number of the schema.

    What repeating the run needs is there: the flow's source, where its commit and the files beside it are from, the
    names of its secrets, and its inputs, whole unlike on the page. `hiddenInputs` names those that must be given again
    since they are secret or too long, `fileInputs` those whose files lie in the server's storage. A few megabytes at
    most.
    """
    execution, row = details.execution, details.row
    inputs = _Room(_MOST_INPUTS).values(
        without_secrets(execution.inputs, details.secret_inputs, mask), most_each=_MOST_INPUTS
    )
    whole = masked(execution.inputs, mask)
    room = _Room(_MOST_OUTPUTS)
    return {
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
        "trigger": _trigger(details, mask, room),
        "labels": room.values(masked(execution.labels, mask)),
        "inputs": inputs,
        "hiddenInputs": sorted(
            name for name, value in inputs.items() if HIDDEN in str(value) or value != whole.get(name)
        ),
        "fileInputs": sorted(name for name, value in inputs.items() if isinstance(value, str) and is_uri(value)),
        "outputs": room.values(masked(execution.outputs, mask)),
        **_task_runs(details, mask, room),
        "artifacts": [
            {"taskId": each.task, "name": mask(each.name), "size": each.size, "sha256": each.sha256}
            for each in details.artifacts
        ],
        "sinceLastGoodRun": _since(details.good, details, mask),
        "flow": _flow(details, mask),
    }


def _flow(details: RunDetails, mask: Mask) -> dict[str, Any]:
    execution, origin = details.execution, details.origin
    flow: dict[str, Any] = {
        "namespace": execution.namespace,
        "id": execution.flow_id,
        "revision": execution.flow_revision,
    }
    if origin is not None:
        flow["repository"] = {
            "name": origin.repository,
            "url": origin.url,
            "ref": origin.ref,
            "path": origin.path,
            "commit": execution.commit,
        }
    if details.source is not None:
        flow["secrets"] = sorted(set(_SECRET_NAME.findall(details.source)))
        flow["source"] = mask(details.source)
    if details.defaults is not None:
        flow["defaults"] = mask(details.defaults)
    return flow


def _task_runs(details: RunDetails, mask: Mask, room: _Room) -> dict[str, Any]:
    """Return the task runs; of very many those that failed and the first ones, with how many are left out."""
    kept = {run.id for run in failed_leaves(details.runs)[:_MOST_RUNS]}
    for run in details.runs:
        if len(kept) < _MOST_RUNS:
            kept.add(run.id)
    found: dict[str, Any] = {
        "taskRunList": [_task_run(details, run, mask, room) for run in details.runs if run.id in kept]
    }
    if len(details.runs) > len(kept):
        found["taskRunsLeftOut"] = len(details.runs) - len(kept)
    return found


def _trigger(details: RunDetails, mask: Mask, room: _Room) -> dict[str, Any] | None:
    trigger = details.execution.trigger
    if trigger is None:
        return None
    return {"id": trigger.id, "type": trigger.type, "variables": room.values(masked(trigger.variables, mask))}


def _task_run(details: RunDetails, run: TaskRun, mask: Mask, room: _Room) -> dict[str, Any]:
    return {
        "id": run.id,
        "taskId": run.task_id,
        "parentTaskRunId": run.parent_id,
        "value": None if run.value is None else cut(mask(run.value), _MOST_LINE),
        "iteration": run.iteration,
        "state": {"current": run.state.value, "histories": _histories(run.histories)},
        "runner": details.runner_of(run),
        "error": None if run.error is None else cut(mask(run.error), _MOST_LINE),
        "attempts": [
            {
                "number": attempt.number,
                "state": attempt.state.value,
                "exitCode": attempt.exit_code,
                "failureReason": attempt.failure_reason,
            }
            for attempt in details.attempts_of(run)
        ],
        "outputs": room.values(masked(details.outputs.get(run.id, {}), mask)),
        "log": list(_log(details.logs.get(run.id, ()), mask)),
    }


def _log(entries: tuple[LogEntry, ...], mask: Mask) -> Iterator[dict[str, str]]:
    for entry in entries:
        message = cut(mask(entry.message), _MOST_LINE)
        yield {"date": entry.timestamp.isoformat(), "level": entry.level, "message": message}


def _since(good: RunRow | None, details: RunDetails, mask: Mask) -> dict[str, Any] | None:
    if good is None:
        return None
    return {
        "id": good.id,
        "flowRevision": good.revision,
        "commit": good.commit,
        "endDate": good.as_json()["end"],
        "changes": [cut(mask(change), _MOST_LINE) for change in details.changes],
    }


def _histories(histories: Histories) -> list[dict[str, str]]:
    return [{"state": state.value, "date": at.isoformat()} for state, at in histories]
