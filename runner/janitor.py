"""Removes jobs that nobody owns any more: what a crash between the end of an attempt and its cleanup left running.

It asks each engine which jobs of this product it has, and the store which of their attempts have ended. A job whose
attempt the store does not know belongs to another installation at the same engine and is left alone, and so does one
whose labels name another one: a copy of a database knows the attempts of its original. The engines are
those that jobs started at lately (`runner.engines`), and of the types that late attempts used, as they are by default.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from runner.engines import Engines
from runner.stage import stage_of
from runner.storage.uris import execution_uri
from task_runners.base import JobHandle, RunnerContext, TaskRunner, TaskRunnerError
from task_runners.registry import runner_class
from task_runners.staging.port import NoStage, Stage

if TYPE_CHECKING:
    from runner.services import Host

log = logging.getLogger(__name__)

EVERY_S = 300.0
FIRST_S = 20.0  # after the start: runs of workers that were lost have been taken back by then
_LATE_ATTEMPTS = 500


class Janitor:
    """Looks after engines from time to time. `run_once` belongs to one thread; `note` to any."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._engines = Engines(host)
        self.removed = 0
        """How many jobs were removed by this process."""

    def note(self, runner: TaskRunner) -> None:
        """Look after the engine of a task runner from now on."""
        if not runner.capabilities.reattach:
            return  # its jobs end with this process
        self._engines.note(runner)

    def run_once(self) -> int:
        """Remove what nobody owns; return how many jobs that were. Control groups of dead keepers are not counted."""
        self._host.control_groups.sweep()
        removed = sum(self._sweep(runner) for runner in self._runners())
        self.removed += removed
        return removed

    def _runners(self) -> list[TaskRunner]:
        used = self._engines.all()
        return [*used, *self._by_default({runner.type for runner in used})]

    def _by_default(self, known: set[str]) -> Iterator[TaskRunner]:
        store = self._host.store
        handles = store.read(lambda db: db.claims.recent_handles(_LATE_ATTEMPTS)) if store is not None else []
        for name in sorted({str(handle["runner"]) for handle in handles if "outlives" in handle} - known):
            try:
                yield runner_class(name).model_validate({"type": name})
            except (TaskRunnerError, ValidationError, ImportError):
                continue  # it is not installed any more, or needs properties that only a flow has

    def _sweep(self, runner: TaskRunner) -> int:
        ctx = self._context()
        try:
            return sum(self._remove(runner, handle) for handle in self._orphans(runner, ctx))
        except TaskRunnerError as error:
            log.info("an engine cannot be looked after now", extra={"runner": runner.type, "error": error.message})
            return 0
        except Exception:  # a task runner may raise anything; the other engines must be looked after
            log.exception("an engine cannot be looked after", extra={"runner": runner.type})
            return 0

    def _orphans(self, runner: TaskRunner, ctx: RunnerContext) -> list[JobHandle]:
        store = self._host.store
        owned = {handle.owner: handle for handle in runner.list_owned(ctx) if handle.owner is not None}
        if store is None or not owned:
            return []
        ended = store.read(lambda db: db.claims.ended_among(owned))
        return [owned[attempt] for attempt in ended]

    def _remove(self, runner: TaskRunner, handle: JobHandle) -> int:
        log.warning("a job that nobody owns is removed", extra={"runner": runner.type, "job": handle.id})
        try:
            runner.cleanup(handle, self._context(stage=self._stage(handle)))
        except TaskRunnerError as error:
            log.warning("it cannot be removed", extra={"job": handle.id, "error": error.message})
            return 0
        return 1

    def _context(self, **options: Any) -> RunnerContext:
        host = self._host
        name = host.settings.installation
        return RunnerContext(on_line=lambda _line: None, environment=host.environment, installation=name, **options)

    def _stage(self, handle: JobHandle) -> Stage:
        """Return the room in which the archives of the job lie, as far as its task run is known."""
        store, owner = self._host.store, handle.owner
        run = store.read(lambda db: db.executions.run(owner[0])) if store is not None and owner is not None else None
        execution = store.read(lambda db: db.executions.get(run.execution_id)) if store is not None and run else None
        if run is None or execution is None or owner is None:
            return NoStage()
        files = execution_uri(execution.namespace, execution.flow_id, execution.id)
        return stage_of(self._host, files, run, owner[1])
