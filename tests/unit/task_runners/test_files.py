from __future__ import annotations

import os
from pathlib import Path

import pytest

from task_runners.errors import TaskRunnerError
from task_runners.files import give_to, open_beneath, safe_join, write_file

REFUSED = [
    "",
    ".",
    "/",
    "/etc/passwd",
    "//etc/passwd",
    "..",
    "../x",
    "a/../../x",
    "a/..",
    "a\\..\\b",
    "C:\\x",
    "a\0b",
    "a\nb",
    "a\x7fb",
    "a" * 256,
    "ä" * 128,
    "a/" * 2500 + "b",
    "a\udcffb",
]


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_that_could_leave_its_directory_is_refused(tmp_path: Path, name: str) -> None:
    for use in (safe_join, open_beneath):
        with pytest.raises(TaskRunnerError) as caught:
            use(tmp_path, name)
        assert caught.value.code == "file.path.refused"
    with pytest.raises(TaskRunnerError):
        write_file(tmp_path, name, b"x")


@pytest.mark.parametrize(
    "name", ["a", "a/b/c", "./a", "a//b", "~", "~root", "con", "a.", "%2e%2e", "..a", "a..b", "a\u2215b", "ä" * 127]
)
def test_an_odd_name_that_stays_is_only_a_name(tmp_path: Path, name: str) -> None:
    write_file(tmp_path, name, b"content")

    assert safe_join(tmp_path, name).read_bytes() == b"content"
    assert tmp_path in safe_join(tmp_path, name).parents


def test_no_link_is_followed(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    root.mkdir()
    (outside / "file").write_text("theirs")
    (root / "directory").symlink_to(outside)
    (root / "link").symlink_to(outside / "file")

    for name in ("directory/file", "link"):
        with pytest.raises(TaskRunnerError):
            safe_join(root, name)
        with pytest.raises((TaskRunnerError, NotADirectoryError)):
            os.close(open_beneath(root, name))
    with pytest.raises(TaskRunnerError):
        write_file(root, "directory/file", b"mine")

    assert (outside / "file").read_text() == "theirs"


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("theirs")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "soft").symlink_to(tmp_path / "outside")
    (tmp_path / "root" / "hard").hardlink_to(tmp_path / "outside")

    for name in ("soft", "hard"):
        write_file(tmp_path / "root", name, b"mine")

    assert (tmp_path / "outside").read_text() == "theirs"
    assert not (tmp_path / "root" / "soft").is_symlink()


def test_a_file_is_written_from_pieces_with_its_mode(tmp_path: Path) -> None:
    size = write_file(tmp_path, "deep/er/tool", (b"a" * 10, b"b" * 5), mode=0o4755)

    written = tmp_path / "deep" / "er" / "tool"
    assert (size, written.read_bytes()) == (15, b"a" * 10 + b"b" * 5)
    assert written.stat().st_mode & 0o7777 == 0o755


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_tree_is_given_away_without_what_its_links_point_to(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_file(root.parent, "root/a/b", b"x", uid=200_001)
    outside = tmp_path / "outside"
    outside.write_text("theirs")
    (root / "link").symlink_to(outside)

    give_to(root, 200_002)

    owners = {path.lstat().st_uid for path in (root, root / "a", root / "a" / "b", root / "link")}
    assert (owners, outside.stat().st_uid) == ({200_002}, 0)
