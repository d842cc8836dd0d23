"""`mainstem up`, killed under load as a whole and in parts: nothing is lost, nothing is done twice at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import closing
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest

from tests.crash.flows import BODIES_EACH, loop_flow, parallel_flow
from tests.crash.ledger import Ledger
from tests.servers.embedded import Server
from tests.servers.outcome import outcome_of
from tests.servers.program import descendants, wait_until

# A claim that takes a run under whatever epoch it has, also from whoever is carrying it out.
WITHOUT_EPOCHS = """
import sqlalchemy as sa
from runner.store import schema
from runner.store.claims import Claims

runs, checked = schema.task_runs, Claims.claim

def claim(self, task_run_id, epoch, worker_id, now):
    taken = sa.update(runs).where(runs.c.id == task_run_id, runs.c.state == "RUNNING", runs.c.result.is_(None))
    self._db.change(taken.values(state="SUBMITTED"))
    found = self._db.query(sa.select(runs.c.epoch).where(runs.c.id == task_run_id))
    return checked(self, task_run_id, found[0][0], worker_id, now) if found else None

Claims.claim = claim
"""


def load(server: Server, ledger: Ledger, count: int, seconds: float = 0.05) -> list[str]:
    """Deploy the flows, start executions of both, and return their ids."""
    server.api.deploy(loop_flow(ledger, seconds), parallel_flow(ledger, seconds))
    return server.api.execute(islice(cycle(["loop", "sides"]), count))


def assert_all_done_once(server: Server, ledger: Ledger, accepted: list[str]) -> None:
    """Stop the server, and see that each accepted execution succeeded with one result for each body."""
    assert server.stop() == 0, server.log
    with closing(server.open_store()) as store:
        outcome = outcome_of(store)
    assert outcome.ids == sorted(accepted)
    assert outcome.states == {"SUCCESS"}
    assert outcome.bodies == [BODIES_EACH] * len(accepted)
    assert outcome.faults == ledger.overlaps() == ledger.unfinished() == []


def ring_twice(server: Server, queue: str = "mainstem:tasks") -> int:
    """Put each message that waits in the broker beside a copy of itself; give how many there were."""
    with server.broker() as broker:
        waiting: Any = broker.lrange(queue, 0, -1)
        twice = [message for each in waiting for message in (each, each)]
        if twice:
            broker.delete(queue)
            broker.rpush(queue, *twice)
        return len(waiting)


def killed_at_work(server: Server, ledger: Ledger) -> bool:
    """Kill the server while bodies run; return whether it bit: a busy machine may end all that were seen before."""
    wait_until(lambda: ledger.open_attempts() > 2, "bodies under way")
    server.kill()
    return ledger.open_attempts() > 0


@pytest.mark.timeout(300)
def test_a_killed_server_finishes_all_200_executions_after_its_restart(
    make_server: Callable[..., Server], ledger: Ledger
) -> None:
    server = make_server().start()
    accepted = load(server, ledger, 200)
    while not killed_at_work(server, ledger):
        server.start()

    server.start()
    server.wait_for_end(200, 200)

    assert_all_done_once(server, ledger, accepted)
    assert max(line.epoch for line in ledger.lines()) > 1
    assert "Traceback" not in server.log


@pytest.mark.timeout(300)
def test_messages_that_come_twice_are_carried_out_once(make_server: Callable[..., Server], ledger: Ledger) -> None:
    server = make_server().start()
    accepted = load(server, ledger, 24, seconds=0.2)

    doubled = wait_until(lambda: ring_twice(server), "messages that wait")
    server.wait_for_end(24, 120)

    assert doubled > 0
    assert_all_done_once(server, ledger, accepted)


@pytest.mark.timeout(300)
def test_these_tests_fail_without_the_check_of_epochs(make_server: Callable[..., Server], ledger: Ledger) -> None:
    server = make_server().start(code=WITHOUT_EPOCHS)
    load(server, ledger, 24, seconds=0.2)

    wait_until(lambda: ring_twice(server), "messages that wait")

    assert wait_until(ledger.overlaps, "an older attempt that writes after a newer one began")


@pytest.mark.timeout(300)
def test_a_broker_that_forgets_everything_and_is_killed_loses_nothing(
    make_server: Callable[..., Server], ledger: Ledger
) -> None:
    server = make_server().start()
    accepted = load(server, ledger, 60, seconds=0.1)
    wait_until(lambda: ledger.open_attempts() > 2, "bodies under way")

    with server.broker() as broker:
        broker.flushall()
        wait_until(lambda: ledger.begun() > 20, "more bodies")
        pid = int(broker.info("server")["process_id"])
    os.kill(pid, signal.SIGKILL)
    server.wait_for_end(60, 120)

    assert_all_done_once(server, ledger, accepted)


@pytest.mark.timeout(300)
def test_bodies_whose_supervisor_is_killed_run_again_and_the_server_goes_on(
    make_server: Callable[..., Server], ledger: Ledger
) -> None:
    server = make_server().start()
    accepted = load(server, ledger, 20, seconds=1)
    (supervisor,) = wait_until(lambda: [pid for pid in descendants(server.pid) if is_supervisor(pid)], "a supervisor")
    wait_until(lambda: ledger.open_attempts() > 2, "bodies under way")

    os.kill(supervisor, signal.SIGKILL)  # at once: to look for it takes as long as short bodies do
    server.wait_for_end(20, 120)

    assert_all_done_once(server, ledger, accepted)
    assert max(line.epoch for line in ledger.lines()) == 2


def is_supervisor(pid: int) -> bool:
    """Return whether a process is the one that forks the keepers: the first of its program. One that ended is not."""
    try:
        return "keeper.py" in _command_of(pid) and "keeper.py" not in _command_of(_parent_of(pid))
    except OSError:
        return False


def _command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def _parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.long
def test_a_server_that_is_killed_ten_times_loses_nothing(make_server: Callable[..., Server], ledger: Ledger) -> None:
    server = make_server().start()
    accepted = load(server, ledger, 400, seconds=0.2)
    for _ in range(10):
        before = len(ledger.lines())
        wait_until(lambda so_far=before: len(ledger.lines()) > so_far + 20, "progress")  # type: ignore[misc]  # bound now
        server.kill()
        server.start()

    server.wait_for_end(400, 600)

    assert_all_done_once(server, ledger, accepted)
