"""Tasks that write to the log and read it."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from runner.context import own_namespace, store_of, wide_namespace
from runner.errors import TaskError
from runner.ids import new_id
from runner.plugin import Context, InstantTask, Outputs, Task
from runner.tasks.moments import moment

if TYPE_CHECKING:
    from runner.executions.models import LogEntry

_PAGE = 1_000


class Log(InstantTask):
    """Write one log line for each message.

    `message` is a text or a list of texts; `level` is TRACE, DEBUG, INFO (the default), WARN or ERROR.
    """

    message: Any
    level: str = "INFO"

    def run(self, ctx: Context) -> Outputs:
        """Write the lines; there are no outputs."""
        level = ctx.render(self.level)
        for message in self._messages():
            ctx.log(level, ctx.render(message))
        return {}

    def _messages(self) -> list[str]:
        if isinstance(self.message, str):
            return [self.message]
        if isinstance(self.message, list | tuple):
            return list(self.message)
        raise TaskError("task.message.invalid", f"Invalid message type '{type(self.message).__name__}'")


class Fetch(Task):
    """Write log entries to a file, one JSON object on each line; outputs `uri` and `size` (how many).

    Those of this execution, or of `executionId`, which needs `namespace` and `flowId` unless it is one of this flow;
    of the tasks `tasksId` only, if given; of at least `level` (INFO).
    """

    execution_id: Any = None
    namespace: Any = None
    flow_id: Any = None
    tasks_id: Any = None
    level: str = "INFO"

    def run(self, ctx: Context) -> Outputs:
        """Return the file."""
        wanted = ctx.render_typed(self.tasks_id)
        tasks = {wanted} if isinstance(wanted, str) else set(wanted or ())
        rows = [_row(entry) for entry in self._entries(ctx) if not tasks or entry.task_id in tasks]
        uri = ctx.uri(f"{new_id()}.ion")
        ctx.storage.put(uri, io.BytesIO("".join(f"{json.dumps(row)}\n" for row in rows).encode()))
        return {"uri": uri, "size": len(rows)}

    def _entries(self, ctx: Context) -> list[LogEntry]:
        from runner.store import LogQuery

        store = store_of(ctx)
        store.logs.flush()
        namespace, flow_id, execution_id = self._place(ctx)
        found: list[LogEntry] = []
        while True:
            query = LogQuery(
                execution_id=execution_id,
                namespace=namespace,
                flow_id=flow_id,
                min_level=ctx.render(self.level).upper(),
                page=len(found) // _PAGE + 1,
                size=_PAGE,
            )
            page = store.logs.search(query).items
            found += page
            if len(page) < _PAGE:
                return found

    def _place(self, ctx: Context) -> tuple[str, str, str]:
        given = ctx.render(self.execution_id)
        namespace, flow_id = ctx.render(self.namespace), ctx.render(self.flow_id)
        if not given:
            return ctx.flow.namespace, ctx.flow.id, ctx.execution.id
        if bool(namespace) != bool(flow_id):
            message = "Both `namespace` and `flowId` must be set when `executionId` is set."
            raise TaskError("log.execution.unclear", message)
        return own_namespace(ctx, namespace), flow_id or ctx.flow.id, given


class PurgeLogs(Task):
    """Remove log entries up to `endDate`; output `count`.

    `namespace`, `flowId` and `startDate` narrow it down. The namespace is the flow's own with those below it, or all
    for a flow of `system`.
    """

    namespace: Any = None
    flow_id: Any = None
    start_date: Any = None
    end_date: Any

    def run(self, ctx: Context) -> Outputs:
        """Return `count`."""
        from runner.store import LogQuery

        query = LogQuery(
            namespace=wide_namespace(ctx, ctx.render(self.namespace)),
            flow_id=ctx.render(self.flow_id) or None,
            since=None if self.start_date is None else moment(ctx.render(self.start_date)),
            until=moment(ctx.render(self.end_date)),
        )
        return {"count": store_of(ctx).logs.delete_matching(query)}


def _row(entry: LogEntry) -> dict[str, Any]:
    return {
        "namespace": entry.namespace,
        "flowId": entry.flow_id,
        "taskId": entry.task_id,
        "executionId": entry.execution_id,
        "taskRunId": entry.task_run_id,
        "attemptNumber": entry.attempt,
        "triggerId": entry.trigger_id,
        "timestamp": entry.timestamp.isoformat(),
        "level": entry.level,
        "message": entry.message,
    }
