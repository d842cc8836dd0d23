"""What only local bodies do: a clean environment, users, and that nothing of them stays, whoever is killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from task_runners.base import FailureReason, Limits, Phase, RunnerContext, TaskRunnerError, TaskSpec, WorkDir
from task_runners.process import Process
from task_runners.supervisor import Supervisor

if TYPE_CHECKING:
    from tests.contract.task_runners.conftest import Bench

_ESCAPE = """
(setsid sh -c 'sleep {0}.1 >/dev/null 2>&1 &' &)
(nohup sh -c 'setsid sleep {0}.2 & sleep {0}.3' >/dev/null 2>&1 &)
"""
as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can start bodies as another user")


@pytest.fixture
def mark() -> int:
    """Give how many seconds the sleepers of this test sleep: no other run of the tests on this machine has such."""
    return random.SystemRandom().randrange(10_000, 90_000)  # `random` itself is seeded alike in all processes of a run


def _running(mark: int) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:1] == [b"sleep"] and words[1].startswith(b"%d." % mark):
            found.append(entry.name)
    return found


def _within(seconds: float, condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_what_escapes_from_a_body_ends_with_it(process_bench: Bench, mark: int, tmp_path: Path) -> None:
    seen: list[bool] = []
    gate = tmp_path / "gate"

    def on_line(_line: object) -> None:
        seen.append(_within(30, lambda: len(_running(mark)) == 3))
        gate.touch()

    script = _ESCAPE.format(mark) + f"echo now; until [ -e {gate} ]; do sleep 0.01; done"
    spec = process_bench.spec("sh", "-c", script)
    result = process_bench.runner.run(spec, process_bench.workdir, process_bench.context(on_line=on_line))

    assert (result.status, seen, _running(mark)) == (Phase.SUCCEEDED, [True], [])


def test_what_escapes_from_a_body_ends_on_a_cancel(process_bench: Bench, mark: int) -> None:
    seen: list[bool] = []

    def on_line(_line: object) -> None:
        seen.append(_within(30, lambda: len(_running(mark)) == 3))
        process_bench.cancelled.set()

    spec = process_bench.spec("sh", "-c", "trap '' TERM;" + _ESCAPE.format(mark) + "echo now; sleep 60")
    spec = TaskSpec(spec.command, spec.task_run_id, grace=timedelta(seconds=0.2))
    result = process_bench.runner.run(spec, process_bench.workdir, process_bench.context(on_line=on_line))

    assert (result.status, seen, _running(mark)) == (Phase.CANCELLED, [True], [])


def test_a_body_that_holds_its_output_open_elsewhere_does_not_keep_the_attempt(process_bench: Bench, mark: int) -> None:
    result = process_bench.run(f"setsid sleep {mark}.1 & echo done")

    assert (result.status, process_bench.texts(), _running(mark)) == (Phase.SUCCEEDED, ["done"], [])


@as_root
def test_a_fork_bomb_is_ended(process_bench: Bench) -> None:
    process_bench.cancelled.clear()
    threading.Timer(1.0, process_bench.cancelled.set).start()
    spec = process_bench.spec(
        "sh", "-c", "bomb() { bomb | bomb & }; bomb; sleep 60", uid=200_444, limits=Limits(processes=60)
    )
    spec = TaskSpec(spec.command, spec.task_run_id, uid=spec.uid, limits=spec.limits, grace=timedelta(seconds=0.1))

    result = process_bench.runner.run(spec, process_bench.workdir, process_bench.context())

    assert result.status in {Phase.CANCELLED, Phase.FAILED}
    assert not [entry for entry in Path("/proc").iterdir() if entry.name.isdigit() and _uid(entry) == 200_444]


def _uid(entry: Path) -> int | None:
    try:
        return entry.stat().st_uid
    except OSError:
        return None


def test_the_supervisor_killed_loses_its_bodies_and_the_next_one_runs(process_bench: Bench, mark: int) -> None:
    with Supervisor() as supervisor:
        process_bench.runner = Process().under(supervisor)

        def on_line(_line: object) -> None:
            pid = supervisor.pid
            if pid is not None and not killed:
                assert _within(30, lambda: len(_running(mark)) == 3)
                killed.append(pid)
                os.kill(pid, signal.SIGKILL)

        killed: list[int] = []
        spec = process_bench.spec("sh", "-c", _ESCAPE.format(mark) + "echo now; sleep 60")
        lost = process_bench.runner.run(spec, process_bench.workdir, process_bench.context(on_line=on_line))
        again = process_bench.run("echo again")

        assert (lost.status, lost.failure_reason) == (Phase.LOST, FailureReason.LOST)
        assert (again.status, process_bench.texts()) == (Phase.SUCCEEDED, ["again"])
        assert _within(30, lambda: _running(mark) == [])


def test_a_keeper_killed_loses_its_body_only(process_bench: Bench, mark: int) -> None:
    def on_line(_line: object) -> None:
        assert _within(30, lambda: len(_running(mark)) == 1)
        body = int(_running(mark)[0])
        keeper = int(Path(f"/proc/{body}/stat").read_text().rsplit(")", 1)[1].split()[1])
        os.kill(keeper, signal.SIGKILL)

    spec = process_bench.spec("sh", "-c", f"echo now; exec sleep {mark}.0")
    ctx = process_bench.context(on_line=on_line)
    lost = process_bench.runner.run(spec, process_bench.workdir, ctx)
    again = process_bench.run("echo again")

    assert (lost.status, again.status) == (Phase.LOST, Phase.SUCCEEDED)
    assert _within(30, lambda: _running(mark) == [])


def test_the_server_killed_leaves_nothing(tmp_path: Path, mark: int) -> None:
    program = f"""
import sys
from pathlib import Path
from task_runners.base import RunnerContext, TaskSpec, WorkDir
from task_runners.process import Process
spec = TaskSpec(("sh", "-c", {_ESCAPE.format(mark)!r} + "echo now; sleep {mark}.9"), "server")
Process().run(spec, WorkDir(Path({str(tmp_path)!r})), RunnerContext(on_line=lambda line: print(line.text, flush=True)))
"""
    server = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == b"now\n"
        assert _within(30, lambda: len(_running(mark)) == 4)
    finally:
        server.kill()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()

    assert _within(30, lambda: _running(mark) == [])


def test_the_environment_is_clean(process_bench: Bench) -> None:
    process_bench.environment = {
        "PATH": f"{sys.prefix}/bin:/usr/bin:/bin",
        "TZ": "Europe/Berlin",
        "MAINSTEM_SECRET": "not for bodies",
        "VIRTUAL_ENV": sys.prefix,
    }

    process_bench.run("env | sort", env={"MINE": "1"})

    home = process_bench.workdir.private
    assert [text for text in process_bench.texts() if not text.startswith(("PWD=", "SHLVL=", "_=", "OLDPWD="))] == [
        f"HOME={home}/home",
        "LANG=C.UTF-8",
        "MINE=1",
        "PATH=/usr/bin:/bin",
        f"TMPDIR={home}/tmp",
        "TZ=Europe/Berlin",
        f"WORKING_DIR={process_bench.workdir.path}",
    ]


def test_a_body_gets_nothing_of_ours_but_its_three_streams(process_bench: Bench) -> None:
    process_bench.run("ls /proc/self/fd; readlink /proc/self/fd/0; grep -E 'SigIgn|SigBlk' /proc/self/status")

    *descriptors, stdin, blocked, ignored = process_bench.texts()
    assert (descriptors, stdin) == (["0", "1", "2", "3"], "/dev/null")  # 3 is the directory that `ls` reads
    # Signals 32 and 33 belong to the C library, which lets no program change them.
    changeable = ~(0b11 << 31)
    assert [int(mask.split()[1], 16) & changeable for mask in (blocked, ignored)] == [0, 0]


@as_root
def test_a_body_of_another_user_owns_its_directory_and_reads_nothing_of_ours(
    process_bench: Bench, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    canary.write_text("secret of the server")
    canary.chmod(0o600)

    result = process_bench.run(
        f"id -u; id -G; echo x > mine; cat {canary} || echo denied; cat /proc/$PPID/environ >/dev/null || echo denied",
        uid=200_321,
        output_globs=("mine",),
    )

    assert process_bench.texts("stdout") == ["200321", "200321", "denied", "denied"]
    assert result.output_files["mine"].stat().st_uid == 200_321


@as_root
def test_a_program_that_the_user_may_not_execute_is_named(process_bench: Bench, tmp_path: Path) -> None:
    program = tmp_path / "tool"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)

    with pytest.raises(TaskRunnerError, match="tool") as caught:
        process_bench.runner.run(
            process_bench.spec(str(program), uid=200_321), process_bench.workdir, process_bench.context()
        )

    assert caught.value.code == "runner.interpreter.denied"


def test_a_script_whose_interpreter_is_missing_says_so(process_bench: Bench) -> None:
    program = process_bench.workdir.path / "tool"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)

    with pytest.raises(TaskRunnerError) as caught:
        process_bench.runner.run(process_bench.spec("./tool"), process_bench.workdir, process_bench.context())

    assert caught.value.code == "runner.interpreter.missing"


def test_a_working_directory_that_is_gone_is_named(process_bench: Bench) -> None:
    workdir = WorkDir(process_bench.workdir.path / "sub")
    workdir.path.mkdir()
    spec = process_bench.spec("true")
    ctx = process_bench.context(save_handle=lambda _handle: subprocess.run(["rm", "-r", str(workdir.path)], check=True))

    with pytest.raises(TaskRunnerError, match=r"No such file or directory \(cwd\)") as caught:
        process_bench.runner.run(spec, workdir, ctx)

    assert caught.value.code == "runner.start.failed"


def test_arguments_of_a_hundred_kilobytes_arrive(process_bench: Bench) -> None:
    long = "ä" * 60_000

    process_bench.runner.run(
        process_bench.spec("sh", "-c", "echo ${#1} $#; echo $BIG | wc -c", "sh", long, env={"BIG": "x" * 120_000}),
        process_bench.workdir,
        process_bench.context(),
    )

    assert [text.strip() for text in process_bench.texts()] in (["60000 1", "120001"], ["120000 1", "120001"])


def test_arguments_that_the_system_cannot_take_are_named(process_bench: Bench) -> None:
    with pytest.raises(TaskRunnerError) as caught:
        process_bench.runner.run(
            process_bench.spec("echo", "x" * 200_000), process_bench.workdir, process_bench.context()
        )

    assert caught.value.code == "runner.command.too_long"


def test_a_memory_limit_holds(process_bench: Bench) -> None:
    result = process_bench.run("exec tail /dev/zero", limits=Limits(memory_bytes=64 * 1024**2))

    assert result.status is Phase.FAILED
    assert (result.usage.peak_memory_bytes or 0) < 80 * 1024**2


def test_what_a_body_used_is_told(process_bench: Bench) -> None:
    result = process_bench.run("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")

    assert (result.usage.cpu_seconds or 0) > 0.02
    assert (result.usage.peak_memory_bytes or 0) > 1024**2


def test_the_runner_starts_a_supervisor_where_none_was_given(workdir: WorkDir) -> None:
    texts: list[str] = []
    ctx = RunnerContext(on_line=lambda line: texts.append(line.text))

    result = Process().run(TaskSpec(("echo", "alone"), "alone"), workdir, ctx)

    assert (result.status, texts) == (Phase.SUCCEEDED, ["alone"])


_GIVES_AWAY = """
import array, socket, sys
there = socket.socket(socket.AF_UNIX)
there.connect(sys.argv[1])
print("mine", flush=True)
there.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [1]))])
"""


@pytest.mark.timeout(60)
def test_a_stranger_who_writes_into_the_log_for_ever_keeps_no_task(process_bench: Bench) -> None:
    address = str(process_bench.workdir.path / "door")
    over = threading.Event()

    def write() -> None:
        connection, _ = door.accept()
        _, found, _, _ = socket.recv_fds(connection, 1, 1)
        with connection, os.fdopen(found[0], "wb", buffering=0) as pipe:
            while not over.wait(0.01):
                with contextlib.suppress(BrokenPipeError):
                    pipe.write(b"theirs\n")

    with socket.socket(socket.AF_UNIX) as door:
        door.bind(address)
        door.listen()
        stranger = threading.Thread(target=write)
        stranger.start()

        spec = process_bench.spec(sys.executable, "-c", _GIVES_AWAY, address)
        result = process_bench.runner.run(spec, process_bench.workdir, process_bench.context())

        over.set()
        stranger.join()
    assert (result.status, process_bench.texts()[0]) == (Phase.SUCCEEDED, "mine")
