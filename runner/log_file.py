"""`logToFile`: when an attempt has ended its lines leave the log for a file of internal storage.

While it runs they stand in the log, where they are followed and survive the loss of a worker; whichever worker sees the
end of the attempt gathers them all. One line stays that says where they are.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from runner.context import TaskContext
from runner.errors import MainstemError
from runner.executions.models import LogEntry
from runner.plugin import Outcome
from runner.store.logs import LogQuery, LogStore

log = logging.getLogger(__name__)

_LINES_AT_ONCE: Final = 10_000


def with_log_file(context: TaskContext, outcome: Outcome) -> Outcome:
    """Return the outcome of an attempt with the address of its log where the task wants that in a file.

    A log that cannot be moved stays where it is; the outcome is that of the task in any case.
    """
    task, store = context.task, context.host.store
    if task is None or not task.log_to_file or store is None:
        return outcome
    run = context.task_run
    query = LogQuery(execution_id=run.execution_id, task_run_id=run.id, attempt=run.attempts, size=_LINES_AT_ONCE)
    try:
        uri = context.uri(f".logs/attempt-{run.attempts}.log")
        _write(context, store.logs, query, uri)
    except (MainstemError, OSError) as error:
        log.warning("a log could not be moved to a file", exc_info=error, extra={"task_run": run.id})
        context.log("WARN", f"the log of this attempt is not moved to a file: {error}")
        return outcome
    store.logs.delete_matching(query)
    context.lines.moved(uri)
    return replace(outcome, log_file=uri)


def _write(context: TaskContext, logs: LogStore, query: LogQuery, uri: str) -> None:
    logs.flush()
    with tempfile.TemporaryFile() as file:
        for entry in _lines(logs, query):
            file.write(entry.as_text().encode("utf-8", "replace"))
        file.seek(0)
        context.storage.put(uri, file)


def _lines(logs: LogStore, query: LogQuery) -> Iterator[LogEntry]:
    page = 1
    while found := logs.search(replace(query, page=page)).items:
        yield from found
        page += 1
