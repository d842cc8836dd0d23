from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest
from pydantic import ValidationError

from task_runners import cgroup, control_groups
from task_runners.base import FailureReason, Limits, Phase
from task_runners.control_groups import ControlGroups, find_control_groups, own_group
from task_runners.process import Process, status_of
from task_runners.supervisor import BodyEnd

_UNIFIED = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
_HYBRID = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n38 31 0:35 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"
_BOUND = "40 30 0:26 /docker/12ab /sys/fs/cg\\040roup ro - cgroup2 cgroup rw"
_V1 = "36 31 0:33 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"


@pytest.mark.parametrize(
    ("own", "mounts", "path"),
    [
        ("0::/system.slice/mainstem.service", _UNIFIED, "/sys/fs/cgroup/system.slice/mainstem.service"),
        ("4:memory:/a\n0::/b", _HYBRID, "/sys/fs/cgroup/unified/b"),
        ("0::/", _UNIFIED, "/sys/fs/cgroup"),
        ("0::/docker/12ab/c", _BOUND, "/sys/fs/cg roup/c"),
        ("0::/elsewhere", _BOUND, None),
        ("4:memory:/a", _V1, None),
        ("0::/a", _V1, None),
        ("", "", None),
    ],
)
def test_the_folder_of_the_own_group_is_where_its_hierarchy_is_mounted(own: str, mounts: str, path: str | None) -> None:
    assert own_group(own, mounts) == (None if path is None else Path(path))


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ("none", "the settings say so"),
        ("/proc", "/proc: this is no control group of version 2"),
        ("/does/not/exist", "/does/not/exist: this is no control group of version 2"),
    ],
)
def test_without_groups_the_reason_is_told(wish: str, reason: str) -> None:
    found = find_control_groups(wish)

    assert (found.path, found.summary) == (None, f"bodies have no control groups: {reason}")
    assert found.sweep() == 0


@pytest.mark.parametrize(
    ("limit", "value", "files"),
    [
        ("memory_bytes", 1024, {"memory.max": "1024", "memory.swap.max": "0", "memory.oom.group": "1"}),
        ("processes", 7, {"pids.max": "7"}),
        ("cpus", 1.5, {"cpu.max": "150000 100000"}),
        ("cpus", 0.0001, {"cpu.max": "1000 100000"}),
        ("open_files", 9, {}),
    ],
)
def test_each_limit_has_its_files(limit: str, value: float, files: Mapping[str, str]) -> None:
    assert cgroup.files_of(limit, value) == files


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """Give a plain folder in place of a group with controllers: it shows what is written, not what the kernel does."""
    values = {
        "memory.max": "",
        "memory.oom.group": "",  # and no memory.swap.max, as on a kernel that does not count swap
        "pids.max": "",
        "cpu.stat": "usage_usec 1500000\nuser_usec 1000000",
        "memory.peak": "4096",
        "memory.events": "low 0\nmax 3\noom 1\noom_kill 1\noom_group_kill 1",
    }
    for name, value in values.items():
        (tmp_path / name).write_text(value)
    return tmp_path


def test_of_the_limits_those_are_set_that_the_controllers_of_the_group_can_hold(stand_in: Path) -> None:
    group = cgroup.Group(str(stand_in), -1)

    held = group.limit({"memory_bytes": 2048, "processes": 5, "cpus": 1.0, "open_files": 10})

    assert held == {"memory_bytes", "processes"}
    assert {name: (stand_in / name).read_text() for name in ("memory.max", "memory.oom.group", "pids.max")} == {
        "memory.max": "2048",
        "memory.oom.group": "1",
        "pids.max": "5",
    }


def test_what_a_group_used_is_read_from_its_files(stand_in: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    bare = tmp_path_factory.mktemp("bare")

    used = cgroup.Group(str(stand_in), -1).usage()
    nothing = cgroup.Group(str(bare), -1).usage()

    assert used == {"cpu_seconds": 1.5, "peak_memory_bytes": 4096, "out_of_memory": True}
    assert nothing == {"out_of_memory": False}


@pytest.mark.parametrize(
    ("code", "out_of_memory", "reason", "message"),
    [
        (137, True, FailureReason.OOM_KILLED, "out of memory (limit 64 MiB) (signal 9)"),
        (137, False, FailureReason.APP_EXIT, "command failed with exit code 137 (signal 9)"),
    ],
)
def test_a_body_that_the_kernel_killed_at_its_limit_was_out_of_memory(
    code: int, *, out_of_memory: bool, reason: FailureReason, message: str
) -> None:
    end = BodyEnd(code, signal=9, out_of_memory=out_of_memory)

    status = status_of(end, 1.0, memory_limit=64 * 1024**2)

    assert (status.phase, status.exit_code) == (Phase.FAILED, 137)
    assert (status.failure_reason, status.message) == (reason, message)


def test_a_body_that_went_on_after_a_process_of_its_was_killed_has_succeeded() -> None:
    assert status_of(BodyEnd(0, out_of_memory=True), 1.0, memory_limit=1).phase is Phase.SUCCEEDED


def test_limits_of_the_flow_come_before_those_of_the_task() -> None:
    runner = Process.model_validate({"memory": {"memory": "64MB"}, "cpu": {"cpus": 0.5}, "processes": 20})

    limits = runner.limits(Limits(memory_bytes=1, open_files=3, processes=4))

    assert limits == Limits(memory_bytes=64 * 1024**2, open_files=3, processes=20, cpus=0.5)


@pytest.mark.parametrize(
    "properties",
    [
        {"memory": {"memory": "lots"}},
        {"memory": {"memory": 0}},
        {"memory": {"memorySwap": "1GB"}},
        {"cpu": {"cpus": 0}},
        {"cpu": {"cpus": ".inf"}},
        {"cpu": {"cpus": float("nan")}},
        {"processes": 0},
    ],
)
def test_limits_that_are_none_are_refused(properties: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Process.model_validate(properties)


@pytest.fixture
def place(control_group: Path) -> Path:
    return control_group


def test_the_processes_of_a_group_move_to_a_leaf_so_that_it_can_have_controllers(place: Path) -> None:
    with subprocess.Popen(
        ["sh", "-c", 'echo 0 > "$0/cgroup.procs"; echo; exec cat', str(place)], stdin=-1, stdout=-1
    ) as cat:
        assert cat.stdout is not None
        cat.stdout.readline()
        moved = control_groups._move_out(place)
        leaf = (place / "mainstem-server" / "cgroup.procs").read_text().split()
        cat.communicate(b"")

    assert (moved, leaf) == (True, [str(cat.pid)])


@pytest.mark.parametrize("lock", [-1, None])
def test_a_child_is_moved_into_its_group_where_it_cannot_be_born_there(place: Path, lock: int | None) -> None:
    program = """if True:
        import os, sys
        from task_runners import body_place, cgroup
        group = cgroup.make(sys.argv[1], "one")
        lock, group._lock = group._lock, group._lock if sys.argv[2] == "None" else int(sys.argv[2])
        place = body_place.Place(group, {})
        child = place.fork()
        if child == 0:
            is_in = place.enter()
            os.write(1, (str(is_in) + open("/proc/self/cgroup").read().split("0::")[1]).encode())
            os._exit(0)
        os.waitpid(child, 0)
        os.write(1, str(place._is_inside).encode())
        group._lock = lock
        place.leave()
    """

    done = subprocess.run(
        [sys.executable, "-c", program, str(place), str(lock)], capture_output=True, text=True, check=True
    )

    assert done.stdout.split() == [f"True/{place.name}/mainstem-task-one", str(lock is None)]
    assert not [entry for entry in place.iterdir() if entry.is_dir()]


@pytest.mark.parametrize(
    ("own", "summary", "child"),
    [
        ("server", "bodies have control groups below {place}", "{name}/mainstem-task-one"),
        ("", "bodies have control groups below {place}", "{name}/mainstem-task-one"),
        ("..", "bodies have no control groups: {place}: no process of this one's group can be moved there", ""),
    ],
    ids=["from a leaf of it", "from itself", "from outside"],
)
def test_another_user_makes_groups_in_what_was_delegated_to_it_and_where_it_is_itself(
    place: Path, own: str, summary: str, child: str
) -> None:
    program = """if True:
        import os, sys
        from pathlib import Path
        from task_runners import cgroup
        from task_runners.control_groups import find_control_groups
        place, own = Path(sys.argv[1]), Path(sys.argv[1], sys.argv[2])
        own.mkdir(exist_ok=True)
        for path in (place, place / "cgroup.procs", place / "cgroup.subtree_control"):
            os.chown(path, 200_555, 200_555)
        (own / "cgroup.procs").write_text("0")
        os.setgroups([]); os.setgid(200_555); os.setuid(200_555)
        found = find_control_groups(str(place))
        print(found.summary.partition(",")[0], flush=True)
        if found.path is not None:
            group = cgroup.make(str(place), "one")
            child = group.fork()
            if child == 0:
                os.write(1, open("/proc/self/cgroup").read().split("0::/")[1].encode())
                os._exit(0)
            os.waitpid(child, 0)
            assert group.close()
    """

    done = subprocess.run([sys.executable, "-c", program, place, own], capture_output=True, text=True, check=False)

    lines = (text.format(place=place, name=place.name) for text in (summary, child))
    assert (done.stdout.strip(), done.stderr) == ("\n".join(lines).strip(), "")


@pytest.mark.parametrize(
    ("own", "marked", "found"),
    [
        ("a.service", "a.service", "a.service"),
        ("a.service/server", "a.service", "a.service"),
        ("user.service/a.scope", "user.service", None),
        ("a.service", None, None),
    ],
)
def test_a_group_is_ours_when_it_or_the_one_around_its_leaf_was_delegated(
    optional: Callable[[str, str], NoReturn], tmp_path: Path, own: str, marked: str | None, found: str | None
) -> None:
    (tmp_path / own).mkdir(parents=True)
    try:
        os.setxattr(tmp_path / (marked or own), "user.delegate", b"0" if marked is None else b"1")
    except OSError as error:
        optional("xattrs", f"{tmp_path} keeps none: {error.strerror}")

    delegated = control_groups.delegated_group(tmp_path / own)

    assert delegated == (None if found is None else tmp_path / found)


def test_groups_of_others_are_not_swept(place: Path) -> None:
    (place / "somebody").mkdir()
    dead = cgroup.make(str(place), "dead")
    living = cgroup.make(str(place), "living")
    os.close(dead._lock)

    removed = ControlGroups(place).sweep()
    left = sorted(entry.name for entry in place.iterdir() if entry.is_dir())
    living.close()

    assert (removed, left) == (1, ["mainstem-task-living", "somebody"])
