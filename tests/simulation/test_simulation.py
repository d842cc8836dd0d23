"""The real engine, store, worker, effects and sweeper in worlds where everything fails, each repeatable by its seed.

`MAINSTEM_TEST_LONG=1` tries many more; `MAINSTEM_TEST_SEED=n` repeats one.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.store import Store
from tests.simulation.chance import Chance
from tests.simulation.flows import FlowMaker
from tests.simulation.invariants import violations
from tests.simulation.world import PROCESSES, World

LONG = bool(os.environ.get("MAINSTEM_TEST_LONG"))
SHORT_S = 15.0
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
def test_everything_ends_and_nothing_happens_twice_whatever_fails(make_world: Callable[[Chance], World]) -> None:
    tried = faults = deaths = ended = 0

    for seed in seeds():
        world = make_world(Chance(seed))
        live(world, turns=400, executions=6)
        assert violations(world) == [], f"MAINSTEM_TEST_SEED={seed}"
        tried, faults, deaths = tried + 1, faults + world.chance.fired, deaths + world.deaths
        ended += len(world.executions())

    assert ended >= tried
    assert deaths >= tried // 2, "the world is too kind to prove anything"
    assert faults >= deaths // 2


def test_a_seed_repeats_a_world_exactly(make_world: Callable[[Chance], World]) -> None:
    traces = set()

    for _ in range(2):
        world = make_world(Chance(7))
        live(world, turns=300, executions=5)
        traces.add(world.trace.hexdigest())

    assert len(traces) == 1
