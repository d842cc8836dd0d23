"""Schedules: what many cost while none is due, and how long many take that are due in the same second."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

from runner.executions.engine import Engine
from runner.key_values import MemoryKeyValues
from runner.local import LocalEngine
from runner.scheduler import Scheduler
from runner.services import Host
from runner.settings import Settings
from runner.store import Session, Store
from runner.store.records import FlowDraft, TriggerState
from runner.triggers.activation import activated

_START: Final = datetime(2024, 3, 1, tzinfo=UTC)
_DUE: Final = _START + timedelta(hours=1)
_FLOW: Final = """
id: {id}
namespace: bench.schedules
tasks: [{{id: say, type: core.log.Log, message: hello}}]
triggers: [{{id: s, type: core.trigger.Schedule, cron: "0 * * * *"}}]
"""


@dataclass
class Clocked:
    """A scheduler on a store of its own, at a time that the caller sets."""

    store: Store
    engine: Engine
    scheduler: Scheduler
    clock: list[datetime] = field(default_factory=list)

    def rest(self, rows: int) -> None:
        """Have `rows` schedules that are not due for a year."""

        def put(db: Session) -> None:
            for number in range(rows):
                db.triggers.put(TriggerState("bench.rest", f"f{number}", "s", next_at=_START + timedelta(days=366)))

        self.store.write(put)

    def deploy(self, flows: int) -> None:
        """Activate flows that each have a schedule for the next full hour."""
        drafts = []
        for number in range(flows):
            source = _FLOW.format(id=f"f{number}")
            blob = hashlib.sha1(source.encode()).hexdigest()
            drafts.append(FlowDraft("bench.schedules", f"f{number}", blob, source, _START))
        self.store.write(lambda db: [db.flows.put(draft) for draft in drafts])
        self.engine.catalogue.invalidate()
        found = self.engine.catalogue.active()
        self.store.write(lambda db: activated(db, found, [], _START, ZoneInfo("UTC")))

    def minute(self) -> float:
        """Return the seconds of CPU that a minute costs in which nothing is due."""
        self.scheduler.run_due(self.clock[0])
        begun = time.process_time()
        for second in range(60):
            now = self.clock[0] + timedelta(seconds=second)
            self.scheduler.run_due(now)
            self.scheduler.seconds_to_next(now)
        return time.process_time() - begun

    def fire(self) -> tuple[float, int]:
        """Return the seconds until everything that is due at the full hour is created, and how much that was."""
        self.clock[0] = _DUE
        begun = time.perf_counter()
        created = self.scheduler.run_due(_DUE)
        return time.perf_counter() - begun, len(set(created))


@contextmanager
def clocked() -> Iterator[Clocked]:
    """Run a scheduler and an engine on a store that keeps what it commits, as a server does."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder) / "home", work=Path(folder) / "work", url="http://127.0.0.1:1")
        settings.home.mkdir()
        clock = [_START]
        store = Store.open(settings.database_url)
        host = Host.open(settings, MemoryKeyValues(), environment={}, clock=lambda: clock[0])
        with LocalEngine(store, host) as local:
            scheduler = Scheduler(local.engine, store, local.engine.catalogue, settings, lambda: clock[0])
            yield Clocked(store, local.engine, scheduler, clock)
        store.close()


def run(*, quick: bool) -> dict[str, Any]:
    """Return the figures: CPU per minute at rest, and the time until the last of many was created."""
    resting, due = (1_000, 100) if quick else (10_000, 1_000)
    with clocked() as world:
        world.rest(resting)
        idle_s = min(world.minute() for _ in range(3))
        world.deploy(due)
        took_s, created = world.fire()
    return {
        "bench": "schedules",
        "resting": resting,
        "idle_cpu_ms_per_minute": round(idle_s * 1000, 1),
        "due": due,
        "created": created,
        "last_created_s": round(took_s, 2),
    }
