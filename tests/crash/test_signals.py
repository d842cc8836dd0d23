"""SIGTERM and SIGINT under load: drained within the grace, exit code 0, and nothing of it is left behind."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import closing

import pytest

from tests.crash.flows import body_flow
from tests.crash.ledger import Ledger
from tests.crash.test_server import assert_all_done_once, load
from tests.servers.embedded import Server
from tests.servers.program import descendants, is_running, processes_with, wait_until


def left_over(server: Server, before: list[int]) -> list[str]:
    """Return what is left of a server that has ended: processes it had, processes that name its folder, its socket."""
    left = [f"process {pid}" for pid in before if is_running(pid)]
    left += [f"process {pid}: {command}" for pid, command in processes_with(str(server.folder)).items()]
    return left + ([str(server.socket)] if server.socket.exists() else [])


@pytest.mark.timeout(300)
def test_a_server_that_is_asked_to_end_under_load_drains_and_leaves_nothing(
    make_server: Callable[..., Server], ledger: Ledger
) -> None:
    server = make_server().start()
    accepted = load(server, ledger, 60, seconds=0.3)
    wait_until(lambda: ledger.open_attempts() > 2, "bodies under way")
    before = descendants(server.pid)

    code = server.stop(signal.SIGTERM, seconds=60)

    assert code == 0, server.log
    assert ledger.open_attempts() == 0  # what ran came to its end
    assert left_over(server, before) == []
    server.start()
    server.wait_for_end(60, 120)
    assert_all_done_once(server, ledger, accepted)
    assert {line.epoch for line in ledger.lines()} == {1}  # and nothing of it ran twice


@pytest.mark.timeout(120)
def test_a_body_that_ignores_sigterm_does_not_keep_the_server_from_ending(
    make_server: Callable[..., Server], ledger: Ledger
) -> None:
    server = make_server(MAINSTEM_GRACE_PERIOD_S="1").start()
    server.api.deploy(body_flow(ledger, "trap '' TERM INT; while :; do sleep 1; done"))
    (execution_id,) = server.api.execute(["body"])
    wait_until(ledger.begun, "the body")
    before = descendants(server.pid)
    asked = time.monotonic()

    code = server.stop(signal.SIGTERM, seconds=60)

    assert code == 0, server.log
    assert time.monotonic() - asked < 60
    assert left_over(server, before) == []
    with closing(server.open_store()) as store:
        (run,) = store.read(lambda db: db.executions.runs(execution_id))
    assert (run.state.value, run.result, run.epoch) == ("SUBMITTED", None, 1)  # handed back, to run again


@pytest.mark.timeout(120)
def test_a_server_that_is_asked_to_end_while_it_starts_ends_in_good_order(make_server: Callable[..., Server]) -> None:
    server = make_server()
    server.launch()
    wait_until((server.home / "lock").exists, "the lock of the home")
    before = descendants(server.pid)

    code = server.stop(signal.SIGTERM)

    assert code == 0, server.log
    assert left_over(server, before) == []


@pytest.mark.timeout(120)
def test_a_second_interrupt_ends_a_drain(make_server: Callable[..., Server], ledger: Ledger) -> None:
    server = make_server(MAINSTEM_GRACE_PERIOD_S="600").start()
    server.api.deploy(body_flow(ledger, "sleep 600"))
    server.api.execute(["body"])
    wait_until(ledger.begun, "the body")
    before = descendants(server.pid)

    server.process.send_signal(signal.SIGINT)
    wait_until(lambda: "draining" in server.log, "the drain")
    is_waiting = server.process.poll() is None
    code = server.stop(signal.SIGINT, seconds=60)

    assert is_waiting
    assert code == 0, server.log
    assert left_over(server, before) == []


@pytest.mark.timeout(120)
def test_a_killed_server_takes_its_bodies_and_its_broker_with_it(
    make_server: Callable[..., Server], ledger: Ledger
) -> None:
    server = make_server().start()
    server.api.deploy(body_flow(ledger, "trap '' TERM; setsid sleep 600 & sleep 600"))
    server.api.execute(["body"])
    wait_until(ledger.begun, "the body")
    before = descendants(server.pid)

    server.kill()

    assert len(before) > 3  # supervisor, broker, keeper, body
    wait_until(lambda: not [pid for pid in before if is_running(pid)], "the end of all its processes")
    wait_until(lambda: not processes_with(str(server.folder)), "the end of what they started")
