"""`logToFile`: when an attempt has ended its lines leave the log for a file of internal storage.

While it runs they stand in the log, where they are followed and survive the loss of a worker; whichever worker sees the
end of the attempt gathers them all. They leave the log once the result is stored that names the file: until then
another worker may have to gather them again. One line stays that says where they are.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from runner.claim import Claim
from runner.context import TaskContext
from runner.errors import MainstemError
from runner.executions.models import LogEntry
from runner.plugin import Outcome
from runner.store.logs import LogQuery, LogStore
from runner.task_log import TaskLog

log = logging.getLogger(__name__)

_LINES_AT_ONCE: Final = 10_000


def with_log_file(claim: Claim, context: TaskContext, outcome: Outcome) -> Outcome:
    """Return the outcome of an attempt with the address of its log where the task wants that in a file.

    The lines of the file leave the log when the result of `claim` is stored. A log that cannot be moved stays where it
    is; the outcome is that of the task in any case.
    """
    task, store = context.task, context.host.store
    if task is None or not task.log_to_file or store is None or not claim.is_current:
        return outcome
    run = context.task_run
    query = LogQuery(execution_id=run.execution_id, task_run_id=run.id, attempt=run.attempts, size=_LINES_AT_ONCE)
    try:
        # Another claim of the attempt, before or after this one, has a file of its own: neither overwrites the other.
        uri = context.uri(f".logs/{context.job.epoch}/attempt-{run.attempts}.log")
        query = replace(query, until_id=_written(store.logs, query))
        _write(context, store.logs, query, uri)
    except (MainstemError, OSError) as error:
        log.warning("a log could not be moved to a file", exc_info=error, extra={"task_run": run.id})
        context.log("WARN", f"the log of this attempt is not moved to a file: {error}")
        return outcome
    claim.moved.append(partial(_remove, context.lines, store.logs, query, uri))
    return replace(outcome, log_file=uri)


def _written(logs: LogStore, query: LogQuery) -> int:
    """Return the id of the newest line: what is written from now on is neither in the file nor removed."""
    logs.flush()
    return logs.last_id(query)


def _write(context: TaskContext, logs: LogStore, query: LogQuery, uri: str) -> None:
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


def _remove(lines: TaskLog, logs: LogStore, query: LogQuery, uri: str) -> None:
    try:
        logs.delete_matching(query)
        lines.moved(uri)
    except MainstemError as error:  # the result is stored and names the file: the log only has its lines as well
        log.warning("lines of a log file stay in the log", exc_info=error, extra={"task_run": query.task_run_id})
