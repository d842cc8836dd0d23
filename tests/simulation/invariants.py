"""What must hold in a world that has come to rest, whatever happened on the way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from runner.executions.models import Attempt, Execution, TaskRun
from runner.flows.catalogue import Catalogue
from runner.states import State
from runner.store import Session
from runner.tasks.flow import Subflow
from runner.tasks.kv import Set
from tests.simulation.world import NAMESPACE, World


def violations(world: World) -> list[str]:
    """Return one sentence for each thing that must not be."""
    executions = {each.id: each for each in world.executions()}
    catalogue = Catalogue(world.store)
    found = [*world.store.check(), *world.errors, *_leftovers(world), *_places(world, executions, catalogue)]
    for execution in executions.values():
        runs = world.runs(execution)
        found += _histories(execution, runs)
        found += _attempts(runs, world.attempts(execution))
        found += _bodies(world, execution, catalogue, world.attempts(execution))
        found += _after_kill(execution, runs)
        found += _subflows(execution, runs, executions, catalogue)
        found += _once(execution, runs)
    return found


def _leftovers(world: World) -> Iterator[str]:
    for kind, (count, _) in world.read(lambda db: db.outbox.counts()).items():
        if kind != "report":
            yield f"{count} rows of {kind} stand in the outbox"
    if (due := world.read(lambda db: db.executions.next_due())) is not None:
        yield f"a timer is open: {due}"
    reported = [row.key for row in world.read(lambda db: db.outbox.take(["report"], 100_000, world.clock()))]
    ended = [execution.id for execution in world.executions() if execution.state.is_terminal]
    if sorted(reported) != sorted(ended):
        yield f"reports {sorted(reported)} are not one for each end {sorted(ended)}"


def _histories(execution: Execution, runs: list[TaskRun]) -> Iterator[str]:
    rows: list[Execution | TaskRun] = [execution, *runs]
    for row in rows:
        if not row.state.is_terminal:
            yield f"{row.id} is {row.state}"
        if row.histories[-1][0] is not row.state:
            yield f"{row.id} is {row.state}, and its history ends with {row.histories[-1][0]}"
        for (before, earlier), (after, later) in pairwise(row.histories):
            if before.is_terminal or later < earlier:
                yield f"{row.id} went from {before} at {earlier} to {after} at {later}"


def _attempts(runs: list[TaskRun], attempts: list[Attempt]) -> Iterator[str]:
    by_run: defaultdict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        by_run[attempt.task_run_id].append(attempt)
    for run in runs:
        tried = by_run[run.id]
        claimed = [attempt for attempt in tried if attempt.worker_id is not None]
        if any(attempt.ended_at is None for attempt in tried):
            yield f"{run.id} has an attempt that did not end"
        epochs = [attempt.epoch for attempt in tried]
        if epochs != sorted(epochs):
            yield f"{run.id} has attempts of the epochs {epochs}"
        results = [attempt for attempt in claimed if attempt.state in {State.SUCCESS, State.WARNING}]
        if len(results) > 1:
            yield f"{run.id} succeeded {len(results)} times"
        ended = run.state in {State.SUCCESS, State.WARNING}
        if claimed and ended and claimed[-1].state is State.FAILED and not _may_fail(run):
            yield f"{run.id} is {run.state}, and its last attempt FAILED"


def _bodies(world: World, execution: Execution, catalogue: Catalogue, attempts: list[Attempt]) -> Iterator[str]:
    """What stands on an attempt is what the body of its own claim did."""
    index = catalogue.index(execution.namespace, execution.flow_id, execution.flow_revision)
    bodies = {run.id for run in world.runs(execution) if isinstance(index.tasks.get(run.task_id), Set) and run.epoch}
    for attempt in attempts:
        if attempt.task_run_id not in bodies or attempt.failure_reason not in {None, "body.failed"}:
            continue
        done = (attempt.task_run_id, attempt.epoch, attempt.state)
        if attempt.state in {State.SUCCESS, State.FAILED} and done not in world.ledger:
            yield f"{attempt.task_run_id} is {attempt.state} under epoch {attempt.epoch}, and its body did not say so"


def _may_fail(run: TaskRun) -> bool:
    return run.state is State.WARNING


def _after_kill(execution: Execution, runs: list[TaskRun]) -> Iterator[str]:
    killed = next((at for state, at in execution.histories if state is State.KILLING), None)
    for run in runs:
        if killed is not None and run.created_at > killed and run.branch != "afterExecution":
            yield f"{run.id} began at {run.created_at} in {execution.id}, which was killed at {killed}"


def _subflows(
    execution: Execution, runs: list[TaskRun], executions: dict[str, Execution], catalogue: Catalogue
) -> Iterator[str]:
    index = catalogue.index(execution.namespace, execution.flow_id, execution.flow_revision)
    for run in runs:
        task = index.tasks.get(run.task_id)
        if (
            not isinstance(task, Subflow)
            or not task.wait
            or run.state not in {State.SUCCESS, State.WARNING, State.FAILED}
        ):
            continue
        tried = [each for each in executions.values() if each.parent_task_run_id == run.id]
        last = max(tried, key=lambda each: each.created_at, default=None)
        if last is None:
            yield f"{run.id} ended {run.state} without a child"
        elif task.transmit_failed and last.state is State.SUCCESS and run.state is not State.SUCCESS:
            yield f"{run.id} is {run.state}, and its child {last.id} is {last.state}"


def _once(execution: Execution, runs: list[TaskRun]) -> Iterator[str]:
    places = [(run.parent_id, run.branch, run.task_id, run.value) for run in runs]
    if len(set(places)) != len(places):
        yield f"a task of {execution.id} has two runs at one place: {sorted(map(str, places))}"


def _places(world: World, executions: dict[str, Execution], catalogue: Catalogue) -> Iterator[str]:
    """A flow with a limit never has more executions that have begun and not ended, in the order of their commits."""
    running: defaultdict[str, set[str]] = defaultdict(set)
    limits = {
        flow_id: catalogue.get(NAMESPACE, flow_id).concurrency
        for flow_id in sorted({each.flow_id for each in executions.values()})
    }
    for execution_id, kind in world.read(_moves):
        execution, state = executions[execution_id], State(kind)
        limit, active = limits[execution.flow_id], running[execution.flow_id]
        if state.is_terminal:
            active.discard(execution_id)
        elif state is State.RUNNING:
            active.add(execution_id)
        if limit is not None and len(active) > limit.limit:
            yield f"{sorted(active)} of {execution.flow_id} ran at the same time, its limit is {limit.limit}"


def _moves(db: Session) -> list[tuple[str, str]]:
    """The states that executions entered, in the order in which they were committed."""
    statement = "SELECT execution_id, kind FROM history WHERE task_run_id IS NULL ORDER BY id"
    return list(db.connection.driver.execute(statement).fetchall())
