"""The part of a long execution that deciding needs: its open runs, what stands around them and directly inside them.

Left out are the values of loops and the tasks of a Parallel that are over, with all that ran for them, and what is
inside of ended containers. Of an execution that is quiet, open runs that nothing has happened to are left out too.
Every statement here finds its rows by an index, so that its cost does not grow with the number of runs left out.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import sqlalchemy as sa

from runner.executions.models import LEDGER, Execution, Loaded, Omitted, Quiet, TaskRun
from runner.store import schema
from runner.store.columns import to_micros
from runner.store.connection import Connection
from runner.store.rows import Rows
from runner.store.statements import Statement, listed, one_of

RUNS: Final = Rows(TaskRun, schema.task_runs)

_r: Final = schema.task_runs.c
_OF: Final = _r.execution_id == sa.bindparam("execution")
_PARENTS: Final = one_of(_r.parent_id, "parents")
_PARENT: Final = _r.parent_id == sa.bindparam("parent")

_ALL: Final = Statement(RUNS.select(_OF))
_OPEN: Final = Statement(RUNS.select(_OF, _r.ended_at.is_(None)))
_ROOTS: Final = Statement(RUNS.select(_OF, _r.parent_id.is_(None)))
_INSIDE: Final = Statement(RUNS.select(_OF, _PARENTS))
_BESIDE_VALUES: Final = Statement(RUNS.select(_OF, _PARENTS, _r.iteration.is_(None)))
_VALUES: Final = Statement(RUNS.select(_OF, _PARENT, one_of(_r.iteration, "iterations")))
_TOLD: Final = Statement(RUNS.select(_OF, _r.result > sa.literal_column("''"), _r.ended_at.is_(None)))
_DUE: Final = Statement(RUNS.select(_OF, _r.due_at <= sa.bindparam("now"), _r.ended_at.is_(None)))
_OPEN_INSIDE: Final = Statement(
    sa.select(_r.id).where(_OF, _PARENT, _r.ended_at.is_(None)).limit(sa.bindparam("count", type_=sa.Integer()))
)
_LAST_VALUE: Final = Statement(sa.select(sa.func.max(_r.iteration)).where(_OF, _PARENT))
_BY_ID: Final = Statement(RUNS.select(one_of(_r.id, "runs")))

LATER_AT_ONCE: Final = 500
"""How many of the containers that a burst had no time for are loaded together."""

# Runs that have ended hardly ever change, and each transition reads them again: what was decoded before is
# taken from here when the row is the same to the letter.
_MOST_ENDED: Final = 20_000
_ended: Final[dict[str, tuple[Any, TaskRun]]] = {}
_ENDED_AT: Final = RUNS.names.index("ended_at")


def decode_run(row: Any) -> TaskRun:
    """Return the run of a row."""
    if row[_ENDED_AT] is None:
        return RUNS.decode(row)
    known = _ended.get(row[0])
    if known is not None and known[0] == row:
        return known[1]
    run = RUNS.decode(row)
    _ended[row[0]] = (row, run)
    if len(_ended) > _MOST_ENDED:
        _ended.clear()
    return run


def part_of(
    db: Connection, execution: Execution, doorbells: tuple[int, ...], next_seq: int, quiet: Quiet | None = None
) -> Loaded:
    """Return an execution with those of its runs that deciding needs, and what is to be known of the others."""
    reader = _Reader(db, execution.id)
    omitted = reader.read_quiet(quiet, next_seq) if quiet is not None else None
    if omitted is not None:
        return Loaded(execution, reader.runs(), doorbells, omitted, quiet)
    cursors = reader.read()
    return Loaded(execution, reader.runs(), doorbells, None if cursors is None else Omitted(cursors, next_seq))


def open_runs(db: Connection, execution_id: str) -> list[TaskRun]:
    """Return all open runs of an execution with what stands around them, in the order of their creation."""
    reader = _Reader(db, execution_id)
    reader.read()
    return list(reader.runs())


def part_for(db: Connection, execution: Execution, run_id: str, next_seq: int, quiet: Quiet | None) -> Loaded:
    """Return an execution with one of its runs, the containers around it, and what stands in those without a ledger.

    That is what carrying the run out takes, however many others are open beside it.
    """
    reader = _Reader(db, execution.id)
    inside = reader.read_for(run_id)
    return Loaded(execution, reader.runs(), (), Omitted({}, next_seq, inside), quiet)


def runs_inside(db: Connection, execution_id: str, parent_id: str) -> list[TaskRun]:
    """Return the runs directly inside a container, in the order of their creation."""
    rows = db.all(_INSIDE, execution=execution_id, parents=listed([parent_id]))
    return sorted((decode_run(row) for row in rows), key=lambda run: run.seq)


def runs_of_values(db: Connection, execution_id: str, loop_id: str, iterations: Collection[int]) -> list[TaskRun]:
    """Return the runs directly inside a loop for some of its values, in the order of their creation."""
    rows = db.all(_VALUES, execution=execution_id, parent=loop_id, iterations=listed(iterations))
    return sorted((decode_run(row) for row in rows), key=lambda run: run.seq)


class _Reader:
    """Finds the runs of one execution."""

    def __init__(self, db: Connection, execution_id: str) -> None:
        self._db = db
        self._execution_id = execution_id
        self.found: dict[str, TaskRun] = {}

    def runs(self) -> tuple[TaskRun, ...]:
        """Return what was found in the order of creation."""
        return tuple(sorted(self.found.values(), key=lambda run: run.seq))

    def read(self) -> dict[str, int] | None:
        """Find the runs; return how many values have begun of each loop, None when nothing is left out."""
        self._add(_OPEN)
        is_open = list(self.found.values())
        if any("values" in run.memory and LEDGER not in run.memory for run in is_open):
            self._add(_ALL)  # a loop whose tasks ask for more than a ledger tells, or of an earlier program
            return None
        self._add(_ROOTS)
        loops = [run for run in is_open if LEDGER in run.memory]
        self._add_beside(loops)
        self._add(_INSIDE, parents=listed([run.id for run in is_open if LEDGER not in run.memory]))
        cursors = {loop.id: self._add_values(loop, is_open) for loop in loops}
        self._add_around()
        return cursors

    def read_quiet(self, quiet: Quiet, next_seq: int) -> Omitted | None:
        """Find the runs that something has happened to, and what stands around them; None when that is not enough."""
        self._add(_TOLD)
        self._add(_DUE, now=to_micros(self._db.clock()))
        self._add_by_id(quiet.later[:LATER_AT_ONCE])
        self._add_around()
        inside = frozenset(self.found)
        loops = [run for run in self.found.values() if run.memory.keys() & {"values", LEDGER} and run.ended_at is None]
        if any("limit" not in loop.memory.get(LEDGER, ()) for loop in loops):
            return None
        around = list(self.found.values())
        self._add(_ROOTS)
        self._add_beside(loops)
        self._add(_INSIDE, parents=listed(sorted(inside - {loop.id for loop in loops})))
        cursors = {loop.id: self._add_values(loop, around) for loop in loops}
        hidden = {loop.id: self._hidden_in(loop) for loop in loops}
        return Omitted(cursors, next_seq, inside, hidden, quiet.later[LATER_AT_ONCE:])

    def _hidden_in(self, loop: TaskRun) -> int:
        """Count the open runs of a loop that were not found, up to the number that makes a difference to it."""
        known = {run.id for run in self.found.values() if run.parent_id == loop.id and run.ended_at is None}
        most = len(known) + max(loop.memory[LEDGER]["limit"], 1)
        rows = self._db.all(_OPEN_INSIDE, execution=self._execution_id, parent=loop.id, count=most)
        return len({row[0] for row in rows} - known)

    def read_for(self, run_id: str) -> frozenset[str]:
        """Find what `part_for` returns; return the containers whose runs were looked for."""
        self._add(_ROOTS)
        self._add_by_id([run_id])
        self._add_around()
        chain, at = [run_id], self.found.get(run_id)
        while at is not None and at.parent_id is not None:
            at = self.found.get(at.parent_id)
            if at is not None and LEDGER not in at.memory:
                chain.append(at.id)
        self._add(_INSIDE, parents=listed(chain))
        return frozenset(chain)

    def _add_beside(self, loops: list[TaskRun]) -> None:
        """Find the runs of errors and finally: those of no value of a loop, and those that a ledger names."""
        self._add(_BESIDE_VALUES, parents=listed([each.id for each in loops if "beside" not in each.memory[LEDGER]]))
        self._add_by_id([run_id for each in loops for run_id in each.memory[LEDGER].get("beside", ())])

    def _add_values(self, loop: TaskRun, is_open: list[TaskRun]) -> int:
        """Find the runs of the values that are not over; return how many have begun."""
        iterations = {run.iteration for run in is_open if run.parent_id == loop.id and run.iteration is not None}
        iterations.update(loop.memory[LEDGER]["behind"])
        self._add(_VALUES, parent=loop.id, iterations=listed(sorted(iterations)))
        if "again" in loop.memory[LEDGER]:
            return int(loop.memory[LEDGER]["again"])
        last = self._db.one(_LAST_VALUE, execution=self._execution_id, parent=loop.id)
        return last[0] + 1 if last is not None and last[0] is not None else 0

    def _add_around(self) -> None:
        """Find the containers of runs that are still open though these have ended, like those of an ended Pause."""
        while missing := {run.parent_id for run in self.found.values() if run.parent_id} - self.found.keys():
            before = len(self.found)
            self._add_by_id(sorted(missing))
            if len(self.found) == before:
                return

    def _add_by_id(self, ids: Collection[str]) -> None:
        for row in self._db.all(_BY_ID, runs=listed(ids)) if ids else ():
            self.found[row[0]] = decode_run(row)

    def _add(self, statement: Statement, **values: Any) -> None:
        for row in self._db.all(statement, execution=self._execution_id, **values):
            if row[0] not in self.found:
                self.found[row[0]] = decode_run(row)
