"""Figures about the running system in Prometheus' text format, with labels whose number is bounded.

No flow ids, namespaces or labels of executions appear: who may read figures need not see what runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from runner import __version__
from runner.states import State

if TYPE_CHECKING:
    from runner.store import Session, Store
    from runner.store.records import Environment

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_QUEUE_KINDS: Final = frozenset({"advance", "run"})
_DEFAULT_QUEUE: Final = "tasks"
_WANTED: Final = frozenset({"OK", "PINNED", "WAITING"})  # a pin is what somebody ordered, checks take their time
_NOT_ACTIVATED: Final = frozenset({"QUARANTINED", "INVALID", "HELD", "UNCHECKED", "FAILED"})


@dataclass(frozen=True, slots=True)
class Family:
    """A metric with all its samples; each sample is a set of labels and a value."""

    name: str
    kind: str
    help: str
    samples: list[tuple[Mapping[str, str], float]] = field(default_factory=list)

    def add(self, value: float, **labels: str) -> None:
        """Add a sample."""
        self.samples.append((labels, value))


def render(families: Iterable[Family]) -> str:
    """Return the text of metrics; families without samples are left out."""
    lines = []
    for family in families:
        if not family.samples:
            continue
        lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
        lines += [f"{family.name}{_labels(labels)} {_number(value)}" for labels, value in family.samples]
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Process:
    """What a process says of itself: its role, such as `worker`, and its counters and gauges by name.

    `received` are the webhook deliveries that came to it, by result; `left` is how many requests the forges of
    repositories still take, and when that number begins anew, in seconds since 1970.
    """

    role: str
    started_at: datetime
    figures: Mapping[str, float] = field(default_factory=dict)
    received: Mapping[str, int] = field(default_factory=dict)
    left: Mapping[str, tuple[int, float | None]] = field(default_factory=dict)


def of_process(process: Process, store: Store, now: datetime) -> list[Family]:
    """Return the figures of one process, without a question to the store."""
    info = Family("mainstem_info", "gauge", "1, with the version and the role of this process.")
    info.add(1, version=__version__, role=process.role)
    up = Family("mainstem_uptime_seconds", "gauge", "Seconds since this process started.")
    up.add((now - process.started_at).total_seconds())
    return [
        info,
        up,
        _received(process.received),
        *_left(process.left),
        *_process({**store.metrics_snapshot(), **process.figures}),
    ]


def of_store(store: Store, now: datetime) -> list[Family]:
    """Return the figures of the whole server, as they stand in its store."""

    def read(db: Session) -> list[Family]:
        return [
            _executions(db),
            *_queues(db, now),
            *_tasks(db, now),
            _timers(db, now),
            *_environments(db, now),
            _logged(db),
            *_workers(db),
        ]

    return store.read(read)


def _executions(db: Session) -> Family:
    family = Family("mainstem_executions", "gauge", "Executions in the store by state.")
    counts = db.executions.count_by_state()
    for state in State:
        family.add(counts.get(state, 0), state=str(state))
    return family


def _queues(db: Session, now: datetime) -> list[Family]:
    depth = Family("mainstem_queue_depth", "gauge", "Things that wait to be done, by kind.")
    age = Family("mainstem_queue_oldest_seconds", "gauge", "Age of what has waited longest, by kind.")
    backlog = Family("mainstem_outbox_backlog", "gauge", "Rows of the outbox, by kind.")
    counts = db.outbox.counts()
    for kind in sorted(_QUEUE_KINDS | set(counts)):
        count, oldest = counts.get(kind, (0, None))
        backlog.add(count, kind=kind)
        if kind in _QUEUE_KINDS:
            depth.add(count, kind=kind)
            age.add(max((now - oldest).total_seconds(), 0.0) if oldest else 0.0, kind=kind)
    return [depth, age, backlog]


def _tasks(db: Session, now: datetime) -> list[Family]:
    waiting = Family("mainstem_tasks_waiting", "gauge", "Task runs that no worker has claimed yet, by queue.")
    age = Family("mainstem_tasks_oldest_seconds", "gauge", "Age of the task run that has waited longest, by queue.")
    # Always there, so that who scales workers by it reads 0, and not that there is no such figure.
    for queue, (count, oldest) in {_DEFAULT_QUEUE: (0, now), **db.outbox.runs_by_queue()}.items():
        waiting.add(count, queue=queue)
        age.add(max((now - oldest).total_seconds(), 0.0), queue=queue)
    return [waiting, age]


def _timers(db: Session, now: datetime) -> Family:
    family = Family("mainstem_timers_late_seconds", "gauge", "How long the delay or pause that is due has waited.")
    due = db.executions.next_due()
    family.add(max((now - due).total_seconds(), 0.0) if due else 0.0)
    return family


def _environments(db: Session, now: datetime) -> list[Family]:
    age = Family("mainstem_sync_age_seconds", "gauge", "Seconds since the remote was last looked at, by environment.")
    failing = Family("mainstem_sync_failing", "gauge", "1 when the last sync did not activate its commit.")
    lag = Family("mainstem_sync_lag_seconds", "gauge", "For how long the newest commit has not become active, else 0.")
    for item in db.environments.all():
        if item.checked_at is not None:
            age.add(max((now - item.checked_at).total_seconds(), 0.0), environment=item.name)
        failing.add(0 if item.state in _WANTED else 1, environment=item.name, state=item.state)
        lag.add(_lag_s(db, item, now), environment=item.name)
    return [age, failing, lag]


def _lag_s(db: Session, environment: Environment, now: datetime) -> float:
    newest = next(iter(db.revisions.list(environment.name, 1)), None)
    if newest is None or newest.result not in _NOT_ACTIVATED:
        return 0.0
    return max((now - newest.at).total_seconds(), 0.0)


def _logged(db: Session) -> Family:
    family = Family("mainstem_deliveries_logged", "gauge", "Webhook deliveries that the log holds, by result.")
    for result, count in sorted(db.deliveries.counts().items()):
        family.add(count, result=result)
    return family


def _received(received: Mapping[str, int]) -> Family:
    # The log cannot tell: repetitions have no row of their own there, refusals share one, and old rows go.
    family = Family("mainstem_deliveries_total", "counter", "Webhook deliveries since this process started, by result.")
    for result, count in sorted(received.items()):
        family.add(count, result=result)
    return family


def _left(limits: Mapping[str, tuple[int, float | None]]) -> Iterator[Family]:
    left = Family("mainstem_forge_requests_left", "gauge", "Requests that the forge of a repository still takes.")
    resets = Family("mainstem_forge_limit_reset_timestamp_seconds", "gauge", "When that number begins anew.")
    for repository, (remaining, moment) in sorted(limits.items()):
        left.add(remaining, repository=repository)
        if moment is not None:
            resets.add(moment, repository=repository)
    yield from (left, resets)


def _workers(db: Session) -> list[Family]:
    known = Family("mainstem_workers", "gauge", "Processes that claim task runs, by whether they drain.")
    busy = Family("mainstem_task_runs_claimed", "gauge", "Task runs that workers hold now.")
    workers = db.workers.all()
    for draining in (False, True):
        known.add(sum(item.draining is draining for item in workers), draining=str(draining).lower())
    busy.add(sum(len(db.claims.owned_by(item.id)) for item in workers))
    return [known, busy]


def _process(figures: Mapping[str, float]) -> list[Family]:
    families = []
    for name, value in sorted(figures.items()):
        family = Family(f"mainstem_process_{name}", "gauge", "A counter or gauge of this process.")
        family.add(value)
        families.append(family)
    return families


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
