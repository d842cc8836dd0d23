"""Figures about the running system in Prometheus' text format, with labels whose number is bounded.

No flow ids, namespaces or labels of executions appear: who may read figures need not see what runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Final

from runner.states import State

if TYPE_CHECKING:
    from runner.store import Session, Store
    from runner.store.records import Environment

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_QUEUE_KINDS: Final = frozenset({"advance", "run"})
Extra = Callable[[], Mapping[str, float]]


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


def collect(
    store: Store,
    now: datetime,
    started_at: datetime,
    extra: Mapping[str, float] | None = None,
    received: Mapping[str, int] | None = None,
) -> list[Family]:
    """Return the figures of this moment.

    `extra` are counters of the process by name, `received` the webhook deliveries that came to it, by result.
    """

    def read(db: Session) -> list[Family]:
        return [
            _executions(db),
            *_queues(db, now),
            *_environments(db.environments.all(), now),
            _logged(db),
            *_workers(db),
        ]

    up = Family("mainstem_uptime_seconds", "gauge", "Seconds since this process started.")
    up.add((now - started_at).total_seconds())
    return [up, *store.read(read), _received(received or {}), *_process({**store.metrics_snapshot(), **(extra or {})})]


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


def _environments(environments: Iterable[Environment], now: datetime) -> list[Family]:
    age = Family("mainstem_sync_age_seconds", "gauge", "Seconds since the remote was last looked at, by environment.")
    failing = Family("mainstem_sync_failing", "gauge", "1 when the last sync did not activate its commit.")
    for item in environments:
        if item.checked_at is not None:
            age.add(max((now - item.checked_at).total_seconds(), 0.0), environment=item.name)
        failing.add(0 if item.state == "OK" else 1, environment=item.name, state=item.state)
    return [age, failing]


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
