from __future__ import annotations

import contextlib
import os
import resource
import signal
import threading
import time
from pathlib import Path

import pytest

from task_runners.errors import TaskRunnerError
from task_runners.supervisor import Body, BodyEnd, Supervisor, shared_supervisor
from tests.servers.program import wait_until

ENV = {"PATH": "/usr/bin:/bin"}


def _start(supervisor: Supervisor, *argv: str) -> Body:
    return supervisor.start_body(argv, env=ENV, cwd=Path("/"))


def _run(supervisor: Supervisor, script: str) -> tuple[bytes, BodyEnd | None]:
    body = _start(supervisor, "sh", "-c", script)
    try:
        end = body.wait(60)
        return os.read(body.stdout, 1000), end
    finally:
        body.close()


def test_a_body_runs_and_its_end_is_told_to_everybody_who_asks() -> None:
    with Supervisor() as supervisor:
        body = _start(supervisor, "sh", "-c", "exit 5")
        ends: list[BodyEnd | None] = []
        threads = [threading.Thread(target=lambda: ends.append(body.wait(60))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        body.close()

    assert [end.exit_code for end in ends if end is not None] == [5, 5, 5]


@pytest.mark.parametrize("left", range(8))
def test_a_start_that_misses_descriptors_leaves_none_behind(left: int) -> None:
    with Supervisor() as supervisor:
        _run(supervisor, "true")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        before = _open_descriptors()
        resource.setrlimit(resource.RLIMIT_NOFILE, (_lowest_free() + left, hard))
        try:
            with contextlib.suppress(TaskRunnerError):
                _start(supervisor, "true").close()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        after = _open_descriptors()

    assert after - before == set()


def _open_descriptors() -> set[str]:
    listed = list(Path("/proc/self/fd").iterdir())  # that of the list itself is closed by now
    return {f"{each.name} {each.readlink()}" for each in listed if each.is_symlink()}


def _lowest_free() -> int:
    descriptor = os.open("/", os.O_RDONLY)
    os.close(descriptor)
    return descriptor


def test_waiting_gives_up_after_its_time() -> None:
    with Supervisor() as supervisor:
        body = _start(supervisor, "sleep", "60")
        began = time.monotonic()

        end = body.wait(0.1)

        assert end is None
        assert time.monotonic() - began < 30
        body.close()


def test_closing_a_body_kills_it() -> None:
    with Supervisor() as supervisor:
        body = _start(supervisor, "sleep", "60")
        process = os.pidfd_open(body.pid)

        body.close()

        deadline = time.monotonic() + 30
        while Path(f"/proc/{body.pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(ProcessLookupError):
            signal.pidfd_send_signal(process, 0)
        os.close(process)


def test_closing_the_supervisor_ends_every_body_and_its_own_processes() -> None:
    supervisor = Supervisor().start()
    bodies = [_start(supervisor, "sleep", "60") for _ in range(5)]
    pid = supervisor.pid

    supervisor.close()

    assert not Path(f"/proc/{pid}").exists()
    assert [Path(f"/proc/{body.pid}").exists() for body in bodies] == [False] * 5
    ends = [body.wait(60) for body in bodies]
    assert [end.lost for end in ends if end is not None] == [True] * 5
    for body in bodies:
        body.close()


def test_no_body_starts_after_the_close() -> None:
    supervisor = Supervisor().start()
    supervisor.close()

    with pytest.raises(TaskRunnerError) as caught:
        _start(supervisor, "true")

    assert caught.value.code == "runner.supervisor.closed"


def test_signals_for_the_whole_terminal_do_not_reach_bodies() -> None:
    with Supervisor() as supervisor:
        assert supervisor.pid is not None
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            _run(supervisor, "true")
            os.kill(supervisor.pid, number)

        output, end = _run(supervisor, "echo alive; ps -o sid= -p $$ | tr -d ' '; echo $$")

    alive, session, process = output.split()
    assert (alive, session == process, end is not None and end.exit_code) == (b"alive", True, 0)


def test_a_supervisor_that_was_killed_starts_again_with_the_next_body() -> None:
    with Supervisor() as supervisor:
        for _ in range(5):
            first = supervisor.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)

            output, _ = _run(supervisor, "echo again")

            assert output == b"again\n"
            assert supervisor.pid not in {None, first}


def test_many_threads_start_bodies_at_once() -> None:
    outputs: list[bytes] = []
    with Supervisor() as supervisor:

        def some(name: int) -> None:
            outputs.extend(_run(supervisor, f"echo {name}.{number}")[0] for number in range(10))

        threads = [threading.Thread(target=some, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    assert sorted(outputs) == sorted(b"%d.%d\n" % (name, number) for name in range(8) for number in range(10))


def test_no_descriptor_is_left_open() -> None:
    with Supervisor() as supervisor:
        _run(supervisor, "true")
        before = set(Path("/proc/self/fd").iterdir())

        for _ in range(20):
            _run(supervisor, "true")
            with pytest.raises(TaskRunnerError):
                _start(supervisor, "no-such-program")

        # What other tests left behind in this process may open some for a moment, and close some for ever.
        wait_until(lambda: set(Path("/proc/self/fd").iterdir()) <= before, "no new descriptor")


def test_the_shared_supervisor_is_one_until_it_is_closed() -> None:
    first = shared_supervisor()

    assert shared_supervisor() is first
    first.close()
    assert shared_supervisor() is not first
    assert _run(shared_supervisor(), "echo new")[0] == b"new\n"
