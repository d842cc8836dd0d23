"""What becomes of a task whose group has no worker, and of jobs that only some workers may follow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from runner.executions.creation import NewExecution
from runner.executions.effects import Effects
from runner.flows.catalogue import Catalogue
from runner.key_values import MemoryKeyValues
from runner.local import LocalEngine
from runner.services import Host
from runner.settings import RunnerPolicySettings, Settings
from runner.store import Session
from runner.store.records import Worker
from runner.sweeper import UNSERVED_AFTER_S, Sweeper
from tests.servers.place import Place
from tests.servers.store import fresh_store

FLOW = """\
id: work
namespace: team
tasks:
  - id: body
    type: scripts.shell.Commands
    commands: ["true"]
    workerGroup: {{key: gpu, fallback: {fallback}}}
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    settings = Settings(home=tmp_path / "home", work=tmp_path / "work")
    store = fresh_store(f"sqlite:///{tmp_path / 'state.db'}", durability="off")
    host = Host.open(settings, MemoryKeyValues(), environment={"PATH": os.environ["PATH"]})
    yield Place(store, host, tmp_path, [])
    assert store.check() == []
    store.close()


class Rings:
    """A doorbell that remembers who was rung for."""

    def __init__(self, local: LocalEngine) -> None:
        self.runs: list[str] = []
        local.engine.doorbell.ring_runs = lambda runs: self.runs.extend(queue for *_, queue in runs)  # type: ignore[method-assign]


def _register(db: Session, row: Worker) -> None:
    db.workers.register(row)


def _swept(
    place: Place, fallback: str, *groups: str, is_lost: bool = False, is_gone: bool = False
) -> tuple[str, list[str]]:
    """Return the state of an execution whose task waits for `gpu`, and the queues rung for, a while later.

    With `is_lost` a worker took its run before, and was lost; with `is_gone` nobody knows its flow any more.
    """
    flow_id = place.deploy(FLOW.format(fallback=fallback), "work")
    local = place.engine()
    rings = Rings(local)
    local.worker.register()
    place.store.write(lambda db: db.workers.remove(local.worker.id))
    rows = [Worker(group, "host", 1, place.host.clock(), groups=(group,)) for group in groups]
    for row in rows:
        place.store.write(partial(_register, row=row))
    execution = local.engine.create(NewExecution("team", flow_id))
    local.engine.advancer.advance([execution.id])
    if is_lost:
        _lose(place, execution.id)
    rings.runs.clear()
    later = place.host.clock() + timedelta(seconds=UNSERVED_AFTER_S + 1)
    object.__setattr__(local.engine.host, "clock", lambda: later)
    if is_gone:
        local.engine.catalogue = Catalogue(fresh_store(f"sqlite:///{place.folder / 'empty.db'}", durability="off"))
    sweeper = Sweeper(local.engine, Effects(local.engine), own_worker=lambda: "", refuse=local.worker.refuse)
    sweeper.ring_again(1.0)
    found = place.store.read(lambda db: db.executions.get(execution.id))
    assert found is not None
    return found.state.value, rings.runs


def _lose(place: Place, execution_id: str) -> None:
    loaded = place.store.read(lambda db: db.executions.load(execution_id))
    assert loaded is not None
    (run,) = loaded.runs
    now = place.host.clock()
    taken = place.store.write(lambda db: db.claims.claim(run.id, run.epoch, "gone", now))
    assert taken is not None
    place.store.write(lambda db: db.claims.release(taken.id, taken.epoch, now, "lost"))


@pytest.mark.parametrize("is_lost", [False, True])
@pytest.mark.parametrize(
    ("fallback", "state", "rung"),
    [
        ("WAIT", "RUNNING", ["tasks.gpu"]),
        ("FAIL", "FAILED", ["tasks.gpu"]),
        ("CANCEL", "KILLED", ["tasks.gpu"]),
        ("IGNORE", "RUNNING", ["tasks"]),
    ],
)
def test_a_group_without_workers_means_what_the_task_says(
    place: Place, fallback: str, state: str, rung: list[str], *, is_lost: bool
) -> None:
    assert _swept(place, fallback, "other", is_lost=is_lost) == (state, rung)


def test_a_lost_run_of_a_flow_that_is_gone_does_not_keep_others_from_being_rung_for(place: Place) -> None:
    assert _swept(place, "FAIL", "other", is_lost=True, is_gone=True) == ("RUNNING", ["tasks.gpu"])


@pytest.mark.parametrize(("groups", "state"), [(("cpu", "g*"), "RUNNING"), (("cpu",), "FAILED"), ((), "FAILED")])
def test_a_task_gets_the_groups_that_the_policy_of_its_namespace_lists(
    tmp_path: Path, groups: tuple[str, ...], state: str
) -> None:
    rules = (RunnerPolicySettings(namespaces=("team",), worker_groups=groups),)
    settings = Settings(home=tmp_path / "home", work=tmp_path / "work", runner_policies=rules)
    with closing(fresh_store(f"sqlite:///{tmp_path / 'state.db'}", durability="off")) as store:
        host = Host.open(settings, MemoryKeyValues(), environment={})
        place = Place(store, host, tmp_path, [])
        local = place.engine()
        execution = local.engine.create(NewExecution("team", place.deploy(FLOW.format(fallback="WAIT"), "work")))

        local.engine.advancer.advance([execution.id])

        found = store.read(lambda db: db.executions.get(execution.id))
        assert found is not None
        assert found.state.value == state


@pytest.mark.parametrize("fallback", ["FAIL", "IGNORE"])
def test_a_group_with_a_worker_is_waited_for(place: Place, fallback: str) -> None:
    assert _swept(place, fallback, "other", "gpu") == ("RUNNING", ["tasks.gpu"])
