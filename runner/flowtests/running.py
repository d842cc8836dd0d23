"""Runs one case: an engine of its own, the execution, and what is asserted about it."""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from runner.errors import MainstemError
from runner.executions.creation import NewExecution, creation_variables
from runner.executions.flow_index import AFTER
from runner.executions.models import Execution, LogEntry, TaskRun, TriggerInfo
from runner.expressions import Scope, render_deep
from runner.flows.models import Flow
from runner.flowtests.clock import LeapingClock
from runner.flowtests.doubles import DoubledCatalogue
from runner.flowtests.given import GivenFiles, GivenSecrets, OtherSecrets
from runner.flowtests.judging import Judge, line
from runner.flowtests.models import Case, Fixtures, TaskFixture
from runner.flowtests.results import CaseResult, Finding, Touched
from runner.flowtests.suites import LocatedSuite
from runner.ids import new_id
from runner.key_values import MemoryKeyValues
from runner.local import LocalEngine
from runner.secrets.base import Secrets
from runner.services import Host
from runner.states import State
from runner.storage.uris import execution_uri
from runner.store import LogQuery, Store

log = logging.getLogger(__name__)

_MOST_LOGS = 10_000
_LOOK_S = 0.05
_AFTERWARDS_S = 10.0  # how long tasks that follow the end may take before the case is judged

OpenHost = Callable[[Path, Path, Store], Host]
"""Opens a host that keeps what it writes in the first folder and has the namespace files below the second one."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the cases of a flow have in common.

    `state` is a folder with a database that has the flow, and those beside it, deployed: each case begins with a copy.
    `root` is the folder of the namespaces on disk. Cases end early once `stop` is set.
    """

    flow: Flow
    root: Path
    state: Path
    open_host: OpenHost
    timeout_s: float
    stop: threading.Event


def run_case(located: LocatedSuite, case: Case, around: Surroundings) -> CaseResult:
    """Run a case to its end and judge it. Safe for any thread; nothing that it leaves is kept."""
    started = time.monotonic()
    blank = CaseResult(located, case)
    if blank.is_skipped or around.stop.is_set():
        return blank
    room = Path(tempfile.mkdtemp(prefix="mainstem-test-"))
    try:
        shutil.copytree(around.state, room, dirs_exist_ok=True)
        with closing(open_store(room)) as store:
            result = _Run(located, case, around, room, store).result()
    except MainstemError as error:
        result = replace(blank, findings=(_whole(located, case, error.message),), is_error=True)
    except Exception as error:  # one case must not end the others: it is told as an error
        log.exception("a case could not be run")
        result = replace(blank, findings=(_whole(located, case, f"{type(error).__name__}: {error}"),), is_error=True)
    finally:
        shutil.rmtree(room, ignore_errors=True)
    return replace(result, seconds=time.monotonic() - started)


def open_store(folder: Path) -> Store:
    """Return the database in a folder, a new one if there is none."""
    return Store.open(f"sqlite:///{folder / 'state.db'}", durability="off")


def _whole(located: LocatedSuite, case: Case, reason: str) -> Finding:
    mark = located.mark(case, "id")
    return Finding(mark.line, mark.column, reason=reason)


class _Run:
    def __init__(self, located: LocatedSuite, case: Case, around: Surroundings, room: Path, store: Store) -> None:
        self.located = located
        self.case = case
        self.around = around
        self.store = store
        self.fixtures: Fixtures = case.fixtures
        self.id = new_id()
        flow = around.flow
        self.uris = {
            name: f"{execution_uri(flow.namespace, flow.id, self.id)}/fixtures/{name}" for name in self.fixtures.files
        }
        self.clock = LeapingClock()
        self.host = self._host(around.open_host(room, around.root, store))

    def _host(self, host: Host) -> Host:
        fixtures, namespace = self.fixtures, self.around.flow.namespace
        secrets = Secrets([GivenSecrets(fixtures.secrets), OtherSecrets(host.secrets)], host.masker.add)
        return replace(
            host,
            files=GivenFiles(fixtures.files, namespace, host.files),
            kv=MemoryKeyValues({namespace: fixtures.kv}, self.clock),
            clock=self.clock,
            secrets=secrets,
        )

    def result(self) -> CaseResult:
        """Run and judge."""
        flow = self.around.flow
        results: dict[str, tuple[TaskFixture, ...]] = {}
        for fixture in self.fixtures.tasks:
            results[fixture.id] = (*results.get(fixture.id, ()), fixture)
        catalogue = DoubledCatalogue(self.store, (flow.namespace, flow.id), results, self.uris)
        with LocalEngine(self.store, self.host, catalogue=catalogue, hands_over=False) as local:
            try:
                execution = local.engine.create(self._request())
            except MainstemError as error:
                return self._ended(None, [_whole(self.located, self.case, f"no execution: {error.message}")])
            if not self._wait(local, lambda: local.engine.wait(self.id, _LOOK_S) is not None, self.around.timeout_s):
                findings = [_whole(self.located, self.case, self._unfinished(execution.id))]
                local.engine.kill(execution.id)
                local.engine.wait(execution.id, 10)
                return self._ended(local.engine.get(execution.id), findings)
            self._wait(local, self._have_followers_ended, _AFTERWARDS_S)
            ended = local.engine.get(execution.id)
            return self._ended(ended, [*self._state(ended), *self._assertions(local, ended)])

    def _wait(self, local: LocalEngine, is_over: Callable[[], bool], seconds: float) -> bool:
        """Wait until something is over; when nothing is left but to wait, put the clock forward."""
        deadline, idle = time.monotonic() + seconds, 0
        while not is_over():
            if time.monotonic() > deadline or self.around.stop.is_set():
                return False
            due = self.store.read(lambda db: None if db.outbox.counts() else db.executions.next_due())
            idle = idle + 1 if due is not None and not local.worker.busy else 0
            if due is not None and idle > 1:  # what a worker has just handed over is not in the outbox for a moment
                self.clock.leap(due)
                local.ring_timers()
                idle = 0
        return True

    def _request(self) -> NewExecution:
        flow, fixtures = self.around.flow, self.fixtures
        for name, text in fixtures.files.items():
            with tempfile.SpooledTemporaryFile() as file:
                file.write(text.encode())
                file.seek(0)
                self.host.storage.put(self.uris[name], file)
        given = fixtures.trigger
        trigger = TriggerInfo(given.id, given.type or self._trigger_type(given.id), given.variables) if given else None
        # By its revision, the first in a store of its own: drafts are tested too.
        new = NewExecution(flow.namespace, flow.id, 1, {}, fixtures.labels, trigger)
        new = replace(new, kind="TEST", id=self.id, typed_inputs=True)
        blank = Execution(self.id, flow.namespace, flow.id, 0, State.CREATED, self.host.clock(), trigger=trigger)
        scope = Scope(
            creation_variables(blank, flow, self.host).plus({"files": self.uris}),
            self.host.expression_services(flow, blank),
        )
        return replace(new, inputs=render_deep(dict(fixtures.inputs), scope))

    def _trigger_type(self, trigger_id: str) -> str:
        return next((trigger.type for trigger in self.around.flow.triggers if trigger.id == trigger_id), "")

    # ---------------------------------------------------------------- the end

    def _unfinished(self, execution_id: str) -> str:
        runs = self.store.read(lambda db: db.executions.runs(execution_id))
        waiting = ", ".join(f"{run.task_id} ({run.state.value})" for run in runs if not run.state.is_terminal)
        hint = "; give the task a fixture" if any(run.state is State.PAUSED for run in runs) else ""
        return f"it has not ended after {self.around.timeout_s:g} s, open are {waiting or 'no tasks'}{hint}"

    def _have_followers_ended(self) -> bool:
        """Return whether the tasks that run after the end are done; an assertion may be about them."""
        flow = self.around.flow
        follows = any(not task.disabled for task in flow.after_execution)
        if not follows and not flow.listeners:
            return True
        runs = self.store.read(lambda db: db.executions.runs(self.id))
        begun = not follows or any(run.branch == AFTER and run.parent_id is None for run in runs)
        if begun and all(run.state.is_terminal for run in runs):
            return True
        time.sleep(_LOOK_S)
        return False

    def _state(self, ended: Execution) -> Iterator[Finding]:
        expected, actual = self.case.expected_state, ended.state.value
        if expected is None and not ended.state.is_failed:
            return
        if expected != actual:
            mark = self.located.mark(self.case, "expectedState" if expected else "id")
            told = f" ({ended.error})" if ended.error else self._last_error(ended.id)
            yield Finding(
                mark.line,
                mark.column,
                reason=f"the execution should end {expected or 'SUCCESS or WARNING'}, but it is {actual}{told}",
            )

    def _last_error(self, execution_id: str) -> str:
        errors = [entry for entry in self._logs(execution_id) if entry.level == "ERROR"]
        return f" ({errors[-1].task_id}: {errors[-1].message})" if errors else ""

    def _logs(self, execution_id: str) -> list[LogEntry]:
        self.store.logs.flush()
        return self.store.logs.last(LogQuery(execution_id=execution_id), _MOST_LOGS)

    def _assertions(self, local: LocalEngine, ended: Execution) -> Iterator[Finding]:
        loaded = self.store.read(lambda db: db.executions.load(ended.id))
        assert loaded is not None, "it has just ended"
        judge = Judge(self.located, local, self.host, loaded, self._logs(ended.id))
        for assertion in self.case.assertions:
            yield from judge.findings(assertion)

    def _ended(self, ended: Execution | None, findings: Sequence[Finding]) -> CaseResult:
        runs = self.store.read(lambda db: db.executions.runs(ended.id)) if ended else []
        return CaseResult(
            self.located,
            self.case,
            state=ended.state.value if ended else None,
            execution_id=ended.id if ended else None,
            assertions=len(self.case.assertions),
            findings=tuple(findings),
            touched=_touched(runs, self.fixtures),
            logs=tuple(map(line, self._logs(ended.id))) if ended else (),
        )


def _touched(runs: Sequence[TaskRun], fixtures: Fixtures) -> Touched:
    begun = [run for run in runs if run.state is not State.SKIPPED]
    names = {run.id: run.task_id for run in runs}
    doubles = {fixture.id for fixture in fixtures.tasks}
    return Touched(
        frozenset(run.task_id for run in begun) - doubles,
        frozenset(run.task_id for run in begun) & doubles,
        frozenset((names.get(run.parent_id or ""), run.branch) for run in begun),
    )
