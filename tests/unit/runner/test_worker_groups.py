"""What becomes of a task whose group has no worker, and of jobs that only some workers may follow."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from runner.broker import DoorbellBroker
from runner.executions.creation import NewExecution
from runner.executions.effects import Effects
from runner.flows.catalogue import Catalogue
from runner.key_values import MemoryKeyValues
from runner.local import LocalEngine
from runner.ringer import Ringer
from runner.runtime import _rung
from runner.services import Host
from runner.settings import RunnerPolicySettings, Settings
from runner.store import Session
from runner.store.records import Worker
from runner.sweeper import UNFOLLOWED_AFTER_S, UNSERVED_AFTER_S, Sweeper
from task_runners.supervisor import Supervisor
from task_runners.valkey import EmbeddedValkey
from tests.servers.place import Place, wait_until
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
    place: Place,
    fallback: str,
    *groups: str,
    is_lost: bool = False,
    is_gone: bool = False,
    is_handed_over: bool = False,
    is_killed: bool = False,
    seconds: float = UNSERVED_AFTER_S,
) -> tuple[str, list[str]]:
    """Return the state of an execution whose task waits for `gpu`, and the queues rung for, `seconds` later.

    With `is_lost` a worker took its run before, and was lost; with `is_handed_over` its job goes on without it. With
    `is_gone` nobody knows its flow any more.
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
    if is_lost or is_handed_over:
        _lose(place, execution.id, has_job=is_handed_over)
    if is_killed:
        local.engine.kill(execution.id)
    rings.runs.clear()
    later = place.host.clock() + timedelta(seconds=seconds + 1)
    object.__setattr__(local.engine.host, "clock", lambda: later)
    if is_gone:
        local.engine.catalogue = Catalogue(fresh_store(f"sqlite:///{place.folder / 'empty.db'}", durability="off"))
    sweeper = Sweeper(local.engine, Effects(local.engine), own_worker=lambda: "", refuse=local.worker.refuse)
    sweeper.ring_again(1.0)
    found = place.store.read(lambda db: db.executions.get(execution.id))
    assert found is not None
    return found.state.value, rings.runs


def _lose(place: Place, execution_id: str, *, has_job: bool) -> None:
    loaded = place.store.read(lambda db: db.executions.load(execution_id))
    assert loaded is not None
    (run,) = loaded.runs
    now = place.host.clock()
    taken = place.store.write(lambda db: db.claims.claim(run.id, run.epoch, "gone", now))
    assert taken is not None
    if has_job:
        place.store.write(lambda db: db.claims.save_handle(taken.id, taken.epoch, {"runner": "x", "id": "1"}))
        place.store.write(lambda db: db.claims.hand_over(taken.id, taken.epoch, now))
    else:
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


@pytest.mark.parametrize(
    ("fallback", "is_killed", "seconds", "state", "rung"),
    [
        ("WAIT", False, UNFOLLOWED_AFTER_S, "RUNNING", ["tasks.gpu"]),
        ("FAIL", False, UNSERVED_AFTER_S, "RUNNING", ["tasks.gpu"]),
        ("FAIL", False, UNFOLLOWED_AFTER_S, "FAILED", ["tasks.gpu"]),
        ("CANCEL", False, UNFOLLOWED_AFTER_S, "KILLED", ["tasks.gpu"]),
        ("IGNORE", False, UNSERVED_AFTER_S, "RUNNING", ["tasks.gpu"]),
        ("IGNORE", False, UNFOLLOWED_AFTER_S, "RUNNING", ["tasks"]),
        ("WAIT", True, UNSERVED_AFTER_S, "KILLED", ["tasks.gpu"]),
    ],
)
def test_a_job_whose_group_is_gone_is_followed_ended_or_waited_for_as_its_task_says(
    place: Place, fallback: str, seconds: float, state: str, rung: list[str], *, is_killed: bool
) -> None:
    assert _swept(place, fallback, "other", is_handed_over=True, is_killed=is_killed, seconds=seconds) == (state, rung)


def test_a_group_that_nobody_serves_is_rung_for_once_a_minute(place: Place) -> None:
    local = place.engine()
    rings = Rings(local)
    execution = local.engine.create(NewExecution("team", place.deploy(FLOW.format(fallback="WAIT"), "work")))
    local.engine.advancer.advance([execution.id])
    moment = [0.0]
    sweeper = Sweeper(
        local.engine, Effects(local.engine), own_worker=lambda: "", is_rung=lambda _: True, monotonic=lambda: moment[0]
    )

    def rung_after(seconds: float) -> int:
        moment[0] += seconds
        rings.runs.clear()
        sweeper.ring_again(0)
        return len(rings.runs)

    assert [rung_after(seconds) for seconds in (0, 5, 30, 30, 5)] == [1, 0, 0, 1, 0]


def test_any_number_of_groups_is_rung_for_by_one_thread(tmp_path: Path) -> None:
    names = [f"tasks.g{number}" for number in range(50)]
    with Supervisor() as supervisor:
        server = EmbeddedValkey(tmp_path, supervisor).start()
        with closing(DoorbellBroker(server.url)) as broker:
            ringer = Ringer(broker, "ring-tasks", cap=None, burst=1)
            before = threading.active_count()
            ringer.start(_rung)
            ringer.ring((name, ("run", 1, name)) for name in names)
            wait_until(lambda: all(broker.depth(name) for name in names), "a message in each list")
            threads, lives = threading.active_count() - before, [broker.client.ttl(broker.key(name)) for name in names]
            ringer.stop()
        server.stop()

    assert threads == 1
    assert all(0 < each <= 3_600 for each in lives)
    assert broker.queues == set()


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
