"""Workers that are killed, cut off, drained and taken for lost: the run goes on, and never twice at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runner.executions.creation import NewExecution
from runner.executions.effects import Effects
from runner.executions.models import Execution
from runner.key_values import MemoryKeyValues
from runner.local import LocalEngine
from runner.rules import RepositoryRules
from runner.services import Host
from runner.settings import Settings
from runner.states import State
from runner.store import Session
from runner.store.records import FlowDraft
from runner.stored_key_values import StoredKeyValues
from runner.sweeper import LOST_AFTER_S, STOPPED, Sweeper
from runner.worker import DRAINED, FENCE_S, MAX_LOSSES
from task_runners.supervisor import shared_supervisor
from tests.servers.busy_secrets import BusySecrets
from tests.servers.place import Place, wait_until
from tests.servers.store import fresh_store


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    settings = Settings(home=tmp_path / "home", work=tmp_path / "work")
    store = fresh_store(f"sqlite:///{tmp_path / 'state.db'}", durability="normal")
    host = Host.open(settings, MemoryKeyValues(), environment={"PATH": os.environ["PATH"]})
    opened: list[LocalEngine] = []
    yield Place(store, host, tmp_path, opened)
    for local in opened:
        if local._threads[0].is_alive():
            local.close()
    assert store.check() == []
    store.close()


def long_at_first(place: Place) -> str:
    """Return a command that is still at its beginning when its first attempt is disturbed, however late that is."""
    return f"{place.says('begin')}; test $MAINSTEM_EPOCH != 1 || sleep 100; {place.says('end')}"


def test_a_kill_that_another_process_decided_stops_the_body_with_the_next_heartbeat(place: Place) -> None:
    flow_id = place.flow(f"{place.says('begin')}; sleep 60")
    with place.engine() as worker:
        execution = worker.engine.create(NewExecution("team", flow_id))
        wait_until(place.said, "a body")

        place.engine().engine.kill(execution.id)
        worker.worker.beat()

        ended = worker.engine.wait(execution.id, 60)
    assert ended is not None
    assert ended.state is State.KILLED


def test_a_run_whose_result_could_not_be_written_is_run_again(place: Place) -> None:
    flow_id = place.flow(place.says("done"))
    other = place.engine()
    execution = other.engine.create(NewExecution("team", flow_id))
    other.engine.advancer.advance([execution.id])
    with place.engine() as worker:
        run, now = place.run_of(execution), place.host.clock()
        place.store.write(lambda db: db.claims.claim(run.id, run.epoch, worker.worker.id, now))

        worker.worker.beat()
        worker.worker.beat()

        ended = worker.engine.wait(execution.id, 60)
    assert ended is not None
    assert ended.state is State.SUCCESS
    assert place.said() == ["2 done"]


def test_a_worker_that_was_taken_for_lost_goes_on_under_another_name(place: Place) -> None:
    flow_id = place.flow(long_at_first(place))
    with place.engine() as worker:
        execution = worker.engine.create(NewExecution("team", flow_id))
        wait_until(place.said, "a body")
        before = worker.worker.id
        place.store.write(lambda db: db.workers.remove(before))

        worker.worker.beat()

        ended = worker.engine.wait(execution.id, 60)
        known = [row.id for row in place.store.read(lambda db: db.workers.all())]
    assert ended is not None
    assert ended.state is State.SUCCESS
    assert worker.worker.id != before
    assert known == [worker.worker.id]
    assert place.said() == ["1 begin", "2 begin", "2 end"]


def test_a_worker_that_cannot_reach_the_store_ends_its_bodies(place: Place) -> None:
    flow_id = place.flow(long_at_first(place))
    with place.engine() as worker:
        execution = worker.engine.create(NewExecution("team", flow_id))
        wait_until(place.said, "a body")

        worker.worker._beaten_at -= FENCE_S
        worker.worker.fence()

        ended = worker.engine.wait(execution.id, 60)
    assert ended is not None
    assert ended.state is State.SUCCESS
    assert place.said() == ["1 begin", "2 begin", "2 end"]


def test_a_heartbeat_that_arrived_keeps_bodies_running(place: Place) -> None:
    flow_id = place.flow(f"{place.says('begin')}; sleep 0.3; {place.says('end')}")
    with place.engine() as worker:
        execution = worker.engine.create(NewExecution("team", flow_id))
        wait_until(place.said, "a body")

        worker.worker._beaten_at -= FENCE_S
        worker.worker.beat()
        worker.worker.fence()

        worker.engine.wait(execution.id, 60)
    assert place.said() == ["1 begin", "1 end"]


def test_a_run_is_handed_back_only_when_its_body_is_gone(place: Place) -> None:
    waits = 'while [ -z "$told" ]; do sleep 0.1 || :; done; sleep 0.5; sleep 0.5'
    stubborn = f"trap told=1 TERM; {place.says('begin')}; {waits}; {place.says('end')}"
    flow_id = place.flow(f"'{stubborn}'")
    with place.engine() as worker:
        execution = worker.engine.create(NewExecution("team", flow_id))
        wait_until(place.said, "a body")

        worker.worker.drain(0)

        run = place.run_of(execution)
    assert place.said() == ["1 begin", "1 end"]
    assert (run.state, run.result, run.epoch) == (State.SUBMITTED, None, 1)
    assert run.histories[-1][1].timestamp() >= place.ledger.stat().st_mtime


def test_a_body_whose_supervisor_was_killed_runs_again(place: Place) -> None:
    flow_id = place.flow(long_at_first(place))
    with place.engine() as worker:
        execution = worker.engine.create(NewExecution("team", flow_id))
        wait_until(place.said, "a body")

        supervisor = shared_supervisor().pid
        assert supervisor is not None
        os.kill(supervisor, signal.SIGKILL)

        ended = worker.engine.wait(execution.id, 60)
    assert ended is not None
    assert ended.state is State.SUCCESS
    assert place.said() == ["1 begin", "2 begin", "2 end"]


def _lose(place: Place, execution: Execution, reason: str) -> None:
    """Claim the run of an execution and give it back, as a worker of before did."""
    run, now = place.run_of(execution), place.host.clock()

    def write(db: Session) -> bool:
        claimed = db.claims.claim(run.id, run.epoch, "of before", now)
        return claimed is not None and db.claims.release(run.id, claimed.epoch, now, reason)

    assert place.store.write(write)


@pytest.mark.parametrize(("reason", "state"), [(DRAINED, State.SUCCESS), (STOPPED, State.FAILED)])
def test_workers_that_were_lost_make_a_body_poison_and_drained_ones_do_not(
    place: Place, reason: str, state: State
) -> None:
    other = place.engine()
    execution = other.engine.create(NewExecution("team", place.flow(place.says("done"))))
    other.engine.advancer.advance([execution.id])
    for _ in range(MAX_LOSSES):
        _lose(place, execution, reason)

    with place.engine() as worker:
        run = place.run_of(execution)
        worker.ring_runs([(run.id, run.epoch, run.queue)])
        ended = worker.engine.wait(execution.id, 60)

    assert ended is not None
    assert ended.state is state


def test_what_a_worker_holds_that_nobody_knows_is_taken_back(place: Place) -> None:
    now_s = 100.0
    local = place.engine()
    sweeper = Sweeper(local.engine, Effects(local.engine), own_worker=lambda: "mine", monotonic=lambda: now_s)
    execution = local.engine.create(NewExecution("team", place.flow(place.says("done"))))
    local.engine.advancer.advance([execution.id])
    run, now = place.run_of(execution), place.host.clock()
    place.store.write(lambda db: db.claims.claim(run.id, run.epoch, "nobody", now))

    sweeper.watch_workers()
    before = place.run_of(execution).state
    now_s += LOST_AFTER_S + 1
    sweeper.watch_workers()

    assert before is State.RUNNING
    assert place.run_of(execution).state is State.SUBMITTED


def test_a_store_that_is_away_does_not_fail_the_task_that_needs_it(place: Place) -> None:
    away = fresh_store(f"sqlite:///{place.folder / 'away.db'}")
    away.close()
    place.host = replace(place.host, kv=StoredKeyValues(away, place.host.clock))
    source = "id: reads\nnamespace: team\ntasks:\n  - {id: get, type: core.kv.Get, key: a}\n"
    draft = FlowDraft("team", "reads", "b" * 40, source, datetime.now(UTC), "default", "c" * 40, "flows/x.yaml")
    place.store.write(lambda db: db.flows.put(draft))

    with place.engine() as worker:
        execution = worker.engine.create(NewExecution("team", "reads"))
        wait_until(lambda: place.runs_of(execution) and place.run_of(execution).losses > MAX_LOSSES, "further attempts")
        state = worker.engine.get(execution.id).state
        worker.engine.kill(execution.id)
        worker.engine.wait(execution.id, 60)

    assert state is State.RUNNING


CODED = """\
id: coded
namespace: team
errors:
  - {id: late, type: scripts.shell.Commands, commands: [":"], timeout: "{{ 'soon' }}"}
tasks:
  - {id: forbidden, type: core.kv.Get, key: a}
"""


def test_the_code_of_an_error_that_ends_a_task_is_kept_with_its_attempt(place: Place) -> None:
    rules = RepositoryRules.of_json({"policies": [{"tasks": ["scripts.*"]}]})
    place.host = replace(place.host, rules_of=lambda _environment: rules)
    place.deploy(CODED, "coded")

    with place.engine() as worker:
        execution = worker.engine.create(NewExecution("team", "coded"))
        worker.engine.wait(execution.id, 60)

    names = {run.id: run.task_id for run in place.runs_of(execution)}
    attempts = place.store.read(lambda db: db.executions.attempts(execution.id))
    assert {names[each.task_run_id]: each.failure_reason for each in attempts if each.failure_reason} == {
        "forbidden": "flow.task.forbidden",
        "late": "duration.invalid",
    }


@pytest.mark.parametrize(("messages", "seconds", "rings"), [(0, 6, 1), (0, 4, 0), (3, 6, 0), (3, 61, 1)])
def test_what_nobody_answered_is_rung_again_unless_messages_still_wait(
    place: Place, messages: int, seconds: int, rings: int
) -> None:
    local = place.engine()
    execution = local.engine.create(NewExecution("team", place.flow(place.says("done"))))
    local.engine.advancer.advance([execution.id])
    later = place.host.clock() + timedelta(seconds=seconds)
    place.host = replace(place.host, clock=lambda: later)
    observer = place.engine()
    sweeper = Sweeper(observer.engine, observer.effects, own_worker=lambda: "mine", messages=lambda _kind: messages)

    sweeper.run_once()

    assert observer._runs.qsize() == rings


def test_a_body_that_meets_a_store_without_a_connection_to_spare_runs_again(place: Place) -> None:
    flow_id = place.flow("""'test "{{ secret("KEY") }}" = s3cret'""")
    place.host.secrets._backends = (BusySecrets(),)

    with place.engine() as worker:
        ended = worker.engine.wait(worker.engine.create(NewExecution("team", flow_id)).id, 60)

    assert ended is not None
    assert ended.state is State.SUCCESS
