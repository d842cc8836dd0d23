"""A world of several processes around one store, with a clock that is set and every choice drawn from a seed."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from runner.errors import MainstemError, TaskError
from runner.executions.creation import NewExecution
from runner.executions.models import Attempt, Execution, TaskRun
from runner.key_values import MemoryKeyValues
from runner.services import Host
from runner.settings import Settings
from runner.states import State
from runner.store import Session, Store
from runner.store.records import FlowDraft
from tests.simulation.chance import Bells, Chance
from tests.simulation.process import Process
from tests.simulation.strands import Strand

T = TypeVar("T")
NAMESPACE = "company.team"
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
PROCESSES = 3
_THREADS = {"engine": 2, "work": 2, "effects": 1}


class Bodies(MemoryKeyValues):
    """The bodies of tasks: a `kv.Set` takes some turns, and its value says how it ends."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def put(self, namespace: str, key: str, value: Any, **options: Any) -> None:
        world = self._world
        for _ in range(world.chance.rng.randrange(4)):
            if world.current is not None:
                world.current.gate()
        fails = value in {"fails", "raises"} or (value == "flaky" and world.chance.rng.random() < 0.5)
        if world.current is not None and world.current.job is not None:
            world.ledger.add((*world.current.job, State.FAILED if fails else State.SUCCESS))
        if value == "raises":
            raise RuntimeError("the body raises what it should not")
        if fails:
            raise TaskError("body.failed", "the body fails")
        super().put(namespace, key, value, **options)


class World:
    """Everything that exists; `turn` lets one thing happen."""

    def __init__(self, folder: Path, chance: Chance, template: Path) -> None:
        self.chance = chance
        self.bells = Bells(chance)
        self.current: Strand | None = None
        self.doomed: Process | None = None
        self.trace = hashlib.sha256()
        self.errors: list[str] = []
        self.ledger: set[tuple[str, int, State]] = set()  # what each body did: its run, its epoch, how it ended
        self.deaths = 0
        self.seconds = 0.0
        self._ticks = 0
        self._ids = 0
        self._periodic: dict[tuple[str, str], float] = {}
        settings = Settings(home=folder / "home", work=folder / "work")
        settings.home.mkdir()
        for file in template.iterdir():
            (settings.home / file.name).write_bytes(file.read_bytes())
        self.store = Store.open(settings.database_url, create=False, durability="off", clock=self.clock)
        host = Host.open(settings, Bodies(self), environment={})
        self.host = replace(
            host,
            clock=self.clock,
            monotonic=self.monotonic,
            wait=self.wait,
            new_id=self.new_id,
            fraction=chance.rng.random,
        )
        self.processes: list[Process] = []
        self._started = 0

    # ---------------------------------------------------------------- time, chance, trace

    def clock(self) -> datetime:
        self._ticks += 1
        return START + timedelta(seconds=self.seconds, microseconds=self._ticks)

    def monotonic(self) -> float:
        """Seconds; now and then a burst of the engine finds that its time is over."""
        return self.seconds + (0.06 if self.chance.rng.random() < 0.02 else 0.0)

    def wait(self, event: threading.Event, seconds: float) -> None:
        """Let the others go on until the time has passed or the event is set."""
        end = self.seconds + seconds
        while self.current is not None and self.seconds < end and not event.is_set():
            self.current.gate()

    def new_id(self) -> str:
        self._ids += 1
        return f"id{self._ids:06}"

    def note(self, *words: object) -> None:
        """Add to what happened; two worlds of one seed have the same trace."""
        self.trace.update(" ".join(map(str, words)).encode() + b"\n")

    def failed(self, name: str, error: Exception) -> None:
        self.note("error", name, error)
        if not isinstance(error, MainstemError):
            self.errors.append(f"{name}: {type(error).__name__}: {error}")

    # ---------------------------------------------------------------- what is there

    def deploy(self, flow_id: str, source: str) -> None:
        text = f"id: {flow_id}\nnamespace: {NAMESPACE}\n{source}"
        blob = hashlib.sha1(text.encode()).hexdigest()
        self.store.write(lambda db: db.flows.put(FlowDraft(NAMESPACE, flow_id, blob, text, START, "default")))

    def add_process(self) -> Process:
        self._started += 1
        process = Process(self, f"p{self._started}")
        self.processes.append(process)
        process.start()
        return process

    def read(self, unit: Callable[[Session], T]) -> T:
        return self.store.read(unit)

    def executions(self) -> list[Execution]:
        return [
            execution
            for flow_id in sorted({version.flow_id for version in self.read(lambda db: db.flows.list())})
            for execution in self.of_flow(flow_id)
        ]

    def of_flow(self, flow_id: str) -> list[Execution]:
        return self.read(lambda db: db.executions.last_of_flow(NAMESPACE, flow_id, 10_000))

    def runs(self, execution: Execution) -> list[TaskRun]:
        return self.read(lambda db: db.executions.runs(execution.id))

    def attempts(self, execution: Execution) -> list[Attempt]:
        return self.read(lambda db: db.executions.attempts(execution.id))

    # ---------------------------------------------------------------- happening

    def verb(self, work: Callable[[Process], object]) -> None:
        """Have a process do something for somebody outside, who does not care when it is refused."""
        alive = [process for process in self.processes if process.frozen_until <= self.seconds]
        if alive:
            process = self.chance.rng.choice(alive)
            process.spawn("api", lambda: work(process))

    def create(self, flow_id: str) -> None:
        self.verb(lambda process: process.engine.create(NewExecution(NAMESPACE, flow_id)))

    def act(self, verb: str, execution_id: str) -> None:
        """`kill`, `pause` or `resume` an execution."""
        self.verb(lambda process: getattr(process.engine, verb)(execution_id))

    def turn(self) -> None:
        """Let one thread run to its next gate, or let a process take up work."""
        self._take_up()
        if self.chance.rng.random() < 0.01:
            self.pass_time(0.5)
        ready = [
            (process, strand)
            for process in self.processes
            if process.frozen_until <= self.seconds
            for strand in process.strands
        ]
        if not ready:
            self.pass_time(1.0)
            return
        process, strand = self.chance.rng.choice(ready)
        self.note(strand.name, self._ticks)
        self.current = strand
        strand.resume()
        self.current = None
        if strand.is_over:
            process.strands.remove(strand)
        if self.doomed is not None:
            self.kill(self.doomed)
            self.doomed = None

    def kill(self, process: Process) -> None:
        """A new process recovers what the dead one left; half of the time the others have to find it themselves."""
        process.die()
        self.deaths += 1
        self.processes.remove(process)
        if not self.processes or self.chance.rng.random() < 0.5:
            self.add_process()

    def pass_time(self, seconds: float) -> None:
        """Move the clock, and let what comes again and again come."""
        self.seconds += seconds
        for process in self.processes:
            for name, every, work in process.periodic():
                last = self._periodic.setdefault((process.name, name), self.seconds)
                if self.seconds - last >= every and not process.busy(name):
                    self._periodic[process.name, name] = self.seconds
                    process.spawn(name, work)

    def _take_up(self) -> None:
        for process in self.processes:
            if process.frozen_until > self.seconds:
                continue
            process.worker.stop_runs(self.bells.take("stops", 1))
            if process.busy("engine") < _THREADS["engine"] and (ids := self.bells.take("executions", 3)):
                process.spawn("engine", partial(process.engine.advancer.advance, ids))
            if process.busy("work") < _THREADS["work"] and (runs := self.bells.take("runs", 1)):
                run_id, epoch = runs[0]
                process.spawn("work", partial(process.worker.work, run_id, epoch), job=(run_id, epoch + 1))
            if process.busy("effects") < _THREADS["effects"] and self.bells.take("effects", 1):
                process.spawn("effects", process.effects.run_once)

    def settle(self, most_seconds: float = 4000.0) -> None:
        """Stop all faults, resume whatever is paused, and go on until everything has ended."""
        self.chance.is_rough = False
        end = self.seconds + most_seconds
        while self.seconds < end:
            for _ in range(100_000):
                if not any(process.strands for process in self.processes) and not any(self.bells.waiting.values()):
                    break
                self.turn()
            if self._is_quiet():
                return
            for execution in self.executions():
                if execution.state is State.PAUSED:
                    self.act("resume", execution.id)
            self.pass_time(1.0)

    def _is_quiet(self) -> bool:
        return self.read(_has_settled)

    def close(self) -> None:
        for process in self.processes:
            process.die()
        self.store.close()


def _has_settled(db: Session) -> bool:
    """Whether nothing is open: no execution, no run (also after the end of its execution), no row to act on."""
    (runs,) = db.connection.driver.execute("SELECT count(*) FROM task_runs WHERE ended_at IS NULL").fetchone()
    return runs == 0 and not db.executions.open_ids() and set(db.outbox.counts()) <= {"report"}
