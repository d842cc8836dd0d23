from __future__ import annotations

import os
from pathlib import Path

import pytest

from task_runners.errors import TaskRunnerError
from task_runners.files import FileLimits
from task_runners.outputs import collect_outputs, glob_pattern


@pytest.mark.parametrize(
    ("glob", "matching", "other"),
    [
        ("*.txt", ["a.txt", ".txt"], ["a/b.txt", "a.txtx", "a.csv"]),
        ("**/*.txt", ["a.txt", "a/b.txt", "a/b/c.txt"], ["a/b.csv"]),
        ("**", ["a", "a/b/c"], []),
        ("a/**", ["a/b", "a/b/c"], ["a", "b/a/c"]),
        ("a/*/c", ["a/b/c"], ["a/c", "a/b/b/c"]),
        ("?.t", ["a.t"], ["ab.t", "/.t", ".t"]),
        ("[a-c].t", ["b.t"], ["d.t"]),
        ("[!a-c].t", ["d.t"], ["b.t"]),
        ("*.{csv,json}", ["a.csv", "a.json"], ["a.txt", "a.csvjson"]),
        ("{a,b/*}.t", ["a.t", "b/c.t"], ["c.t"]),
        ("./a.t", ["a.t"], []),
        ("/a.t", ["a.t"], []),
        ("a+b(1).t", ["a+b(1).t"], ["aab(1).t"]),
        ("a\nb", ["a\nb"], ["a"]),
    ],
)
def test_globs_match_as_in_a_shell(glob: str, matching: list[str], other: list[str]) -> None:
    pattern = glob_pattern(glob)

    assert [name for name in matching if not pattern.fullmatch(name)] == []
    assert [name for name in other if pattern.fullmatch(name)] == []


@pytest.mark.parametrize("glob", ["", " ", "/", "../x", "a/../../x", "..", "[z-a]"])
def test_a_glob_that_leaves_or_cannot_be_read_is_refused(glob: str) -> None:
    with pytest.raises(TaskRunnerError) as caught:
        glob_pattern(glob)

    assert caught.value.code == "file.glob.invalid"


def test_only_regular_files_with_names_that_can_be_shown_are_taken(tmp_path: Path) -> None:
    (tmp_path / "d" / ".mainstem").mkdir(parents=True)
    (tmp_path / ".mainstem").mkdir()
    for name in ("a", "d/b", ".mainstem/home", "d/.mainstem/kept"):
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "up").symlink_to("..")
    os.mkfifo(tmp_path / "pipe")
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff"))).write_text("x")

    found = collect_outputs(tmp_path, ["**"])

    assert found == {name: tmp_path / name for name in ("a", "d/.mainstem/kept", "d/b")}


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (FileLimits(files=2), "file.outputs.too_many"),
        (FileLimits(file_bytes=9), "file.outputs.too_large"),
        (FileLimits(total_bytes=29), "file.outputs.too_large"),
    ],
)
def test_too_much_is_refused(tmp_path: Path, limits: FileLimits, code: str) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text("0123456789")

    with pytest.raises(TaskRunnerError) as caught:
        collect_outputs(tmp_path, ["*"], limits)

    assert caught.value.code == code
    assert len(collect_outputs(tmp_path, ["a"], limits) if limits.file_bytes > 9 else {"a": 1}) == 1
