"""What executions left behind as values: outputs and metrics."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from runner.access import Permission
from runner.errors import InvalidError, NotFoundError
from runner.executions.models import Metric, TaskRun
from runner.executions.outputs import restored
from runner.store import Session
from runner.store.metrics import Aggregation
from webhooks.answers.executions import AGGREGATES, METRIC, TASK_OUTPUTS
from webhooks.api.executions import visible_execution
from webhooks.call import Call, page_of
from webhooks.filters import instant as instant_in
from webhooks.parameters import paging, text
from webhooks.routes import TENANT, Endpoint
from webhooks.schemas import MAP, TEXT, listed, page
from webhooks.shapes import instant, masked

_OUTPUTS: Final = "/api/v1/{tenant}/outputs"
_METRICS: Final = "/api/v1/{tenant}/metrics"
_SHOWN: Final = timedelta(days=30)
_LONGEST_SHOWN: Final = timedelta(days=3653)
_MOST_BUCKETS: Final = 100
_BUCKETS: Final = (
    ("minute", timedelta(minutes=1)),
    ("hour", timedelta(hours=1)),
    ("day", timedelta(days=1)),
    ("week", timedelta(days=7)),
)


def of_execution(call: Call) -> dict[str, Any]:
    """Answer with the outputs of the flow; a map without any when there are none."""
    outputs: dict[str, Any] = masked(visible_execution(call, call.path("id")).outputs)
    return outputs


def of_tasks(call: Call) -> list[dict[str, Any]]:
    """Answer with the outputs of all task runs that have some."""
    return [
        {"taskId": run.task_id, "taskRunId": run.id, "value": run.value, "iteration": None, "inline": value}
        for run, value in _task_outputs(call)
    ]


def of_task(call: Call) -> dict[str, Any]:
    """Answer with the outputs of one task run."""
    wanted = call.path("taskRunId")
    for run, value in _task_outputs(call):
        if run.id == wanted:
            return value
    execution_id = call.path("id")
    runs = call.services.store.read(lambda db: db.executions.runs(execution_id))
    if not any(run.id == wanted for run in runs):
        raise NotFoundError("execution.run.missing", f"the execution {execution_id} has no task run {wanted!r}")
    return {}


def _task_outputs(call: Call) -> list[tuple[TaskRun, dict[str, Any]]]:
    execution = visible_execution(call, call.path("id"))

    def read(db: Session) -> tuple[list[TaskRun], dict[str, dict[str, Any]]]:
        return db.executions.runs(execution.id), db.executions.outputs(execution.id)

    runs, stored = call.services.store.read(read)
    outputs = restored(call.services.host.storage, stored)
    return [(run, masked(outputs[run.id])) for run in runs if run.id in outputs]


def metrics(call: Call) -> dict[str, Any]:
    """Answer with a page of the metrics that the tasks of an execution emitted."""
    execution, pages = visible_execution(call, call.path("id")), call.paging()
    task_run, task = call.query("taskRunId"), call.query("taskId")
    sort = tuple(f"{name}:{'asc' if ascending else 'desc'}" for name, ascending in pages.sort)

    def read(db: Session) -> Any:
        return db.metrics.of_execution(
            execution.id, task_run_id=task_run, task_id=task, page=pages.page, size=pages.size, sort=sort
        )

    found = call.services.store.read(read)
    return page_of((_metric_json(metric) for metric in found.items), found.total)


def metric_names(call: Call) -> list[str]:
    """Answer with the names of the metrics of a flow, or of one of its tasks."""
    namespace, flow_id, task = call.path("namespace"), call.path("flowId"), call.request.path_params.get("taskId")
    return call.services.store.read(lambda db: db.metrics.names(namespace, flow_id, task))


def metric_tasks(call: Call) -> list[str]:
    """Answer with the tasks of a flow that emitted metrics."""
    namespace, flow_id = call.path("namespace"), call.path("flowId")
    return call.services.store.read(lambda db: db.metrics.tasks(namespace, flow_id))


def aggregates(call: Call) -> dict[str, Any]:
    """Answer with what the values of a metric came to in each minute, hour, day or week, by the length of the time."""
    end, begin = call.query("endDate"), call.query("startDate")
    until = instant_in(end) if end else call.services.host.clock()
    since = instant_in(begin) if begin else until - _SHOWN
    if not timedelta(0) < until - since <= _LONGEST_SHOWN:
        raise InvalidError("request.period.invalid", "endDate must come after startDate, ten years at the most")
    name, how = call.path("metric"), cast("Aggregation", call.query("aggregation"))
    fitting = (each for each in _BUCKETS if until - since <= each[1] * _MOST_BUCKETS)
    word, bucket = next(fitting, _BUCKETS[-1])
    start = datetime.fromtimestamp(since.timestamp() // bucket.total_seconds() * bucket.total_seconds(), UTC)
    found = call.services.store.read(
        lambda db: db.metrics.aggregate(
            call.path("namespace"),
            call.path("flowId"),
            name,
            call.request.path_params.get("taskId"),
            start,
            until,
            bucket,
            how,
        )
    )
    count = -(-(until - start) // bucket)
    rows = [
        {"name": name, "value": found.get(number), "date": instant(start + number * bucket)} for number in range(count)
    ]
    return {"groupBy": word, "aggregations": rows}


def _metric_json(metric: Metric) -> dict[str, Any]:
    return {
        "tenantId": TENANT,
        "namespace": metric.namespace,
        "flowId": metric.flow_id,
        "executionId": metric.execution_id,
        "taskId": metric.task_id,
        "taskRunId": metric.task_run_id,
        "type": metric.kind,
        "name": metric.name,
        "value": metric.value,
        "timestamp": instant(metric.timestamp),
        "tags": metric.tags,
    }


def endpoints() -> list[Endpoint]:
    """Return the routes of this file."""
    read, names, texts = Permission.EXECUTION_READ, "Names of metrics", listed(TEXT)
    flow, of_runs = "/{namespace}/{flowId}", _OUTPUTS + "/tasks/{id}"
    over_time = (
        text("startDate", "From when on; thirty days before the end without it."),
        text("endDate", "Until when; now without it."),
        text("aggregation", "How values are put together.", default="sum", choices=("sum", "avg", "min", "max")),
    )
    one = (text("taskRunId", "Of this task run."), text("taskId", "Of this task."), *paging())
    return [
        Endpoint(
            "GET", _OUTPUTS + "/executions/{id}", read, of_execution, "The outputs of a flow", "outputs", answer=MAP
        ),
        Endpoint("GET", of_runs, read, of_tasks, "The outputs of all task runs", "outputs", answer=TASK_OUTPUTS),
        Endpoint("GET", of_runs + "/{taskRunId}", read, of_task, "The outputs of a task run", "outputs", answer=MAP),
        Endpoint(
            "GET",
            _METRICS + "/{id}",
            read,
            metrics,
            "The metrics of an execution",
            "metrics",
            query=one,
            answer=page(METRIC),
        ),
        Endpoint("GET", _METRICS + "/names" + flow, read, metric_names, names, "metrics", answer=texts),
        Endpoint("GET", _METRICS + "/names" + flow + "/{taskId}", read, metric_names, names, "metrics", answer=texts),
        *[
            Endpoint(
                "GET",
                f"{_METRICS}/aggregates{flow}{task}/{{metric}}",
                read,
                aggregates,
                "What a metric came to over time",
                "metrics",
                query=over_time,
                answer=AGGREGATES,
            )
            for task in ("", "/{taskId}")
        ],
        Endpoint(
            "GET", _METRICS + "/tasks" + flow, read, metric_tasks, "Tasks that emitted metrics", "metrics", answer=texts
        ),
    ]
