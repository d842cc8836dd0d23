"""A run as OpenLineage events: it, and each task of it as a run of its own below it. Pure."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from runner import __version__
from runner.executions.models import TaskRun
from runner.reports.details import RunDetails
from runner.reports.text import cut
from runner.reports.values import Mask, clean
from runner.states import State

PRODUCER: Final = f"urn:mainstem:{__version__}"
_EVENT: Final = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
_FACETS: Final = "https://openlineage.io/spec/facets/"
_MOST_TASKS: Final = 200
_MOST_TEXT: Final = 2_000
_ENDS: Final = {
    State.SUCCESS: "COMPLETE",
    State.WARNING: "COMPLETE",
    State.FAILED: "FAIL",
}


def run_events(details: RunDetails, mask: Mask) -> Iterator[dict[str, Any]]:
    """Yield a START and a COMPLETE, FAIL or ABORT for the run and for each of its first 200 tasks, in JSON values.

    The ids of runs are UUIDs made of our own, so that whoever hears of a run twice knows it.
    """
    row = details.row
    job = _job(row.namespace, row.flow, "FLOW", details)
    facets: dict[str, Any] = {}
    parent = details.execution.parent_execution_id
    if parent is not None:
        facets["parent"] = _parent(parent, *_job_above(details, parent))
    if details.execution.schedule_date is not None:
        facets["nominalTime"] = _facet(
            "1-0-1/NominalTimeRunFacet", nominalStartTime=_time(details.execution.schedule_date)
        )
    error = _error(row.error, mask) if row.state is State.FAILED else {}
    began = row.start or details.execution.created_at
    yield from _pair(run_id(row.id), job, (began, row.end), row.state, facets, error)
    for run in details.runs[:_MOST_TASKS]:
        yield from _task_events(details, run, mask)


def run_id(execution: str) -> str:
    """Return the UUID of an execution or a task run."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"urn:mainstem:run:{execution}"))


def _task_events(details: RunDetails, run: TaskRun, mask: Mask) -> Iterator[dict[str, Any]]:
    row = details.row
    if run.started_at is None or run.ended_at is None:
        return
    name = clean(f"{row.flow}.{run.task_id}", mask)
    facets = {"parent": _parent(row.id, row.namespace, row.flow)}
    error = _error(run.error, mask) if run.state is State.FAILED else {}
    job = _job(row.namespace, name, "TASK", details)
    yield from _pair(run_id(run.id), job, (run.started_at, run.ended_at), run.state, facets, error)


def _pair(
    identity: str,
    job: dict[str, Any],
    times: tuple[datetime, datetime],
    state: State,
    facets: dict[str, Any],
    error: dict[str, Any],
) -> Iterator[dict[str, Any]]:
    kinds = (("START", times[0], facets), (_ENDS.get(state, "ABORT"), times[1], facets | error))
    for kind, at, about in kinds:
        yield {
            "eventType": kind,
            "eventTime": _time(at),
            "producer": PRODUCER,
            "schemaURL": _EVENT,
            "run": {"runId": identity, "facets": about},
            "job": job,
            "inputs": [],
            "outputs": [],
        }


def _job(namespace: str, name: str, kind: str, details: RunDetails) -> dict[str, Any]:
    facets = {
        "jobType": _facet("2-0-3/JobTypeJobFacet", processingType="BATCH", integration="MAINSTEM", jobType=kind),
        **_source(details),
    }
    return {"namespace": namespace, "name": name, "facets": facets}


def _source(details: RunDetails) -> dict[str, Any]:
    origin, commit = details.origin, details.row.commit
    if origin is None or commit is None:
        return {}
    known = {
        "url": (details.commit.url if details.commit else None) or origin.url,
        "repoUrl": origin.url,
        "path": origin.path,
        "version": commit,
        "branch": origin.ref.removeprefix("refs/heads/"),
    }
    return {"sourceCodeLocation": _facet("1-0-1/SourceCodeLocationJobFacet", type="git", **known)}


def _parent(execution: str, namespace: str, name: str) -> dict[str, Any]:
    return _facet("1-0-1/ParentRunFacet", run={"runId": run_id(execution)}, job={"namespace": namespace, "name": name})


def _job_above(details: RunDetails, parent: str) -> tuple[str, str]:
    """Return the namespace and the name of the flow that the run is a subflow of."""
    trigger = details.execution.trigger
    cause = trigger.variables if trigger is not None and trigger.variables.get("executionId") == parent else {}
    return str(cause.get("namespace") or details.row.namespace), str(cause.get("flowId") or parent)


def _error(message: str | None, mask: Mask) -> dict[str, Any]:
    text = cut(clean(message or "failed", mask), _MOST_TEXT)
    return {"errorMessage": _facet("1-0-1/ErrorMessageRunFacet", message=text, programmingLanguage="YAML")}


def _facet(schema: str, **values: Any) -> dict[str, Any]:
    name = schema.rpartition("/")[2]
    return {"_producer": PRODUCER, "_schemaURL": f"{_FACETS}{schema}.json#/$defs/{name}", **values}


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
