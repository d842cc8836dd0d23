"""Local bodies in control groups (v2) of the real kernel: each in its own, ended as a whole, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from task_runners.base import FailureReason, Limits, Phase, RunnerContext, TaskResult, TaskSpec, WorkDir
from task_runners.control_groups import ControlGroups, find_control_groups
from task_runners.process import Process
from task_runners.supervisor import Supervisor
from tests.servers.program import wait_until

# A process that left its parents, its session and its signals behind; it names itself on the way.
_ESCAPE = "(setsid sh -c 'trap \"\" TERM HUP; echo $$; touch up; exec sleep 61 >/dev/null 2>&1' &); "
_ESCAPE += "until [ -e up ]; do sleep 0.01; done; "


@dataclass
class Ground:
    """Process task runners in one group of the tests; time hardly passes until it leaps at a line of a body."""

    groups: ControlGroups
    supervisor: Supervisor

    def run(self, script: str, name: str = "run", *, groups: ControlGroups | None = None, **options: Any) -> Ended:
        texts: list[str] = []
        cancelled = threading.Event()
        cancel_at, leap_at = options.pop("cancel_at", None), options.pop("leap_at", None)
        on_line = options.pop("on_line", lambda _text: None)

        def take(line: Any) -> None:
            texts.append(line.text)
            on_line(line.text)
            if line.text == cancel_at:
                cancelled.set()

        spec = TaskSpec(("sh", "-c", script), name, **{"grace": timedelta(seconds=0.1), **options})
        clock = lambda: time.monotonic() / 40 + (3_600 if leap_at in texts else 0)  # noqa: E731 - the time of one body
        ctx = RunnerContext(on_line=take, cancelled=cancelled, control_groups=groups or self.groups, clock=clock)
        with tempfile.TemporaryDirectory() as folder:
            result = Process().under(self.supervisor).run(spec, WorkDir(Path(folder)), ctx)
        return Ended(result, texts)

    def left(self) -> list[str]:
        assert self.groups.path is not None
        return [entry.name for entry in self.groups.path.iterdir() if entry.is_dir()]


@dataclass
class Ended:
    result: TaskResult
    texts: list[str]


def _lives(pid: str) -> bool:
    try:
        return "\nState:\tZ" not in Path("/proc", pid, "status").read_text(encoding="utf-8")
    except OSError:
        return False


@pytest.fixture
def place(control_group: Path) -> Path:
    return control_group


@pytest.fixture
def ground(place: Path, supervisor: Supervisor) -> Ground:
    groups = find_control_groups(str(place))
    assert groups.path == place
    return Ground(groups, supervisor)


def test_a_body_runs_in_a_group_named_after_its_attempt(ground: Ground) -> None:
    ended = ground.run("grep ^0:: /proc/self/cgroup", "execution/1 ü")

    assert ended.texts[0].endswith(f"/{ground.groups.path.name}/mainstem-task-execution_1__-1")  # type: ignore[union-attr]  # it has one
    assert ground.left() == []


@pytest.mark.parametrize(
    ("end", "options", "status"),
    [
        ("echo now", {}, Phase.SUCCEEDED),
        ("trap '' TERM; echo now; sleep 60", {"cancel_at": "now"}, Phase.CANCELLED),
        ("trap '' TERM; echo now; sleep 60", {"timeout": timedelta(seconds=1), "leap_at": "now"}, Phase.FAILED),
    ],
    ids=["its end", "a kill", "its timeout"],
)
def test_what_escaped_from_a_body_is_gone_after(
    ground: Ground, end: str, options: dict[str, Any], status: Phase
) -> None:
    ended = ground.run(_ESCAPE + end, **options)

    assert (ended.result.status, ended.texts[1]) == (status, "now")
    assert not _lives(ended.texts[0])
    assert ground.left() == []


def test_what_is_left_when_supervisor_and_keeper_were_killed_is_ended_by_the_next_sweep(ground: Ground) -> None:
    with Supervisor() as dying:

        def kill_them(text: str) -> None:
            if text == "now":
                keepers = Path(f"/proc/{dying.pid}/task/{dying.pid}/children").read_text().split()
                for pid in (dying.pid, *map(int, keepers)):
                    os.kill(pid or 0, signal.SIGKILL)

        lost = Ground(ControlGroups(), dying)
        before = ground.groups
        ended = lost.run(_ESCAPE + "echo now; sleep 60", groups=_unswept(before), on_line=kill_them)

    escaped = _lives(ended.texts[0])
    beside: list[str] = []
    living = ground.run("echo now; sleep 0.5; echo end", "living", on_line=lambda _text: beside.append(_swept(before)))

    assert (ended.result.status, escaped, _lives(ended.texts[0])) == (Phase.LOST, True, False)
    assert (living.result.status, beside) == (Phase.SUCCEEDED, ["1", "0"])
    assert ground.left() == []


def _swept(groups: ControlGroups) -> str:
    return str(groups.sweep())


class _Unswept(ControlGroups):
    def sweep(self) -> int:
        return 0


def _unswept(groups: ControlGroups) -> ControlGroups:
    """Return the groups of a server that was killed as well, and so sweeps nothing."""
    return _Unswept(groups.path, groups.controllers)


def test_a_keeper_killed_alone_leaves_no_group(ground: Ground) -> None:
    def kill_it(text: str) -> None:
        if text.isdigit():
            os.kill(int(text), signal.SIGKILL)

    ended = ground.run("echo $PPID; sleep 60", on_line=kill_it)

    assert (ended.result.status, ground.left()) == (Phase.LOST, [])


def test_bodies_at_the_same_time_have_groups_of_their_own_and_leave_none(ground: Ground) -> None:
    with ThreadPoolExecutor(8) as threads:
        ended = list(threads.map(lambda n: ground.run("grep ^0:: /proc/self/cgroup", f"many-{n}"), range(64)))

    assert {each.result.status for each in ended} == {Phase.SUCCEEDED}
    assert len({each.texts[0] for each in ended}) == 64
    assert ground.left() == []


def test_two_living_bodies_of_one_name_do_not_end_each_other(ground: Ground, tmp_path: Path) -> None:
    inner: list[Ended] = []
    beside = tmp_path / "ran"

    def run_beside() -> None:
        inner.append(ground.run("grep ^0:: /proc/self/cgroup", "same"))
        beside.touch()

    outer = ground.run(
        f"grep ^0:: /proc/self/cgroup; until [ -e {beside} ]; do sleep 0.01; done; echo end",
        "same",
        on_line=lambda text: run_beside() if "::" in text else None,
    )

    assert (outer.texts[0].rpartition("/")[2], outer.texts[1]) == ("mainstem-task-same-1", "end")
    assert inner[0].texts[0].endswith("/mainstem-task-same-1.2")
    assert ground.left() == []


def test_a_dead_group_of_the_same_name_is_ended_first(ground: Ground, place: Path) -> None:
    stale = place / "mainstem-task-again-1"
    stale.mkdir()
    sleep = subprocess.Popen(["sh", "-c", 'echo 0 > "$0/cgroup.procs"; exec sleep 60', str(stale)])
    wait_until(lambda: (stale / "cgroup.procs").read_text().split() == [str(sleep.pid)], "the sleeper in its group")

    ended = ground.run("grep ^0:: /proc/self/cgroup", "again")

    assert ended.texts[0].endswith("/mainstem-task-again-1")
    assert sleep.wait(10) == -signal.SIGKILL
    assert ground.left() == []


def test_groups_that_a_body_made_in_its_own_go_with_it(ground: Ground, place: Path) -> None:
    script = f"""
    set -e
    mkdir -p {place}/mainstem-task-deep-1/a/b
    echo 0 > {place}/mainstem-task-deep-1/a/b/cgroup.procs
    setsid sleep 60 >/dev/null 2>&1 &
    grep ^0:: /proc/self/cgroup
    """

    ended = ground.run(script, "deep")

    assert (ended.result.status, ended.texts[0].rpartition("-1")[2]) == (Phase.SUCCEEDED, "/a/b")
    assert ground.left() == []


def test_another_user_cannot_leave_its_group(ground: Ground, place: Path) -> None:
    ended = ground.run(f"id -u; echo 0 > {place.parent}/cgroup.procs && echo left", uid=200_777)

    assert (ended.result.status, ended.texts[0]) == (Phase.FAILED, "200777")
    assert "left" not in ended.texts


def test_where_no_group_can_be_made_a_body_runs_as_without(ground: Ground) -> None:
    nowhere = ControlGroups(Path("/proc/self"))

    ended = ground.run(_ESCAPE + "echo now; ulimit -v", groups=nowhere, limits=Limits(memory_bytes=2**30))

    assert (ended.result.status, ended.texts[1:]) == (Phase.SUCCEEDED, ["now", str(2**20)])
    assert not _lives(ended.texts[0])


def test_a_limit_of_memory_holds_by_the_controller_or_else_by_the_address_space(ground: Ground) -> None:
    ended = ground.run("exec tail /dev/zero", limits=Limits(memory_bytes=64 * 1024**2))

    by_group = "memory" in ground.groups.controllers
    assert ended.result.status is Phase.FAILED
    assert (ended.result.failure_reason is FailureReason.OOM_KILLED) is by_group
    assert (ended.result.usage.peak_memory_bytes or 0) < 80 * 1024**2


def test_the_seconds_of_processors_that_a_group_used_are_told(ground: Ground) -> None:
    busy = "(i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done) &"

    ended = ground.run(f"{busy} {busy} wait")

    assert (ended.result.usage.cpu_seconds or 0) > 0.02
    assert (ended.result.usage.peak_memory_bytes or 0) > 0


def test_a_program_that_is_missing_leaves_no_group(ground: Ground, tmp_path: Path) -> None:
    runner = Process().under(ground.supervisor)
    ctx = RunnerContext(on_line=print, control_groups=ground.groups)

    with pytest.raises(Exception, match="is not on this machine"):
        runner.run(TaskSpec(("no-such-program",), "missing"), WorkDir(tmp_path), ctx)

    assert ground.left() == []
