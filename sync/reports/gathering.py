"""Reads what the page of a run needs: task runs, the last words of what failed, files, what changed before it."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from runner.errors import InvalidError, MainstemError, NotFoundError
from runner.executions.models import Execution, LogEntry, TaskRun
from runner.executions.outputs import restored
from runner.flows.catalogue import Catalogue
from runner.flows.diff import diff_flows
from runner.links import execution_page
from runner.plugin import Storage
from runner.reports.details import LAST_LINES, Artifact, RunDetails
from runner.reports.record import FlowRecord
from runner.reports.rows import RunRow, failed_leaves
from runner.storage.access import may_read
from runner.storage.uris import execution_uri, is_uri
from runner.store import LogQuery, Store
from runner.store.records import FlowVersion

log = logging.getLogger(__name__)

_MOST_FAILED: Final = 10
_MOST_ARTIFACTS: Final = 20
_MOST_READ: Final = 16 << 20  # of one run: reading competes with the engine for the processor
_PIECE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Gathering:
    """Gathers the details of runs from the store, the storage and a repository. Reads only."""

    store: Store
    catalogue: Catalogue
    storage: Storage
    public_url: str | None = None
    """What links to the server's own pages begin with; none are made without it."""

    def details(
        self,
        row: RunRow,
        record: FlowRecord | None,
        good: RunRow | None,
        *,
        is_first_of_revision: bool,
    ) -> RunDetails:
        """Return everything about a stored run. `record` is what was known of its flow, `good` its last good run."""
        loaded = self.store.read(
            lambda db: (
                tuple(db.executions.runs(row.id)),
                tuple(db.executions.attempts(row.id)),
                db.executions.outputs(row.id),
                db.executions.get(row.id),
            )
        )
        runs, attempts, rows, execution = loaded
        version = self._version(row)
        if execution is None:
            raise NotFoundError("execution.missing", f"there is no execution {row.id} any more")
        outputs = restored(self.storage, rows)
        return RunDetails(
            row=row,
            execution=execution,
            runs=runs,
            attempts=attempts,
            outputs=outputs,
            logs=self._logs(runs),
            artifacts=tuple(self._artifacts(execution, runs, outputs)),
            source=version.source if version else None,
            defaults=version.defaults if version else None,
            secret_inputs=self._secret_inputs(row),
            median_s=record.median_s if record else None,
            recent=record.recent if record else (),
            good=good,
            changes=self._changes(row, good),
            is_first_of_revision=is_first_of_revision,
            page_url=self.public_url and self.public_url + execution_page(row.namespace, row.flow, row.id),
        )

    def _logs(self, runs: tuple[TaskRun, ...]) -> dict[str, tuple[LogEntry, ...]]:
        found = {}
        for run in failed_leaves(runs)[:_MOST_FAILED]:
            # DEBUG tells how a task was run, not what went wrong.
            query = LogQuery(execution_id=run.execution_id, task_run_id=run.id, min_level="INFO")
            found[run.id] = tuple(self.store.logs.last(query, LAST_LINES))
        return found

    def _artifacts(
        self, execution: Execution, runs: tuple[TaskRun, ...], outputs: Mapping[str, Any]
    ) -> Iterator[Artifact]:
        own = f"{execution_uri(execution.namespace, execution.flow_id, execution.id)}tasks/"
        is_readable = self._right_to_read(execution)
        seen: set[str] = set()
        left = _MOST_READ
        for run in runs:
            for uri in _uris(outputs.get(run.id)):
                if uri in seen or len(seen) >= _MOST_ARTIFACTS:
                    continue
                seen.add(uri)
                # A body may print any address: what its task could not read, its report does not either.
                artifact = self._artifact(run.task_id, uri, left) if is_readable(uri) else None
                if artifact is not None:
                    left -= artifact.size if artifact.sha256 else 0
                    yield replace(artifact, is_own=uri.startswith(own))

    def _right_to_read(self, execution: Execution) -> Callable[[str], bool]:
        """Return what says whether an execution may read a stored file, as its expressions may."""
        try:
            flow = self.catalogue.get(execution.namespace, execution.flow_id, execution.flow_revision)
        except MainstemError:
            own = execution_uri(execution.namespace, execution.flow_id, execution.id)
            return lambda uri: uri.startswith(own) and "/.." not in uri

        def lookup(execution_id: str) -> Execution | None:
            return self.store.read(lambda db: db.executions.get(execution_id))

        def is_readable(uri: str) -> bool:
            try:
                return may_read(uri, execution, flow, lookup=lookup)
            except InvalidError:
                return False

        return is_readable

    def _artifact(self, task: str, uri: str, most: int) -> Artifact | None:
        name = uri.rpartition("/")[2]
        try:
            size = self.storage.size(uri)
            if size > most:
                return Artifact(task, name, size)
            digest = hashlib.sha256()
            with self.storage.open(uri) as file:
                while piece := file.read(_PIECE):
                    digest.update(piece)
        except (MainstemError, OSError) as error:
            # A file that was deleted since is no reason to be without a report.
            log.info("a file of a run cannot be read for its report", extra={"uri": uri, "reason": str(error)[:200]})
            return None
        return Artifact(task, name, size, digest.hexdigest())

    def _version(self, row: RunRow) -> FlowVersion | None:
        try:
            return self.catalogue.version(row.namespace, row.flow, row.revision)
        except MainstemError:
            return None

    def _secret_inputs(self, row: RunRow) -> frozenset[str]:
        try:
            flow = self.catalogue.get(row.namespace, row.flow, row.revision)
        except MainstemError:
            return frozenset()
        return frozenset(each.id for each in flow.inputs if each.type == "SECRET")

    def _changes(self, row: RunRow, good: RunRow | None) -> tuple[str, ...]:
        if good is None or good.revision == row.revision:
            return ()
        try:
            old = self.catalogue.get(row.namespace, row.flow, good.revision)
            new = self.catalogue.get(row.namespace, row.flow, row.revision)
        except MainstemError:
            return ()
        return tuple(str(change) for change in diff_flows(old, new))


def _uris(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if is_uri(value):
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _uris(item)
    elif isinstance(value, list):
        for item in value:
            yield from _uris(item)
