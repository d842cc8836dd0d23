"""What is said of control groups on a machine, and what to do about what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from task_runners.group_survey import judged, survey_groups

UNIFIED = "31 23 0:28 / {place} rw,relatime - cgroup2 cgroup2 rw\n"
OF_SECOND = "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t0\t9\t1\npids\t0\t9\t1\ncpu\t0\t9\t1\n"
OF_FIRST = OF_SECOND.replace("memory\t0", "memory\t4")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Give a plain folder with the files of a group: what is said goes by them alone."""
    for name in ("cgroup.procs", "cgroup.subtree_control", "cgroup.controllers"):
        (tmp_path / name).write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("there", "bound", "message", "advice"),
    [
        ("cpuset cpu io memory pids", OF_SECOND, "with the controllers memory, pids, cpu", ""),
        ("cpu pids", OF_SECOND, "with the controllers pids, cpu; limits of memory do not hold", "enable memory in"),
        ("cpu pids", OF_FIRST, "with the controllers pids, cpu; limits of memory do not", "memory belong to version 1"),
        (
            "",
            OF_SECOND,
            "without controllers for limits; limits of memory, pids, cpu do",
            "enable memory, pids, cpu in",
        ),
    ],
)
def test_the_controllers_of_a_named_group_are_told_with_the_way_to_those_that_are_missing(
    place: Path, there: str, bound: str, message: str, advice: str
) -> None:
    (place / "cgroup.controllers").write_text(there)

    found = judged(str(place), "0::/\n", UNIFIED.format(place=place), bound)

    assert found.path == place
    assert found.message.startswith(f"version 2 below {place} {message}")
    assert found.advice.startswith(advice)
    assert found.is_well is not bool(found.advice)


def test_without_a_hierarchy_of_version_2_the_machine_has_to_be_booted_with_one() -> None:
    found = judged("auto", "4:memory:/\n", "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n", OF_FIRST)

    assert (found.path, found.message) == (None, "no hierarchy of version 2 is mounted")
    assert "systemd.unified_cgroup_hierarchy=1" in found.advice


def test_a_group_that_nobody_delegated_is_left_alone(place: Path) -> None:
    found = judged("auto", "0::/\n", UNIFIED.format(place=place), OF_SECOND)

    assert (found.path, found.is_well) == (None, True)
    assert found.message.endswith("no group was delegated to the group /")
    assert "Delegate=yes" in found.advice


def test_a_folder_that_is_no_group_is_told_from_one() -> None:
    found = survey_groups("/nowhere")

    assert (found.path, found.is_well) == (None, False)


def test_a_group_of_this_machine_may_be_used(control_group: Path) -> None:
    found = survey_groups(str(control_group))

    assert found.path == control_group
