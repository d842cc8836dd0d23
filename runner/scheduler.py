"""The scheduler: fires schedules at their dates, wakes executions whose time has come, runs periodic jobs.

Any number of schedulers may work on one store without a leader. A date of a schedule is taken by a unique row, in the
transaction that also creates the execution and writes the schedule's next date; whoever comes second finds the next
date changed and does nothing. Nothing is decided by the order of threads, and everything takes the time as argument.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, ParamSpec, TypeVar

from runner.errors import FlowError, MainstemError, NotFoundError, StoreError
from runner.executions.creation import NewExecution
from runner.executions.engine import Engine
from runner.executions.models import Execution
from runner.expressions import is_truthy
from runner.flows.catalogue import Catalogue
from runner.flows.models import Flow
from runner.periodic import Periodic
from runner.poller import POLLING, Poller
from runner.settings import Settings
from runner.store import Session, Store
from runner.store.records import TriggerState
from runner.triggers.activation import SCHEDULE
from runner.triggers.backfill import onward, running
from runner.triggers.conditions import RenderText
from runner.triggers.control import stops, switched, switched_on
from runner.triggers.dates import iso
from runner.triggers.models import Schedule, ScheduleOnDates
from runner.triggers.schedule import Tick, latest, plan, tick_at
from runner.triggers.starting import renderer, request, trigger_key
from runner.triggers.stillborn import insert, line_of, stillborn

T = TypeVar("T")
P = ParamSpec("P")
log = logging.getLogger(__name__)

_LOOK_S: Final = 1.0  # the longest sleep: a wall clock that jumps is noticed after this
_WAIT_S: Final = 0.5  # the sleep while a schedule waits for its last execution
_RUNG_S: Final = 0.1  # the sleep while an execution that was rung has not moved yet
_RING_AGAIN_S: Final = 5.0  # a timer that was rung for and is still there is rung for again after this
_MISSED_AFTER: Final = timedelta(seconds=5)  # a date older than this when a scheduler starts was missed
_KEPT_TICKS: Final = timedelta(days=30)  # no scheduler looks back further: the next date is stored before


@dataclass(frozen=True, slots=True)
class _Due:
    """A schedule whose date has come."""

    row: TriggerState
    flow: Flow
    trigger: Schedule | ScheduleOnDates
    at: datetime
    render: RenderText


_Begun = tuple[_Due, "Future[Execution | None]"]


class Scheduler:
    """Does at the right time what nobody asks for. `start` and `stop` it; `wake` it when something new is due."""

    def __init__(
        self, engine: Engine, store: Store, catalogue: Catalogue, settings: Settings, clock: Callable[[], datetime]
    ) -> None:
        self._engine = engine
        self._store = store
        self._catalogue = catalogue
        self._settings = settings
        self._clock = clock
        self._zone = engine.host.zone
        self._poller = Poller(engine, clock)
        self._rung: dict[tuple[str, datetime], float] = {}
        self._looked_at: set[tuple[str, datetime | None]] = set()
        self._wake = threading.Condition()
        self._is_woken = False
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="scheduler", daemon=True)
        self._jobs = Periodic("scheduler-jobs")
        self._jobs.every(3600, lambda: self.prune(clock()), name="prune ticks")

    # ---------------------------------------------------------------- life

    def every(self, seconds: float, run: Callable[[], object], *, name: str | None = None) -> None:
        """Run a job every `seconds` on a thread beside the schedules; an error it raises is logged."""
        self._jobs.every(seconds, run, name=name)

    def start(self) -> None:
        """Deal with the dates that were missed, and begin."""
        self._thread.start()
        self._jobs.start()

    def stop(self) -> None:
        """End within a second; what is being fired is finished first."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        self._jobs.stop()
        self._poller.stop()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(1.0)

    def wake(self) -> None:
        """Look again now: a due time was added or came nearer. Safe for any thread."""
        with self._wake:
            self._is_woken = True
            self._wake.notify_all()

    def _loop(self) -> None:
        self._safely(lambda: self.recover(self._clock()))
        while not self._stopping:
            self._safely(lambda: self.run_due(self._clock()))
            pause = self._safely(lambda: self.seconds_to_next(self._clock()))
            with self._wake:
                if not self._is_woken and not self._stopping:
                    self._wake.wait(_LOOK_S if pause is None else pause)
                self._is_woken = False

    @staticmethod
    def _safely(work: Callable[[], float | object]) -> float | None:
        try:
            found = work()
        except Exception:  # see below
            # The scheduler must outlive every fault of the store and of single schedules.
            log.exception("the scheduler could not look at what is due")
            return None
        return found if isinstance(found, float) else None

    # ---------------------------------------------------------------- what is due

    def run_due(self, now: datetime) -> list[str]:
        """Fire the schedules and ring the executions that are due at `now`; return the executions created."""
        self.ring_due(now)
        rows = self._store.read(lambda db: db.triggers.due(now))
        self._looked_at = {(_name(row), row.next_at) for row in rows}
        for row in rows:
            if row.kind == POLLING:
                self._guarded(row, self._poller.begin, row, now)
        begun = [
            each
            for row in rows
            if row.kind != POLLING and (each := self._guarded(row, self._begin, row, now)) is not None
        ]
        created = []
        for due, taken in begun:
            execution = self._guarded(due.row, self._finish, due, taken, now)
            if execution is not None:
                created.append(execution.id)
        self._engine.ring(created)
        return created

    def _guarded(self, row: TriggerState, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Return what the work for one schedule gives; a fault of one must not keep the others waiting."""
        try:
            return work(*args, **kwargs)
        except MainstemError as error:
            log.warning(
                "a schedule could not be fired",
                extra={"trigger": _name(row), "error": self._engine.host.masker.mask(error.message)},
            )
        except Exception:  # a place of secrets is a plugin, which may raise anything
            log.exception("a schedule could not be fired", extra={"trigger": _name(row)})
        return None

    def ring_due(self, now: datetime) -> list[str]:
        """Ring the executions that have a timer at or before `now`, for each timer at most every few seconds."""
        due = self._store.read(lambda db: db.executions.due(now))
        moment = self._engine.host.monotonic()
        self._rung = {timer: at for timer, at in self._rung.items() if moment - at < _RING_AGAIN_S}
        fresh = [timer for timer in due if timer not in self._rung]
        self._rung.update(dict.fromkeys(fresh, moment))
        executions = list(dict.fromkeys(execution_id for execution_id, _ in fresh))
        if executions:
            self._engine.ring(executions)
        return executions

    def seconds_to_next(self, now: datetime) -> float:
        """Return how long nothing is due, at most a second, so that a change of the wall clock is noticed."""
        soon = now + timedelta(seconds=_LOOK_S)
        pauses = [_LOOK_S]
        for row in self._store.read(lambda db: db.triggers.due(soon)):
            assert row.next_at is not None
            ahead = (row.next_at - now).total_seconds()
            is_new = (_name(row), row.next_at) not in self._looked_at
            pauses.append(ahead if ahead > 0 else 0.0 if is_new else _WAIT_S)
        timer = self._store.read(lambda db: db.executions.next_due())
        if timer is not None:
            ahead = (timer - now).total_seconds()
            pauses.append(ahead if ahead > 0 else _RUNG_S)
        return min(pauses)

    def prune(self, now: datetime) -> int:
        """Forget the dates that were taken long ago; return how many."""
        return self._store.write(lambda db: db.triggers.prune(now - _KEPT_TICKS))

    # ---------------------------------------------------------------- one schedule

    def _begin(self, row: TriggerState, now: datetime) -> _Begun | None:
        """Begin to start the execution for a schedule's date; None when there is none to start.

        Nothing is waited for, so that all that is due at one moment shares a commit. Nothing happens while the
        execution that the schedule started last is still going on, unless it allows that. A schedule whose last
        execution ended in one of the states of `stopAfter` is switched off.
        """
        due = self._due(row, now)
        if due is None or not self._may_start(due, now):
            return None
        taken: Future[Execution | None] = Future()
        try:
            tick = tick_at(due.trigger, due.at, now, self._zone, due.render, is_truthy)
            if tick is None:
                self._advance(row, self._after(due, due.at), now)
                return None
            new = self._request(due, tick)
            taken = self._store.submit(lambda db: self._take(db, due, tick.date, now, new))
        except MainstemError as error:
            taken.set_exception(error)
        return due, taken

    def _finish(self, due: _Due, taken: Future[Execution | None], now: datetime) -> Execution | None:
        """Wait for the commit and return the execution; what could not start leaves one that says why."""
        try:
            return taken.result()
        except StoreError:
            raise  # it says nothing about the date, which is still due
        except MainstemError as error:
            return self._fail(due, now, error)

    def _may_start(self, due: _Due, now: datetime) -> bool:
        """Return whether the date can be tried now; a date that cannot be tried any more is moved on."""
        row = due.row
        last = self._last(row)
        if last is not None and stops(row, due.trigger, last):
            self._move(row, lambda current: switched(current, now, disabled=True))
            return False
        if last is not None and not last.state.is_terminal and not due.trigger.allow_concurrent:
            return False
        moved = due.at if running(row) else self._not_passed(due, now)
        if moved != due.at:
            self._advance(row, moved, now)
        return moved == due.at

    def _due(self, row: TriggerState, now: datetime) -> _Due | None:
        """Return the schedule behind a row; rows whose schedule cannot fire any more are put to rest."""
        assert row.next_at is not None
        try:
            version = self._catalogue.version(row.namespace, row.flow_id)
            flow = self._catalogue.get(row.namespace, row.flow_id)
        except (NotFoundError, FlowError) as error:
            log.warning(
                "the flow of a schedule cannot be used",
                extra={"trigger": _name(row), "error": self._engine.host.masker.mask(error.message)},
            )
            self._advance(row, None, now)
            return None
        trigger = next((one for one in flow.triggers if one.id == row.trigger_id), None)
        if not isinstance(trigger, Schedule | ScheduleOnDates) or trigger.disabled or flow.disabled or flow.draft:
            self._advance(row, None, now)
            return None
        return _Due(row, flow, trigger, row.next_at, renderer(self._engine.host, flow, version, now))

    def _last(self, row: TriggerState) -> Execution | None:
        """Return the execution that the schedule started last; None when there is none any more."""
        last_id = row.execution_id
        return self._store.read(lambda db: db.executions.get(last_id)) if last_id is not None else None

    def _not_passed(self, due: _Due, now: datetime) -> datetime | None:
        """Return the date itself, or the one to go on from: it passed while the schedule was off, or is too late."""
        switch = switched_on(due.row)
        if switch is not None and due.at < switch.at and switch.recover != "ALL":
            return self._caught_up(due, switch.at, switch.recover)
        longest = getattr(due.trigger, "late_maximum_delay", None)
        if longest is None or now - due.at <= longest:
            return due.at
        return self._after(due, now - longest - timedelta(microseconds=1))

    def _caught_up(self, due: _Due, moment: datetime, rule: str) -> datetime | None:
        """Return the date to go on from when all before `moment` were missed: the last of them, or the next one."""
        if rule != "LAST":
            return self._after(due, moment)
        return latest(due.trigger, due.at, moment, self._zone, due.render) or due.at

    def _after(self, due: _Due, moment: datetime) -> datetime | None:
        return plan(due.trigger, moment, self._zone, due.render)

    def _request(self, due: _Due, tick: Tick) -> NewExecution:
        date = tick.date.astimezone(UTC) if isinstance(due.trigger, ScheduleOnDates) else None
        new = request(
            due.flow, due.trigger, tick.variables, due.render, schedule_date=date, scope={"schedule": tick.variables}
        )
        backfill = running(due.row)
        if backfill is None:
            return new
        # As they are: whoever may run a backfill must not read secrets by it.
        return replace(new, inputs={**new.inputs, **backfill.inputs}, labels={**new.labels, **backfill.labels})

    def _take(self, db: Session, due: _Due, date: datetime, now: datetime, new: NewExecution) -> Execution | None:
        """Create the execution of a date, in the transaction that also takes the date and writes the next one."""
        date = date.astimezone(UTC)
        current = self._claim(db, due, date)
        if current is None:
            return None
        row, is_first = current
        execution = self._engine.create_in(db, new) if is_first else None
        db.triggers.put(
            replace(
                onward(row, self._after(due, date)),
                last_at=date,
                evaluated_at=now,
                updated_at=now,
                execution_id=execution.id if execution is not None else row.execution_id,
            )
        )
        return execution

    def _claim(self, db: Session, due: _Due, date: datetime) -> tuple[TriggerState, bool] | None:
        """Take a date; return the row as it is and whether nobody had the date before. None when it has moved on.

        The row is read again after a date that was taken: on PostgreSQL the second scheduler waits at the unique row
        for the first one's commit, and what it had read of the trigger before is old by then.
        """
        row = self._still(db, due.row)
        if row is None:
            return None
        if db.triggers.fire(_tick_key(due), date):
            return row, True
        row = self._still(db, due.row)
        return (row, False) if row is not None else None

    @staticmethod
    def _still(db: Session, row: TriggerState) -> TriggerState | None:
        """Return the row as it is now, or None when another scheduler or a commit has moved it on."""
        current = db.triggers.get(row.namespace, row.flow_id, row.trigger_id)
        return current if current is not None and current.next_at == row.next_at and not current.disabled else None

    def _advance(self, row: TriggerState, next_at: datetime | None, now: datetime) -> None:
        self._move(row, lambda current: replace(onward(current, next_at), evaluated_at=now, updated_at=now))

    def _move(self, row: TriggerState, change: Callable[[TriggerState], TriggerState]) -> None:
        """Write a changed row, unless somebody else has moved it on."""

        def move(db: Session) -> None:
            current = self._still(db, row)
            if current is not None:
                db.triggers.put(change(current))

        self._store.write(move)

    def _fail(self, due: _Due, now: datetime, error: MainstemError) -> Execution | None:
        """Record an execution that failed before it began, so that whoever looks sees why nothing ran."""
        version = self._catalogue.version(due.flow.namespace, due.flow.id)
        execution = stillborn(due.flow, due.trigger, version, {"date": iso(due.at)}, now, error)

        def record(db: Session) -> Execution | None:
            current = self._claim(db, due, due.at)
            if current is None:
                return None
            row, is_first = current
            next_one = onward(row, self._after(due, due.at))
            moved = replace(next_one, last_at=due.at, evaluated_at=now, updated_at=now)
            db.triggers.put(moved)
            if not is_first:
                return None
            insert(db, execution)
            return execution

        recorded = self._store.write(record)
        if recorded is not None:
            log.warning(
                "a schedule failed",
                extra={"trigger": _name(due.row), "error": self._engine.host.masker.mask(error.message)},
            )
            self._store.logs.append([line_of(execution, self._engine.host.masker.mask(error.message))])
        return recorded

    # ---------------------------------------------------------------- after a downtime

    def recover(self, now: datetime) -> int:
        """Deal with the dates that passed while nobody looked; return how many schedules were moved.

        ALL leaves them to be run one after the other, LAST keeps the last of them, NONE none. A date that is only
        seconds old is not taken for missed: another scheduler may be at it.
        """
        moved = 0
        for row in self._store.read(lambda db: db.triggers.due(now)):
            if row.kind != SCHEDULE or row.next_at is None or now - row.next_at <= _MISSED_AFTER or running(row):
                continue
            try:
                due = self._due(row, now)
                rule = (
                    due.trigger.recover_missed_schedules if due else None
                ) or self._settings.recover_missed_schedules
                if due is None or rule == "ALL":
                    continue
                self._advance(row, self._caught_up(due, now, rule), now)
                moved += 1
            except MainstemError as error:
                log.warning(
                    "a schedule could not be caught up",
                    extra={"trigger": _name(row), "error": self._engine.host.masker.mask(error.message)},
                )
            except Exception:  # as in `_guarded`
                log.exception("a schedule could not be caught up", extra={"trigger": _name(row)})
        return moved


def _tick_key(due: _Due) -> str:
    """Return the name under which a date is taken once: a backfill takes dates again that the schedule had."""
    key, backfill = trigger_key(due.flow, due.trigger), running(due.row)
    return f"{key}#{backfill.id}" if backfill is not None else key


def _name(row: TriggerState) -> str:
    return f"{row.namespace}/{row.flow_id}/{row.trigger_id}"
