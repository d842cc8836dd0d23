"""What a store says happened, and what of it contradicts the promises."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from runner.executions.models import Execution, TaskRun
from runner.states import State
from runner.store import ExecutionQuery, Session, Store
from tests.servers.program import wait_until


@dataclass(frozen=True)
class Outcome:
    """All executions, their task runs, and a sentence for each promise that was broken."""

    executions: list[Execution]
    runs: dict[str, list[TaskRun]]
    faults: list[str]

    @property
    def ids(self) -> list[str]:
        return sorted(execution.id for execution in self.executions)

    @property
    def states(self) -> set[str]:
        return {execution.state.value for execution in self.executions}

    @property
    def bodies(self) -> list[int]:
        """How many runs of each execution had bodies."""
        return [sum(run.epoch > 0 for run in runs) for runs in self.runs.values()]


def outcome_of(store: Store) -> Outcome:
    """Return what became of everything; each body must have exactly one result, under its last epoch."""
    page = store.read(lambda db: db.executions.search(ExecutionQuery(size=10_000)))
    runs: dict[str, list[TaskRun]] = {}
    faults = store.check()
    for execution in page.items:
        runs[execution.id] = store.read(_runs(execution.id))
        faults += _faults(store, execution, runs[execution.id])
    return Outcome(page.items, runs, faults)


def assert_all_succeeded(store: Store, execution_ids: list[str]) -> None:
    """See that exactly these executions are there, each a SUCCESS, and no promise is broken; close `store`."""
    with closing(store):
        outcome = outcome_of(store)
    assert (outcome.ids, outcome.states, outcome.faults) == (sorted(execution_ids), {"SUCCESS"}, [])


def _runs(execution_id: str) -> Callable[[Session], list[TaskRun]]:
    return lambda db: db.executions.runs(execution_id)


def _faults(store: Store, execution: Execution, runs: list[TaskRun]) -> list[str]:
    attempts = store.read(lambda db: db.executions.attempts(execution.id))
    found = []
    places = [(run.parent_id, run.branch, run.task_id, run.iteration) for run in runs]
    if len(places) != len(set(places)):
        found.append(f"execution {execution.id} has two runs in one place")
    for run in runs:
        good = [each.epoch for each in attempts if each.task_run_id == run.id and each.state is State.SUCCESS]
        if run.epoch > 0 and good != [run.epoch]:
            found.append(f"task run {run.id} of epoch {run.epoch} has results of epochs {good}")
    return found


def wait_for_end(url: str, count: int, seconds: float, logs: Callable[[], str]) -> None:
    """Wait until `count` executions have ended and none is open."""
    with closing(Store.open(url, create=False)) as store:
        try:
            wait_until(lambda: not _open(store) and _ended(store) >= count, f"{count} ended executions", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{_describe_open(store)}\n{logs()[-4000:]}") from None


def _open(store: Store) -> list[str]:
    return store.read(lambda db: db.executions.open_ids())


def _ended(store: Store) -> int:
    counts = store.read(lambda db: db.executions.count_by_state())
    return sum(count for state, count in counts.items() if State(state).is_terminal)


def _describe_open(store: Store) -> str:
    """Return the open executions and their open runs, for the message of a failure."""
    ids = _open(store)
    lines = [
        f"{execution_id} {run.task_id} {run.state} epoch {run.epoch} result {run.result}"
        for execution_id in ids[:5]
        for run in store.read(_runs(execution_id))
    ]
    return "\n".join([f"{len(ids)} open", *lines, str(store.read(lambda db: db.outbox.counts()))])
