"""What a task run says: its lines in the log, and its metrics.

It holds names only, so that it may outlive the context of its attempt: the log of a job that runs elsewhere is told
long after the thread that started it has gone on to other work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from runner.executions.models import Execution, LogEntry, Metric, TaskRun
from runner.flows.models import Flow, Task
from runner.services import Host
from runner.store.records import Told
from task_runners.base import LogLine, Note, Progress, Stream
from task_runners.lines import MalformedMarker, Marker

LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR")


class TaskLog:
    """Writes for one attempt of one task run; safe to use from any thread."""

    def __init__(self, host: Host, flow: Flow, execution: Execution, run: TaskRun, task: Task | None) -> None:
        self._host = host
        self._least = LEVELS.index(_level(task.log_level)) if task is not None and task.log_level else 0
        self._entry = LogEntry(
            execution_id=execution.id,
            namespace=flow.namespace,
            flow_id=flow.id,
            timestamp=run.created_at,
            level="INFO",
            message="",
            task_id=run.task_id,
            task_run_id=run.id,
            attempt=run.attempts,
        )

    def write(self, level: str, message: str) -> None:
        """Write one line, masked, unless the task's `logLevel` leaves it out."""
        entry = self._line(level, message, self._host.clock())
        if entry is not None:
            self._host.log(entry)

    def moved(self, uri: str) -> None:
        """Say where the lines of the attempt have gone, whatever `logLevel` leaves out."""
        message = f"the log of this attempt is in the file {uri}"
        self._host.log(replace(self._entry, timestamp=self._host.clock(), message=message))

    def metric(self, kind: str, name: str, value: float, tags: Mapping[str, str] | None = None) -> None:
        """Emit a counter, timer (seconds) or gauge."""
        entry, mask = self._entry, self._host.masker.mask
        self._host.metric(
            Metric(
                execution_id=entry.execution_id,
                namespace=entry.namespace,
                flow_id=entry.flow_id,
                task_id=str(entry.task_id),
                task_run_id=str(entry.task_run_id),
                name=mask(name),
                kind=kind,
                value=value,
                timestamp=self._host.clock(),
                tags={key: mask(text) for key, text in (tags or {}).items()},
            )
        )

    def take(self, line: LogLine) -> None:
        """Write what a line of a body means."""
        self._take_metrics(line)
        for level, text in _told(line):
            self.write(level, text)

    def follow(self, items: Sequence[LogLine | Note], progress: Progress, epoch: int) -> None:
        """Write lines and notes of a job under the claim of `epoch`, together with the progress after them."""
        store = self._host.store
        if store is None:
            for item in items:
                self.write(item.level, item.text) if isinstance(item, Note) else self.take(item)
            return
        now = self._host.clock()
        lines = [self._line(level, text, _at(item, now)) for item in items for level, text in _told(item)]
        told = Told(str(self._entry.task_run_id), self._entry.execution_id, epoch, progress=progress.as_json)
        store.logs.tell(told, [line for line in lines if line is not None])
        for item in items:
            if isinstance(item, LogLine):
                self._take_metrics(item)

    def take_over(self, epoch: int) -> Progress:
        """Have the claim of `epoch` alone tell the log of the job from now on; return how far it was told."""
        store = self._host.store
        if store is None:
            return Progress()
        told = Told(str(self._entry.task_run_id), self._entry.execution_id, epoch)
        document = store.logs.take_over(told)
        return Progress.from_json(document) if document else Progress()

    def forget(self, epoch: int) -> None:
        """Forget how far the log of the job was told: it has ended."""
        if self._host.store is not None:
            self._host.store.logs.tell(Told(str(self._entry.task_run_id), self._entry.execution_id, epoch), [])

    def _line(self, level: str, message: str, at: datetime) -> LogEntry | None:
        name = _level(level)
        if LEVELS.index(name) < self._least:
            return None
        return replace(self._entry, timestamp=at, level=name, message=self._host.masker.mask(message))

    def _take_metrics(self, line: LogLine) -> None:
        if isinstance(line.marker, Marker):
            for metric in line.marker.metrics:
                self.metric(metric.type, metric.name, metric.value, metric.tags)


def _at(item: LogLine | Note, now: datetime) -> datetime:
    return item.timestamp if isinstance(item, LogLine) else now


def _told(item: LogLine | Note) -> list[tuple[str, str]]:
    if isinstance(item, Note):
        return [(item.level, item.text)]
    match item.marker:
        case Marker(logs=logs):
            return [(entry.level, entry.message) for entry in logs]
        case MalformedMarker(reason=reason):
            return [("WARN", f"Invalid outputs '{item.text}': {reason}")]
        case None:
            return [("WARN" if item.stream is Stream.STDERR else "INFO", item.text)]


def _level(level: str) -> str:
    name = level.strip().upper()
    name = "WARN" if name == "WARNING" else name
    return name if name in LEVELS else "INFO"
