"""Executions and their task runs: loading them, and committing what an advance decided."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, Final

import orjson
import sqlalchemy as sa

from runner.executions.models import (
    OUTBOX_ADVANCE,
    Attempt,
    Commit,
    Ending,
    Execution,
    HistoryRow,
    Loaded,
    Metric,
    OutboxRow,
    Quiet,
    TaskRun,
)
from runner.states import State
from runner.store import outbox as outboxes
from runner.store import schema
from runner.store.columns import dump, to_micros
from runner.store.connection import Connection
from runner.store.outbox import Outbox
from runner.store.part import RUNS, decode_run, open_runs, part_for, part_of, runs_inside, runs_of_values
from runner.store.rows import Part, Rows
from runner.store.statements import Statement, listed, one_of

EXECUTIONS: Final = Rows(Execution, schema.executions)
ENDINGS: Final = Part(Ending, schema.executions)
ATTEMPTS: Final = Rows(Attempt, schema.attempts)
HISTORY: Final = Rows(HistoryRow, schema.history, generated="id")
METRICS: Final = Rows(Metric, schema.metrics, generated="id")

_e: Final = schema.executions.c
_r: Final = schema.task_runs.c
_ID: Final[Any] = sa.bindparam("execution")
_IDS: Final = "executions"

_SELECT: Final = Statement(EXECUTIONS.select(_e.id == _ID).add_columns(_e.quiet))
_SELECT_MANY: Final = Statement(EXECUTIONS.select(one_of(_e.id, _IDS)).add_columns(_e.quiet))
_ENDINGS: Final = Statement(sa.select(*ENDINGS.columns).where(one_of(_e.id, _IDS)))
_RUNS: Final = Statement(RUNS.select(_r.execution_id == _ID).order_by(_r.seq))
_RUNS_MANY: Final = Statement(RUNS.select(one_of(_r.execution_id, _IDS)).order_by(_r.execution_id, _r.seq))
_LAST_SEQ: Final = Statement(
    sa.select(
        _e.id,
        sa.select(sa.func.max(_r.seq)).where(_r.execution_id == _e.id).correlate(schema.executions).scalar_subquery(),
    ).where(one_of(_e.id, _IDS))
)
_FAILED_MANY: Final = Statement(
    RUNS.select(
        one_of(_r.execution_id, _IDS), sa.or_(_r.state == State.FAILED.value, _r.state == State.KILLED.value)
    ).order_by(_r.execution_id, _r.seq)
)
_FAILURES: Final = Statement(
    RUNS.select(_r.execution_id == _ID, _r.state == State.FAILED.value, _r.error > sa.literal_column("''"))
    .order_by(_r.seq)
    .limit(sa.bindparam("count", type_=sa.Integer()))
)
_RUN: Final = Statement(RUNS.select(_r.id == sa.bindparam("run")))
_ATTEMPTS: Final = Statement(
    ATTEMPTS.select(schema.attempts.c.execution_id == _ID).order_by(
        schema.attempts.c.task_run_id, schema.attempts.c.number
    )
)
_HISTORY: Final = Statement(HISTORY.select(schema.history.c.execution_id == _ID).order_by(schema.history.c.id))
_OUTPUTS: Final = Statement(sa.select(_r.id, _r.outputs).where(_r.execution_id == _ID, _r.outputs.is_not(None)))
_OUTPUTS_OF: Final = Statement(
    sa.select(_r.id, _r.outputs).where(_r.execution_id == _ID, one_of(_r.id, "runs"), _r.outputs.is_not(None))
)

MOST_WHOLE: Final = 100
"""The number of runs up to which an execution is read as a whole, which costs less than looking for a part of it."""

# What an execution keeps from its creation on; everything else may change with a commit.
_FIXED: Final = {"id", "namespace", "flow_id", "created_at", "trigger", "trigger_execution_id", "original_id"}
_CHANGING: Final = [name for name in EXECUTIONS.names if name not in _FIXED]
_pick_execution: Final = itemgetter(*(EXECUTIONS.names.index(name) for name in _CHANGING))
_UPDATE: Final = Statement(
    sa.update(schema.executions)
    .where(_e.id == sa.bindparam("the_id"), _e.version == sa.bindparam("expected"))
    .values({name: sa.bindparam(name) for name in (*_CHANGING, "quiet")})
)
_LOOK_AT_ALL: Final = Statement(
    sa.update(schema.executions)
    .where(_e.ended_at.is_(None), _e.quiet.is_not(None))
    .values(quiet=None, version=_e.version + 1)  # a decision in flight would write what it knows of `quiet`
)
_VERSION: Final = EXECUTIONS.names.index("version")

_RUN_CHANGING: Final = [name for name in RUNS.names if name not in {"id", "execution_id", "stamp"}]
_pick_run: Final = itemgetter(*(RUNS.names.index(name) for name in _RUN_CHANGING))
_UPDATE_RUN: Final = Statement(
    sa.update(schema.task_runs)
    .where(_r.id == sa.bindparam("the_id"))
    .values(
        {name: sa.bindparam(name) for name in _RUN_CHANGING}
        | {"outputs": sa.func.coalesce(sa.bindparam("new_outputs", type_=sa.Text()), _r.outputs)}
    )
)
_STAMPS: Final = Statement(sa.select(_r.id, _r.stamp).where(one_of(_r.id, "runs")).order_by(_r.id).with_for_update())
_SET_OUTPUTS: Final = Statement(
    sa.update(schema.task_runs).where(_r.id == sa.bindparam("the_id")).values(outputs=sa.bindparam("outputs"))
)


def entered(histories: Any) -> Any:
    """Return the expression of a column of histories with the parameter `entry` added at its end."""
    # A JSON list is extended as text: its closing bracket is replaced by `, entry]`. The entry is a parameter made by
    # `entry`; a list that is empty takes no comma.
    comma = sa.case((histories == sa.literal_column("'[]'"), sa.literal_column("''")), else_=sa.literal_column("','"))
    opened = sa.func.substr(histories, 1, sa.func.length(histories) - 1)
    return opened.concat(comma).concat(sa.bindparam("entry", type_=sa.Text()))


def entry(state: State, at: datetime) -> str:
    """Return the value of the parameter of `entered`."""
    return f'["{state.value}",{to_micros(at)}]]'


_GIVE_UP: Final = Statement(
    sa.update(schema.attempts)
    .where(schema.attempts.c.task_run_id == sa.bindparam("run"), schema.attempts.c.ended_at.is_(None))
    .values(
        state=sa.bindparam("outcome"),
        ended_at=sa.bindparam("now"),
        failure_reason=sa.literal_column("'CANCELLED'"),
        histories=entered(schema.attempts.c.histories),
    )
)
_UPSERT_ATTEMPT: Final = ATTEMPTS.upsert("task_run_id", "number")
_SET_LABELS: Final = Statement(
    sa.update(schema.executions)
    .where(_e.id == sa.bindparam("the_id"))
    .values(labels=sa.bindparam("labels"), version=_e.version + 1)
)
_REMOVE_RUNS: Final = [
    Statement(sa.delete(table).where(one_of(table.c[column], "runs")))
    for table, column in ((schema.attempts, "task_run_id"), (schema.outbox, "key"), (schema.task_runs, "id"))
]
_DELETE: Final = [
    Statement(sa.delete(table).where(condition))
    for table, condition in (
        (schema.outbox, schema.outbox.c.key == _ID),
        (schema.outbox, schema.outbox.c.key.in_(sa.select(_r.id).where(_r.execution_id == _ID))),
        (schema.metrics, schema.metrics.c.execution_id == _ID),
        (schema.history, schema.history.c.execution_id == _ID),
        (schema.attempts, schema.attempts.c.execution_id == _ID),
        (schema.task_runs, _r.execution_id == _ID),
        (schema.executions, _e.id == _ID),
    )
]


def _encode_new(execution: Execution) -> tuple[Any, ...]:
    trigger = execution.trigger
    source = trigger.variables.get("executionId") if trigger else None
    return EXECUTIONS.encode(execution, source if isinstance(source, str) else None, None)


def _encode_quiet(quiet: Quiet | None) -> str | None:
    return None if quiet is None else dump({"later": quiet.later, "waiting": quiet.waiting})


def _quiet_of(row: Any) -> Quiet | None:
    """Return what stands in the last column of a row of `_SELECT`."""
    if row[-1] is None:
        return None
    values = orjson.loads(row[-1])
    return Quiet(tuple(values["later"]), values["waiting"])


def _dump_outputs(outputs: Mapping[str, Any] | None) -> str | None:
    return None if outputs is None else dump(outputs)


class ExecutionRows:
    """Reads and writes executions. A write happens only through `insert`, `commit`, `set_labels` and `delete`."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection
        self._outbox = Outbox(connection)

    def insert(
        self, execution: Execution, *, history: Sequence[HistoryRow] = (), outbox: Sequence[OutboxRow] = ()
    ) -> None:
        """Write a new execution with what must follow from it."""
        with self._db.together():
            self._db.insert(EXECUTIONS.insert, _encode_new(execution))
            self._add_history(history)
            self._add_outbox(outbox)

    def get(self, execution_id: str) -> Execution | None:
        """Return an execution without its runs."""
        found = self._db.one(_SELECT, execution=execution_id)
        return EXECUTIONS.decode(found) if found else None

    def load(self, execution_id: str) -> Loaded | None:
        """Return what deciding needs: the execution, its runs in creation order, the doorbells this load answers."""
        found = self._db.one(_SELECT, execution=execution_id)
        if found is None:
            return None
        runs = tuple(decode_run(row) for row in self._db.all(_RUNS, execution=execution_id))
        bells = tuple(self._outbox.of_key(OUTBOX_ADVANCE, execution_id))
        return Loaded(EXECUTIONS.decode(found), runs, bells, quiet=_quiet_of(found))

    def load_many(self, ids: Collection[str]) -> list[Loaded]:
        """Return many executions for deciding, in the order of `ids`; those that do not exist are left out.

        Of an execution with more than `MOST_WHOLE` runs some are omitted, those that can change nothing now.
        """
        wanted = listed(ids)
        rows = self._db.all(_SELECT_MANY, executions=wanted)
        found = {row[0]: EXECUTIONS.decode(row) for row in rows}
        quiet = {row[0]: _quiet_of(row) for row in rows}
        last = dict(self._db.all(_LAST_SEQ, executions=wanted))
        long = {key: seq for key, seq in last.items() if seq is not None and seq >= MOST_WHOLE}
        whole = [key for key, seq in last.items() if seq is not None and seq < MOST_WHOLE]
        runs: dict[str, list[TaskRun]] = {key: [] for key in found}
        for row in self._db.all(_RUNS_MANY, executions=listed(whole)) if whole else ():
            runs[row[1]].append(decode_run(row))
        bells = self._outbox.of_keys(OUTBOX_ADVANCE, ids)
        return [
            part_of(self._db, found[key], bells.get(key, ()), long[key] + 1, quiet[key])
            if key in long
            else Loaded(found[key], tuple(runs[key]), bells.get(key, ()))
            for key in dict.fromkeys(ids)
            if key in found
        ]

    def load_for(self, run: TaskRun) -> Loaded | None:
        """Return what carrying out one run takes of its execution; of a long one little more than the run."""
        found = self._db.one(_SELECT, execution=run.execution_id)
        if found is None:
            return None
        last = dict(self._db.all(_LAST_SEQ, executions=listed([run.execution_id])))[run.execution_id]
        if last is None or last < MOST_WHOLE:
            return self.load(run.execution_id)
        return part_for(self._db, EXECUTIONS.decode(found), run.id, last + 1, _quiet_of(found))

    def get_many(self, ids: Collection[str]) -> dict[str, Execution]:
        """Return many executions without their runs, by id; those that do not exist are left out."""
        return {row[0]: EXECUTIONS.decode(row) for row in self._db.all(_SELECT_MANY, executions=listed(ids))}

    def endings(self, ids: Collection[str]) -> list[Ending]:
        """Return what is told of many executions, those that have ended and still exist."""
        found = [ENDINGS.decode(row) for row in self._db.all(_ENDINGS, executions=listed(ids))]
        return [each for each in found if each.state.is_terminal]

    def failed_runs(self, ids: Collection[str]) -> dict[str, list[TaskRun]]:
        """Return the task runs of many executions that failed or were killed, by execution, in order of creation."""
        found: dict[str, list[TaskRun]] = {}
        for row in self._db.all(_FAILED_MANY, executions=listed(ids)):
            found.setdefault(row[1], []).append(RUNS.decode(row))
        return found

    def commit(self, commit: Commit) -> bool:
        """Write what one advance decided, as a whole; False, with nothing written, when it is out of date.

        It is out of date when the execution has another version than `expected_version`, or when a worker has written
        to one of `changed_runs` since it was loaded.
        """
        if not self._stamps_hold(commit.changed_runs):
            return False
        encoded = list(EXECUTIONS.encode(commit.execution))
        encoded[_VERSION] = commit.expected_version + 1
        changing = (
            *_pick_execution(encoded),
            _encode_quiet(commit.quiet),
            commit.execution.id,
            commit.expected_version,
        )
        if self._db.insert(_UPDATE, changing) != 1:
            return False
        with self._db.together():
            self._write_parts(commit)
        return True

    def runs(self, execution_id: str) -> list[TaskRun]:
        """Return the task runs in creation order."""
        return [RUNS.decode(row) for row in self._db.all(_RUNS, execution=execution_id)]

    def runs_inside(self, execution_id: str, parent_id: str) -> list[TaskRun]:
        """Return the runs directly inside a container, in creation order."""
        return runs_inside(self._db, execution_id, parent_id)

    def runs_of_values(self, execution_id: str, loop_id: str, iterations: Collection[int]) -> list[TaskRun]:
        """Return the runs directly inside a loop for some of its values, in creation order."""
        return runs_of_values(self._db, execution_id, loop_id, iterations)

    def open_runs(self, execution_id: str) -> list[TaskRun]:
        """Return all open runs with what stands around them, in creation order."""
        return open_runs(self._db, execution_id)

    def failures(self, execution_id: str, count: int) -> list[TaskRun]:
        """Return the first `count` runs that FAILED with an error, in creation order."""
        return [decode_run(row) for row in self._db.all(_FAILURES, execution=execution_id, count=count)]

    def look_at_all(self) -> int:
        """Have the next load of each open execution look at all its open runs; return how many there are."""
        return self._db.run(_LOOK_AT_ALL)

    def run(self, task_run_id: str) -> TaskRun | None:
        """Return one task run."""
        found = self._db.one(_RUN, run=task_run_id)
        return RUNS.decode(found) if found else None

    def attempts(self, execution_id: str) -> list[Attempt]:
        """Return the attempts of all runs, by run and number."""
        return [ATTEMPTS.decode(row) for row in self._db.all(_ATTEMPTS, execution=execution_id)]

    def outputs(self, execution_id: str, run_ids: Collection[str] | None = None) -> dict[str, dict[str, Any]]:
        """Return the outputs of the runs that have some, all of them or those in `run_ids`, by run id."""
        if run_ids is None:
            found = self._db.all(_OUTPUTS, execution=execution_id)
        else:
            found = self._db.all(_OUTPUTS_OF, execution=execution_id, runs=listed(run_ids)) if run_ids else []
        return {run_id: orjson.loads(outputs) for run_id, outputs in found}

    def history(self, execution_id: str) -> list[HistoryRow]:
        """Return what happened, in the order in which it was written."""
        return [HISTORY.decode(row) for row in self._db.all(_HISTORY, execution=execution_id)]

    def set_labels(self, execution_id: str, labels: Mapping[str, str]) -> bool:
        """Replace the labels; an advance that was decided before is refused by the version and decides again."""
        encoded = schema.executions.c.labels.info["codec"].encode(dict(labels))
        return self._db.run(_SET_LABELS, the_id=execution_id, labels=encoded) == 1

    def delete(self, execution_id: str) -> bool:
        """Remove an execution with all its rows; its logs lie elsewhere and are removed by the caller."""
        removed = 0
        for statement in _DELETE:
            removed = self._db.run(statement, execution=execution_id)
        return removed == 1

    def _stamps_hold(self, runs: tuple[TaskRun, ...]) -> bool:
        if not runs:
            return True
        stored = dict(self._db.all(_STAMPS, runs=listed([run.id for run in runs])))
        return all(stored.get(run.id) == run.stamp for run in runs)

    def _write_parts(self, commit: Commit) -> None:
        self._write_runs(commit)
        for run in commit.changed_runs if commit.given_up else ():
            if run.id in commit.given_up:
                state, at = run.histories[-1]
                line = entry(state, at)
                self._db.run(_GIVE_UP, run=run.id, outcome=state.value, now=to_micros(at), entry=line)
        self._db.many(_UPSERT_ATTEMPT, [ATTEMPTS.encode(attempt) for attempt in commit.attempts])
        if commit.metrics:
            self._db.many(METRICS.insert, [METRICS.encode(metric) for metric in commit.metrics])
        self._write_children(commit.children)
        self._add_history((*commit.history, *(_created(child) for child in commit.children)))
        self._add_outbox((*commit.outbox, *(OutboxRow(OUTBOX_ADVANCE, child.id) for child in commit.children)))
        self._outbox.delete(commit.answered)

    def _write_runs(self, commit: Commit) -> None:
        outputs = dict(commit.task_outputs)
        if commit.removed_runs:
            for statement in _REMOVE_RUNS:
                self._db.run(statement, runs=listed(commit.removed_runs))
        new = [RUNS.encode(run, _dump_outputs(outputs.pop(run.id, None))) for run in commit.new_runs]
        self._db.many(RUNS.insert, new)
        changed = [
            (*_pick_run(RUNS.encode(run)), _dump_outputs(outputs.pop(run.id, None)), run.id)
            for run in commit.changed_runs
        ]
        self._db.many(_UPDATE_RUN, changed)
        self._db.many(_SET_OUTPUTS, [(dump(value), run_id) for run_id, value in outputs.items()])

    def _write_children(self, children: Iterable[Execution]) -> None:
        self._db.many(EXECUTIONS.insert, [_encode_new(child) for child in children])

    def _add_history(self, rows: Iterable[HistoryRow]) -> None:
        self._db.many(HISTORY.insert, [HISTORY.encode(row) for row in rows])

    def _add_outbox(self, rows: Sequence[OutboxRow]) -> None:
        if rows:
            self._db.many(outboxes.INSERT, outboxes.encode(rows, self._db.clock()))


def _created(child: Execution) -> HistoryRow:
    at: datetime = child.created_at
    return HistoryRow(child.id, child.version, "CREATED", at)
