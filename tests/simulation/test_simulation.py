"""The real engine, store, worker, effects and sweeper in worlds where everything fails, each repeatable by its seed.

`MAINSTEM_TEST_LONG=1` tries many more; `MAINSTEM_TEST_SEED=n` repeats one.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.executions.creation import NewExecution
from runner.states import State
from runner.store import Store, executions
from runner.store.claims import Claims
from runner.store.executions import ExecutionRows
from tests.simulation.chance import Chance
from tests.simulation.flows import FlowMaker
from tests.simulation.invariants import violations
from tests.simulation.world import NAMESPACE, PROCESSES, World

LONG = bool(os.environ.get("MAINSTEM_TEST_LONG"))
SHORT_S = 15.0
SLOW_READS = 200 if LONG else 5
FLOWS = ("outer", "inner", "innermost")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Databases with our tables and nothing in them; copying them is faster than making them."""
    folder = tmp_path_factory.mktemp("template")
    Store.open(f"sqlite:///{folder}/state.db").close()
    return folder


@pytest.fixture
def make_world(tmp_path: Path, template: Path) -> Iterator[Callable[[Chance], World]]:
    made: list[tuple[World, Path]] = []

    def make(chance: Chance) -> World:
        while made:  # one at a time: each holds threads and files
            _end(*made.pop())
        folder = tmp_path / f"world-{chance.seed}-{chance.nth}-{time.monotonic_ns()}"
        folder.mkdir()
        world = World(folder, chance, template)
        made.append((world, folder))
        return world

    yield make
    while made:
        _end(*made.pop())


def _end(world: World, folder: Path) -> None:
    world.close()
    shutil.rmtree(folder)


def live(world: World, *, turns: int, executions: int) -> None:
    """Let a world happen: flows are started, killed, paused and resumed while everything fails."""
    rng = world.chance.rng
    for number, name in reversed(list(enumerate(FLOWS))):
        maker = FlowMaker(rng, list(FLOWS[number + 1 :]))
        world.deploy(name, maker.source())
    for _ in range(PROCESSES):
        world.add_process()
    for _ in range(executions):
        world.create(rng.choice(FLOWS[:2]))
    for _ in range(turns):
        world.turn()
        if rng.random() < 0.04:
            disturb(world)
    world.settle()


def disturb(world: World) -> None:
    """Let something happen from outside: a verb, a death, a freeze, a broker that forgets, time that passes."""
    rng = world.chance.rng
    match rng.randrange(12):
        case 0 | 1 | 2:
            some = world.executions()
            if some:
                world.act(rng.choice(["kill", "kill", "pause", "resume"]), rng.choice(some).id)
        case 3:
            world.kill(rng.choice(world.processes))
        case 4:
            rng.choice(world.processes).frozen_until = world.seconds + rng.choice([5, 15])
        case 5:
            world.bells.flush()
        case 6:
            world.create(rng.choice(FLOWS))
        case 7 if len(world.processes) < PROCESSES:
            world.add_process()
        case _:
            world.pass_time(rng.choice([0.5, 1.0, 1.0, 3.0]))


def seeds() -> Iterator[int]:
    """The one that is asked for; else from 1 on, for a short time or up to a large number."""
    one = os.environ.get("MAINSTEM_TEST_SEED")
    if one is not None:
        yield int(one)
        return
    begun = time.monotonic()
    for seed in range(1, 20_000 if LONG else 400):
        if not LONG and seed > 10 and time.monotonic() - begun > SHORT_S:
            return
        yield seed


@pytest.mark.timeout(100_000 if LONG else 120)
def test_everything_ends_and_nothing_happens_twice_whatever_fails(
    make_world: Callable[[Chance], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = faults = deaths = ended = 0

    for seed in seeds():
        # Every other world decides on parts of its executions, as otherwise only long ones are.
        monkeypatch.setattr(executions, "MOST_WHOLE", 0 if seed % 2 else 100)
        world = make_world(Chance(seed))
        live(world, turns=400, executions=6)
        assert violations(world) == [], f"MAINSTEM_TEST_SEED={seed}"
        tried, faults, deaths = tried + 1, faults + world.chance.fired, deaths + world.deaths
        ended += len(world.executions())

    assert ended >= tried
    assert deaths >= tried // 2, "the world is too kind to prove anything"
    assert faults >= deaths // 2


SCENARIO = {
    "inner": """
concurrency: {limit: 1}
tasks: [{id: a, type: core.kv.Set, key: k, value: ok}]
""",
    "outer": """
tasks:
  - id: p
    type: core.flow.Parallel
    tasks:
      - {id: s, type: core.flow.Subflow, namespace: company.team, flowId: inner}
      - {id: f, type: core.kv.Set, key: k, value: fails, retry: {type: constant, interval: PT1S, maxAttempts: 2}}
      - {id: w, type: core.flow.WorkingDirectory, tasks: [{id: x, type: core.kv.Set, key: k, value: ok}]}
errors: [{id: e, type: core.kv.Set, key: k, value: ok}]
""",
}


@pytest.mark.timeout(10_000 if LONG else 120)
@pytest.mark.parametrize("place", ["write", "written"])
def test_a_process_may_die_at_each_of_its_writes(make_world: Callable[[Chance], World], place: str) -> None:
    step = 1 if LONG else 9
    fired = 0

    for nth in range(1, 10_000, step):
        world = make_world(Chance(nth, nth=nth, nth_place=place))
        for name, source in SCENARIO.items():
            world.deploy(name, source)
        world.add_process()
        for _ in range(2):
            world.processes[0].engine.create(NewExecution(NAMESPACE, "outer"))
        world.settle()
        assert violations(world) == [], f"{place} {nth}"
        states = [each.state.value for each in world.executions()]
        assert sorted(states) == ["FAILED", "FAILED", "SUCCESS", "SUCCESS"], f"{place} {nth}"
        if not world.chance.fired:
            break
        fired += 1

    assert fired >= 60 // step


TIMERS = """
tasks:
  - id: p
    type: core.flow.Parallel
    tasks:
      - {id: s, type: core.flow.Sequential, tasks: [BODIES]}
      - id: u
        type: core.flow.LoopUntil
        condition: "false"
        checkFrequency: {interval: PT1S, maxIterations: 8}
        tasks: [{id: c, type: core.debug.Return, format: x}]
"""


@pytest.mark.timeout(120)
def test_no_timer_is_lost_that_becomes_due_while_something_else_is_decided(
    make_world: Callable[[Chance], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executions, "MOST_WHOLE", 0)
    bodies = ", ".join(f"{{id: b{number}, type: core.kv.Set, key: k, value: ok}}" for number in range(12))

    for seed in range(1, SLOW_READS + 1):
        world = make_world(Chance(seed, die=0.0, error=0.0, linger=0.3))
        world.deploy("outer", TIMERS.replace("BODIES", bodies))
        world.add_process()
        world.create("outer")
        world.settle(most_seconds=200)
        assert violations(world) == [], f"seed {seed}"
        assert [each.state for each in world.executions()] == [State.SUCCESS], f"seed {seed}"


def freeze_often(world: World) -> None:
    """Have workers stand still for longer than others believe in them, in the middle of their bodies."""
    body = "{id: %s, type: core.kv.Set, key: k, value: flaky}"
    world.deploy(
        "outer", f"tasks: [{{id: p, type: core.flow.Parallel, tasks: [{', '.join(body % n for n in 'abcd')}]}}]"
    )
    for _ in range(2):
        world.add_process()
        world.create("outer")
    for turn in range(300):
        world.turn()
        if turn % 15 == 0:
            world.chance.rng.choice(world.processes).frozen_until = world.seconds + 14
        if turn % 5 == 0:
            world.pass_time(2)
    world.settle()


def test_the_simulation_sees_a_store_that_does_not_check_epochs(
    make_world: Callable[[Chance], World], monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = Claims.record

    def unchecked(self: Claims, task_run_id: str, epoch: int, **fields: Any) -> int | None:
        run = ExecutionRows(self._db).run(task_run_id)
        return checked(self, task_run_id, run.epoch if run else epoch, **fields)

    monkeypatch.setattr(Claims, "record", unchecked)
    found: list[str] = []

    for seed in range(1, 100):
        world = make_world(Chance(seed, die=0.0, error=0.0))
        freeze_often(world)
        found = violations(world)
        if found:
            break

    assert found


def test_a_seed_repeats_a_world_exactly(make_world: Callable[[Chance], World]) -> None:
    traces = set()

    for _ in range(2):
        world = make_world(Chance(7))
        live(world, turns=300, executions=5)
        traces.add(world.trace.hexdigest())

    assert len(traces) == 1
