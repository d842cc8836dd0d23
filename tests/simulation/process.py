"""One simulated process: the real engine, worker, effects, sweeper and scheduler over a store that may fail."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from runner.errors import StoreError
from runner.executions.effects import Effects
from runner.executions.engine import Engine
from runner.flows.catalogue import Catalogue
from runner.scheduler import Scheduler
from runner.store import Session, Store
from runner.sweeper import Sweeper
from runner.worker import Worker
from tests.simulation.strands import Died, Strand

if TYPE_CHECKING:
    from tests.simulation.world import World

T = TypeVar("T")


class GatedStore(Store):
    """The real store, with a gate before and after each call, where others run, the call fails or the process dies."""

    def __init__(self, store: Store, process: Process) -> None:
        self.url, self.dialect, self.logs = store.url, store.dialect, store.logs
        self._engine, self._log_engine = store._engine, store._log_engine
        self._process = process

    def read(self, unit: Callable[[Session], T]) -> T:
        self._process.gate("read")
        found = super().read(unit)
        self._process.linger()
        return found

    def write(self, unit: Callable[[Session], T]) -> T:
        self._process.gate("write")
        result = super().write(unit)
        self._process.gate("written")
        return result

    def submit(self, unit: Callable[[Session], T]) -> Future[T]:
        done: Future[T] = Future()
        try:
            done.set_result(self.write(unit))
        except Exception as error:  # noqa: BLE001 - whatever the unit raises belongs to who waits for it
            done.set_exception(error)
        return done


class Process:
    """The parts of `runner.runtime.Runtime`, without its threads and with a doorbell that forgets and repeats."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.is_dead = False
        self.frozen_until = 0.0
        self.strands: list[Strand] = []
        self.store = GatedStore(world.store, self)
        self.engine = Engine(self.store, Catalogue(self.store), world.host, self)
        self.worker = Worker(self.engine, monotonic=world.monotonic)
        self.effects = Effects(self.engine)
        self.sweeper = Sweeper(self.engine, self.effects, own_worker=lambda: self.worker.id, monotonic=world.monotonic)
        self.scheduler = Scheduler(self.engine, self.store, self.engine.catalogue, world.host.settings, world.clock)

    def start(self) -> None:
        """Register and recover, as a process does when it starts beside others."""

        def begin() -> None:
            self.worker.register()
            self.sweeper.recover(alone=False)

        self.spawn("start", begin)

    def spawn(self, name: str, work: Callable[[], object], job: tuple[str, int] | None = None) -> None:
        self.strands.append(Strand(f"{self.name}/{name}", work, self.world.failed, job))

    def busy(self, name: str) -> int:
        """How many threads of a kind run."""
        return sum(strand.name == f"{self.name}/{name}" for strand in self.strands)

    def die(self) -> None:
        """Be killed: no thread gets any further."""
        self.is_dead = True
        self.world.note("dies", self.name)
        for strand in self.strands:
            strand.die()
        self.strands = []

    def gate(self, place: str) -> None:
        """Let others run; perhaps raise the error of a store, or have the whole process die here."""
        if self.is_dead:
            raise Died
        strand = self.world.current
        if strand is None:
            return
        if self.world.chance.switches():
            strand.gate()
        fault = self.world.chance.fault(place)
        if fault == "die":
            self.world.doomed = self
            strand.gate()  # never comes back: the world ends this process
        elif fault == "error":
            self.world.note("fails", strand.name, place)
            raise StoreError("store.busy", f"the store does not answer ({place})")

    def linger(self) -> None:
        """Perhaps have a thread take its time between what it has read and what it makes of it: timers become due."""
        if self.world.current is not None and self.world.chance.lingers():
            self.world.pass_time(1.0)

    # ---------------------------------------------------------------- the doorbell

    def ring_executions(self, execution_ids: Iterable[str]) -> None:
        self.world.bells.ring("executions", list(execution_ids))

    def ring_runs(self, runs: Sequence[tuple[str, int, str]]) -> None:
        self.world.bells.ring("runs", [(run_id, epoch) for run_id, epoch, _queue in runs])

    def ring_effects(self) -> None:
        self.world.bells.ring("effects", [self.name])

    def ring_timers(self) -> None:
        """Timers are looked at each second anyway."""

    def stop_runs(self, task_run_ids: Iterable[str]) -> None:
        ids = list(task_run_ids)
        self.worker.stop_runs(ids)
        self.world.bells.ring("stops", ids)

    def kill_children(self, execution_id: str) -> None:
        self.engine.kill_children(execution_id)

    # ---------------------------------------------------------------- what its threads do

    def periodic(self) -> list[tuple[str, float, Callable[[], Any]]]:
        """The jobs that come again and again: name, seconds between them, what they do."""
        return [
            ("beat", 2.0, self._beat),
            ("sweep", 1.0, self.sweeper.run_once),
            ("timers", 1.0, lambda: self.scheduler.run_due(self.world.clock())),
        ]

    def _beat(self) -> None:
        self.worker.beat()
        self.worker.fence()
