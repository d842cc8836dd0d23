"""Claims: a worker takes a task run, keeps it under an epoch, and records at most one result for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from runner.executions.models import OUTBOX_ADVANCE, OUTBOX_RUN, Attempt, OutboxRow, TaskRun
from runner.states import State
from runner.store import schema
from runner.store.columns import clean, dump, load, to_micros
from runner.store.connection import Connection
from runner.store.executions import ATTEMPTS, entered, entry
from runner.store.outbox import Outbox
from runner.store.part import RUNS
from runner.store.statements import Statement, listed, one_of

_r: Final = schema.task_runs.c
_a: Final = schema.attempts.c
_x: Final = schema.executions.c
_RUN: Final[Any] = sa.bindparam("run")
_EPOCH: Final = sa.bindparam("the_epoch", type_=sa.BigInteger())
_HELD: Final = (_r.id == _RUN, _r.epoch == _EPOCH, _r.state == State.RUNNING.value, _r.result.is_(None))
_ATTEMPT: Final = (_a.task_run_id == _RUN, _a.epoch == _EPOCH)


# The claim names the state it expects: a run may be rung twice, and the second worker has to find nothing to do.
_CLAIM: Final = Statement(
    sa.update(schema.task_runs)
    .where(_r.id == _RUN, _r.epoch == _EPOCH, _r.state == State.SUBMITTED.value)
    .values(
        state=State.RUNNING.value,
        epoch=_r.epoch + 1,
        attempts=_r.attempts + 1,
        stamp=_r.stamp + 1,
        started_at=sa.func.coalesce(_r.started_at, sa.bindparam("now")),
        histories=entered(_r.histories),
    )
    .returning(*RUNS.columns)
)
_FORGET: Final = Statement(
    sa.delete(schema.outbox).where(
        schema.outbox.c.key == _RUN,
        schema.outbox.c.kind == sa.literal_column(f"'{OUTBOX_RUN}'"),
        ~sa.exists().where(_r.id == _RUN, _r.state == State.SUBMITTED.value),
        ~sa.exists().where(_a.task_run_id == _RUN, _a.worker_id == sa.literal_column("''"), _a.ended_at.is_(None)),
    )
)
_RECORD: Final = Statement(
    sa.update(schema.task_runs)
    .where(*_HELD)
    .values(
        result=sa.bindparam("outcome"),
        outputs=sa.bindparam("new_outputs"),
        error=sa.bindparam("new_error"),
        runner=sa.func.coalesce(sa.bindparam("new_runner", type_=sa.Text()), _r.runner),
        stamp=_r.stamp + 1,
    )
    .returning(_r.execution_id)
)
_HELD_RUN: Final = Statement(RUNS.select(*_HELD).with_for_update())
_REMEMBER: Final = Statement(
    sa.update(schema.task_runs)
    .where(_r.id == _RUN)
    .values(
        memory=sa.bindparam("new_memory", type_=sa.Text()),
        outputs=sa.bindparam("new_outputs", type_=sa.Text()),
        stamp=_r.stamp + 1,
    )
)
_RELEASE: Final = Statement(
    sa.update(schema.task_runs)
    .where(*_HELD)
    .values(state=State.SUBMITTED.value, losses=_r.losses + 1, stamp=_r.stamp + 1, histories=entered(_r.histories))
    .returning(_r.execution_id, _r.queue)
)
# A run of an execution that is being killed ends at once when nobody holds it; a decision made before is refused.
_LOOK_AT_ALL: Final = Statement(
    sa.update(schema.executions)
    .where(_x.id == sa.bindparam("the_id"), _x.state == State.KILLING.value)
    .values(quiet=None, version=_x.version + 1)
)
_END_ATTEMPT: Final = Statement(
    sa.update(schema.attempts)
    .where(*_ATTEMPT)
    .values(
        state=sa.bindparam("outcome"),
        ended_at=sa.bindparam("now"),
        exit_code=sa.bindparam("code"),
        failure_reason=sa.bindparam("reason"),
        message=sa.bindparam("new_message"),
        histories=entered(_a.histories),
        log_file=sa.bindparam("new_log_file", type_=sa.Text()),
    )
)
_SAVE_HANDLE: Final = Statement(
    sa.update(schema.attempts)
    .where(
        *_ATTEMPT,
        _a.ended_at.is_(None),
        sa.exists().where(_r.id == _a.task_run_id, _r.epoch == _a.epoch, _r.state == State.RUNNING.value),
    )
    .values(handle=sa.bindparam("new_handle"))
)
_CURRENT: Final = Statement(sa.select(sa.literal_column("1")).select_from(schema.task_runs).where(*_HELD))
_OPEN: Final = Statement(
    sa.select(sa.literal_column("1"))
    .select_from(schema.attempts)
    .where(_a.task_run_id == _RUN, _a.number == sa.bindparam("the_number"), _a.ended_at.is_(None))
)
_ENDED: Final = Statement(
    sa.select(_a.task_run_id, _a.number).where(one_of(_a.task_run_id, "runs"), _a.ended_at.is_not(None))
)
_RECENT: Final = Statement(
    sa.select(_a.handle)
    .where(_a.handle.is_not(None))
    .order_by(_a.task_run_id.desc())
    .limit(sa.bindparam("count", type_=sa.Integer()))
)
_OWNED: Final = Statement(
    RUNS.select(_r.state == State.RUNNING.value, _r.result.is_(None))
    .join(schema.attempts, sa.and_(_a.task_run_id == _r.id, _a.epoch == _r.epoch))
    .where(_a.worker_id == sa.bindparam("worker"), _a.ended_at.is_(None))
    .order_by(_r.id)
)
# A handed-over run stays RUNNING: its job goes on. Nobody owns its attempt until the next claim, which continues it.
_ADOPT: Final = Statement(
    sa.update(schema.task_runs)
    .where(
        *_HELD,
        sa.exists().where(_a.task_run_id == _r.id, _a.epoch == _r.epoch, _a.worker_id == sa.literal_column("''")),
    )
    .values(epoch=_r.epoch + 1, stamp=_r.stamp + 1)
    .returning(*RUNS.columns)
)
_MOVE: Final = Statement(
    sa.update(schema.attempts).where(*_ATTEMPT).values(epoch=_a.epoch + 1, worker_id=sa.bindparam("worker"))
)
_HANDLE: Final = Statement(sa.select(_a.handle).where(*_ATTEMPT))
_HAND_OVER: Final = Statement(
    sa.update(schema.attempts)
    .where(*_ATTEMPT, _a.ended_at.is_(None), _a.handle.is_not(None), sa.exists().where(*_HELD))
    .values(worker_id=sa.literal_column("''"))
)
_HANDED_OVER: Final = Statement(
    RUNS.select(_r.state == State.RUNNING.value, _r.result.is_(None))
    .add_columns(_a.handle)
    .join(schema.attempts, sa.and_(_a.task_run_id == _r.id, _a.epoch == _r.epoch))
    .where(_a.worker_id == sa.literal_column("''"), _a.ended_at.is_(None))
    .order_by(_r.id)
    .limit(sa.bindparam("count", type_=sa.Integer()))
)
_KILLED: Final = Statement(
    sa.select(_r.id)
    .join(schema.attempts, sa.and_(_a.task_run_id == _r.id, _a.epoch == _r.epoch))
    .join(schema.executions, _x.id == _r.execution_id)
    .where(
        _a.worker_id == sa.bindparam("worker"),
        _a.ended_at.is_(None),
        _r.state == State.RUNNING.value,
        _r.result.is_(None),
        _x.state == State.KILLING.value,
    )
)
_HOLDERS: Final = Statement(
    sa.select(_a.worker_id)
    .distinct()
    .join(schema.task_runs, sa.and_(_a.task_run_id == _r.id, _a.epoch == _r.epoch))
    .where(
        _a.ended_at.is_(None),
        _a.worker_id > sa.literal_column("''"),
        _r.state == State.RUNNING.value,
        _r.result.is_(None),
    )
)
_HANDLES: Final = Statement(
    ATTEMPTS.select(_a.worker_id == sa.bindparam("worker"), _a.ended_at.is_(None)).order_by(_a.task_run_id)
)


class Claims:
    """The only writes of workers. Each names the epoch it was made under, and does nothing under an older one."""

    def __init__(self, connection: Connection) -> None:
        self._db = connection
        self._outbox = Outbox(connection)

    def claim(self, task_run_id: str, epoch: int, worker_id: str, now: datetime) -> TaskRun | None:
        """Take a submitted run: RUNNING under `epoch` + 1, with its attempt; None when it is not there to be taken.

        The `run` rows of the outbox that rang for it are answered.
        """
        line = entry(State.RUNNING, now)
        found = self._db.one(_CLAIM, run=task_run_id, the_epoch=epoch, now=to_micros(now), entry=line)
        if found is None:
            # Killed or ended before anybody came: nobody will claim it, so its rows must not ring for ever.
            self._db.run(_FORGET, run=task_run_id)
            return None
        run = RUNS.decode(found)
        attempt = Attempt(
            task_run_id=run.id,
            execution_id=run.execution_id,
            number=run.attempts,
            epoch=run.epoch,
            state=State.RUNNING,
            worker_id=worker_id,
            started_at=now,
            histories=((State.RUNNING, now),),
        )
        self._db.insert(ATTEMPTS.insert, ATTEMPTS.encode(attempt))
        self._outbox.delete_key(OUTBOX_RUN, run.id)
        return run

    def adopt(self, task_run_id: str, epoch: int, worker_id: str) -> TaskRun | None:
        """Take a run that another worker handed over: its attempt goes on under `epoch` + 1; None as for `claim`."""
        found = self._db.one(_ADOPT, run=task_run_id, the_epoch=epoch)
        if found is None:
            return None
        self._db.run(_MOVE, run=task_run_id, the_epoch=epoch, worker=worker_id)
        self._outbox.delete_key(OUTBOX_RUN, task_run_id)
        return RUNS.decode(found)

    def take(
        self, task_run_id: str, epoch: int, worker_id: str, now: datetime
    ) -> tuple[TaskRun, dict[str, Any] | None] | None:
        """Claim a submitted run, or one that was handed over, which comes with its handle; None as for `claim`."""
        run = self.claim(task_run_id, epoch, worker_id, now)
        if run is not None:
            return run, None
        run = self.adopt(task_run_id, epoch, worker_id)
        if run is None:
            return None
        return run, self.handle(run.id, run.epoch)

    def handle(self, task_run_id: str, epoch: int) -> dict[str, Any] | None:
        """Return what `save_handle` kept of a claim."""
        found = self._db.one(_HANDLE, run=task_run_id, the_epoch=epoch)
        return load(found[0]) if found else None

    def hand_over(self, task_run_id: str, epoch: int, at: datetime) -> bool:
        """Let go of a run whose job goes on without its worker, and ring for somebody who follows it further.

        The row says since when, as that of `release` does.
        """
        if self._db.run(_HAND_OVER, run=task_run_id, the_epoch=epoch) != 1:
            return False
        found = self.held(task_run_id, epoch)
        assert found is not None  # the statement above says so
        payload = {"epoch": epoch, "queue": found.queue, "since": at.timestamp(), "hasJob": True}
        self._outbox.add([OutboxRow(OUTBOX_RUN, task_run_id, payload)])
        return True

    def handed_over(self, count: int) -> list[tuple[TaskRun, dict[str, Any]]]:
        """Return at most `count` runs whose jobs nobody follows now, with the handles of these."""
        rows = self._db.all(_HANDED_OVER, count=count)
        return [(RUNS.decode(row[:-1]), load(row[-1])) for row in rows]

    def record(  # noqa: PLR0913 - one column each, named by the caller
        self,
        task_run_id: str,
        epoch: int,
        *,
        result: State,
        outputs: Mapping[str, Any] | None,
        error: str | None,
        exit_code: int | None,
        failure_reason: str | None,
        at: datetime,
        runner: str | None = None,
        log_file: str | None = None,
    ) -> int | None:
        """Write the one result of a run and ring for its execution; give the doorbell's id.

        `runner` is the type of the task runner that carried the body out, for tasks that have one, and `log_file` the
        address of the attempt's log where that was moved to a file.
        None when the claim of `epoch` is not the current one any more, or when a result is there already.
        """
        found = self._db.one(
            _RECORD,
            run=task_run_id,
            the_epoch=epoch,
            outcome=result.value,
            new_outputs=None if outputs is None else dump(outputs),
            new_error=None if error is None else clean(error),
            new_runner=runner,
        )
        if found is None:
            return None
        self._end_attempt(
            task_run_id, epoch, result, at, code=exit_code, reason=failure_reason, message=error, log_file=log_file
        )
        return self._outbox.add([OutboxRow(OUTBOX_ADVANCE, found[0])])[0]

    def release(self, task_run_id: str, epoch: int, at: datetime, reason: str) -> bool:
        """Give back a run whose worker is lost: SUBMITTED again under the same epoch, and rung for.

        The attempt ends KILLED with `reason`; the next claim raises the epoch, so the lost worker cannot write. The
        row says since when it waits, not what its task says about that: whoever finds nobody for it looks it up.
        """
        line = entry(State.SUBMITTED, at)
        found = self._db.one(_RELEASE, run=task_run_id, the_epoch=epoch, entry=line)
        if found is None:
            return False
        self._end_attempt(task_run_id, epoch, State.KILLED, at, reason=reason)
        self._db.run(_LOOK_AT_ALL, the_id=found[0])
        payload = {"epoch": epoch, "queue": found[1], "since": at.timestamp()}
        self._outbox.add([OutboxRow(OUTBOX_RUN, task_run_id, payload)])
        return True

    def held(self, task_run_id: str, epoch: int) -> TaskRun | None:
        """Return a run that waits for its result under `epoch`, locked until the end of the transaction; else None."""
        found = self._db.one(_HELD_RUN, run=task_run_id, the_epoch=epoch)
        return RUNS.decode(found) if found else None

    def remember(self, task_run_id: str, memory: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Replace what a run remembers, and its outputs so far; a decision on what it remembered before is refused."""
        self._db.run(_REMEMBER, run=task_run_id, new_memory=dump(memory), new_outputs=dump(outputs))

    def save_handle(self, task_run_id: str, epoch: int, handle: Mapping[str, Any]) -> bool:
        """Keep what is needed to find the attempt's body again; False when the claim is not current."""
        return self._db.run(_SAVE_HANDLE, run=task_run_id, the_epoch=epoch, new_handle=dump(handle)) == 1

    def owned_by(self, worker_id: str) -> list[TaskRun]:
        """Return the runs that a worker has claimed and not ended."""
        return [RUNS.decode(row) for row in self._db.all(_OWNED, worker=worker_id)]

    def killed(self, worker_id: str) -> set[str]:
        """Return the ids of the runs of a worker whose executions are being killed."""
        return {row[0] for row in self._db.all(_KILLED, worker=worker_id)}

    def holders(self) -> set[str]:
        """Return the ids of all workers that hold a run, those that are not known any more too."""
        return {row[0] for row in self._db.all(_HOLDERS)}

    def attempts_of(self, worker_id: str) -> list[Attempt]:
        """Return the attempts of a worker that have not ended, with their handles."""
        return [ATTEMPTS.decode(row) for row in self._db.all(_HANDLES, worker=worker_id)]

    def is_current(self, task_run_id: str, epoch: int) -> bool:
        """Return whether a claim still holds: its run is RUNNING under `epoch` and has no result."""
        return self._db.one(_CURRENT, run=task_run_id, the_epoch=epoch) is not None

    def ended_among(self, attempts: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
        """Return those of `attempts` (task run, number) that are known and have ended."""
        wanted = set(attempts)
        rows = self._db.all(_ENDED, runs=listed({run for run, _ in wanted}))
        return {(run, number) for run, number in rows} & wanted

    def recent_handles(self, count: int) -> list[dict[str, Any]]:
        """Return the handles of `count` late attempts that have one."""
        return [load(row[0]) for row in self._db.all(_RECENT, count=count)]

    def is_open(self, task_run_id: str, number: int) -> bool:
        """Return whether an attempt has not ended."""
        return self._db.one(_OPEN, run=task_run_id, the_number=number) is not None

    def _end_attempt(
        self,
        task_run_id: str,
        epoch: int,
        state: State,
        at: datetime,
        *,
        code: int | None = None,
        reason: str | None = None,
        message: str | None = None,
        log_file: str | None = None,
    ) -> None:
        self._db.run(
            _END_ATTEMPT,
            run=task_run_id,
            the_epoch=epoch,
            outcome=state.value,
            now=to_micros(at),
            code=code,
            reason=reason,
            new_message=None if message is None else clean(message),
            entry=entry(state, at),
            new_log_file=log_file,
        )
