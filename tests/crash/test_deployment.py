"""Several processes on PostgreSQL, of which some are killed under load: nothing is lost or done twice at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import cycle, islice

import httpx
import psycopg
import pytest

from tests.crash.flows import BODIES_EACH, loop_flow, parallel_flow
from tests.crash.ledger import Ledger
from tests.servers.deployment import Deployment
from tests.servers.outcome import outcome_of
from tests.servers.program import descendants, is_running, wait_until


@pytest.fixture
def start(deployment: Deployment, activate: Callable[..., None], ledger: Ledger) -> Callable[..., Deployment]:
    """Start processes on a database that has the flows."""

    def start(*names: str) -> Deployment:
        activate(loop_flow(ledger, 0.05), parallel_flow(ledger, 0.05))
        deployment.start(*names)
        return deployment

    return start


def execute(deployment: Deployment, count: int) -> list[str]:
    return deployment.api.execute(islice(cycle(["loop", "sides"]), count))


def assert_all_done_once(deployment: Deployment, ledger: Ledger, accepted: list[str]) -> None:
    """Stop the processes, and see that each accepted execution succeeded with one result for each body."""
    codes = deployment.stop()
    assert set(codes.values()) == {0}, (codes, deployment.log[-6000:])
    with closing(deployment.open_store()) as store:
        outcome = outcome_of(store)
    assert set(accepted) <= set(outcome.ids)
    assert outcome.states == {"SUCCESS"}
    assert outcome.bodies == [BODIES_EACH] * len(outcome.ids)
    assert outcome.faults == ledger.overlaps() == ledger.unfinished() == []


def holds_claims(deployment: Deployment, pid: int) -> bool:
    with closing(deployment.open_store()) as store:
        workers = [row.id for row in store.read(lambda db: db.workers.all()) if row.pid == pid]
        return any(store.read(lambda db: [db.claims.owned_by(each) for each in workers]))


def killed_at_work(deployment: Deployment) -> bool:
    """Kill a worker that holds claims; return whether it still held some then."""
    worker = deployment["worker-1"]
    wait_until(lambda: holds_claims(deployment, worker.pid), "claims of the worker")
    worker.kill()
    return holds_claims(deployment, worker.pid)


@pytest.mark.timeout(300)
def test_the_work_of_a_killed_worker_is_done_by_the_other(start: Callable[..., Deployment], ledger: Ledger) -> None:
    started = start("serve", "worker-1", "worker-2", "scheduler")
    accepted = execute(started, 200)
    wait_until(lambda: ledger.open_attempts() > 4, "bodies under way")

    while not killed_at_work(started):
        started.start("worker-1")
    started.wait_for_end(200, 200)

    assert len(accepted) == 200
    assert_all_done_once(started, ledger, accepted)
    assert max(line.epoch for line in ledger.lines()) > 1


@pytest.mark.timeout(300)
def test_a_broker_that_forgets_everything_and_is_killed_loses_nothing(
    start: Callable[..., Deployment], ledger: Ledger
) -> None:
    started = start("serve", "worker-1")
    accepted = execute(started, 60)
    wait_until(lambda: ledger.open_attempts() > 2, "bodies under way")

    started.broker.flush()
    wait_until(lambda: ledger.begun() > 20, "more bodies")
    started.broker.kill()
    accepted += execute(started, 10)  # what is accepted meanwhile waits in the store
    started.broker.start()
    started.wait_for_end(70, 150)

    assert_all_done_once(started, ledger, accepted)


@pytest.mark.timeout(300)
def test_a_worker_that_is_asked_to_end_finishes_its_bodies_and_takes_no_more(
    start: Callable[..., Deployment], ledger: Ledger
) -> None:
    started = start("serve", "worker-1", "worker-2")
    accepted = execute(started, 60)
    wait_until(lambda: ledger.open_attempts() > 2, "bodies under way")
    before = descendants(started["worker-1"].pid)

    code = started["worker-1"].stop(signal.SIGTERM)
    started.wait_for_end(60, 120)

    assert code == 0, started["worker-1"].log
    assert not [pid for pid in before if is_running(pid)]
    assert_all_done_once(started, ledger, accepted)
    assert {line.epoch for line in ledger.lines()} == {1}  # nothing of it ran twice


@pytest.mark.timeout(300)
def test_what_a_killed_serve_acknowledged_is_executed(start: Callable[..., Deployment], ledger: Ledger) -> None:
    started = start("serve", "worker-1")
    accepted: list[str] = []

    def start_until_it_fails(flow_id: str) -> None:
        with started.api.client() as client:
            while True:
                try:
                    answer = client.post(f"/executions/crash/{flow_id}")
                except httpx.HTTPError:
                    return
                if answer.status_code == 200:
                    accepted.append(str(answer.json()["id"]))

    with ThreadPoolExecutor(4) as threads:
        for flow_id in ("loop", "sides", "loop", "sides"):
            threads.submit(start_until_it_fails, flow_id)
        wait_until(lambda: len(accepted) > 30, "acknowledged executions")
        started["serve"].kill()
    started.wait_for_end(len(accepted), 150)

    assert_all_done_once(started, ledger, accepted)


def cut_connections(deployment: Deployment) -> int:
    """Cut the connections of all processes to the database, as a failover does; give how many there were."""
    with psycopg.connect(deployment.database.replace("+psycopg", ""), autocommit=True) as admin:
        ours = "datname = current_database() AND pid <> pg_backend_pid()"
        return admin.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}").rowcount


@pytest.mark.timeout(300)
def test_a_database_that_cuts_its_connections_loses_nothing(start: Callable[..., Deployment], ledger: Ledger) -> None:
    started = start("serve", "worker-1", "worker-2")
    accepted = execute(started, 100)

    cuts = []
    for _ in range(5):
        before = ledger.begun()
        wait_until(lambda so_far=before: ledger.begun() > so_far + 8, "progress")  # type: ignore[misc]  # bound now
        cuts.append(cut_connections(started))
    started.wait_for_end(100, 150)

    assert min(cuts) > 2
    assert_all_done_once(started, ledger, accepted)


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_worker_that_was_frozen_beyond_its_lease_writes_nothing_more(
    start: Callable[..., Deployment], ledger: Ledger
) -> None:
    started = start("serve", "worker-1", "worker-2")
    accepted = execute(started, 200)
    wait_until(lambda: ledger.open_attempts() > 4, "bodies under way")
    frozen = started["worker-1"].pid

    os.kill(frozen, signal.SIGSTOP)
    wait_until(lambda: not holds_claims(started, frozen), "the taking back", 60)
    os.kill(frozen, signal.SIGCONT)
    started.wait_for_end(200, 300)

    codes = started.stop()
    with closing(started.open_store()) as store:
        outcome = outcome_of(store)
    assert set(codes.values()) == {0}
    assert outcome.ids == sorted(accepted)
    assert outcome.states == {"SUCCESS"}
    assert outcome.faults == ledger.unfinished() == []


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_workers_that_are_killed_in_turn_lose_nothing(start: Callable[..., Deployment], ledger: Ledger) -> None:
    started = start("serve", "worker-1", "worker-2")
    accepted = execute(started, 400)
    for number in range(6):
        before = len(ledger.lines())
        wait_until(lambda so_far=before: len(ledger.lines()) > so_far + 30, "progress")  # type: ignore[misc]  # bound now
        name = f"worker-{number % 2 + 1}"
        started[name].kill()
        started.start(name)

    started.wait_for_end(400, 600)

    assert_all_done_once(started, ledger, accepted)
