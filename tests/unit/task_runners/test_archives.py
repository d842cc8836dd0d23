from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from task_runners.archives import add_content, pack, unpack
from task_runners.errors import FailureReason, TaskRunnerError
from task_runners.files import FileLimits


def _tar(fill: Callable[[tarfile.TarFile], None]) -> list[bytes]:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        fill(archive)
    whole = content.getvalue()
    return [whole[at : at + 700] for at in range(0, len(whole), 700)]


def _file(archive: tarfile.TarFile, name: str, content: bytes = b"x", mode: int = 0o644) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    archive.addfile(member, io.BytesIO(content))


def test_what_was_too_large_to_be_packed_is_refused_when_it_is_wanted(tmp_path: Path) -> None:
    def fill(archive: tarfile.TarFile) -> None:
        _file(archive, "./out.txt")
        _file(archive, "./.mainstem/left-out", b"./deep/large.bin\n")

    taken = unpack(_tar(fill), tmp_path, wanted=lambda name: name.endswith(".txt"))
    with pytest.raises(TaskRunnerError, match="large") as caught:
        unpack(_tar(fill), tmp_path)

    assert (taken, caught.value.code) == (["out.txt"], "file.outputs.too_large")


def test_the_archive_of_one_file_names_it_from_its_first_part(tmp_path: Path) -> None:
    taken = unpack(_tar(lambda archive: _file(archive, "out.txt")), tmp_path, depth=0)

    assert (taken, (tmp_path / "out.txt").read_bytes()) == (["out.txt"], b"x")


def test_a_directory_travels_there_and_back(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "b" / "empty").mkdir(parents=True)
    (source / ".mainstem").mkdir()
    target.mkdir()
    (source / "b" / "tool").write_bytes(b"#!" * 100_000)
    (source / "b" / "tool").chmod(0o750)
    (source / "a").write_text("a")
    (source / "link").symlink_to("/etc/passwd")
    (source / ".mainstem" / "home").write_text("private")

    with pack(source, 1234, prefix="work") as archive:
        content = archive.read()
        archive.seek(0)
        names = unpack([content[:1000], content[1000:]], target)

    assert names == ["a", "b/tool"]
    assert (target / "b" / "tool").read_bytes() == b"#!" * 100_000
    assert (target / "b" / "tool").stat().st_mode & 0o777 == 0o750
    with tarfile.open(fileobj=io.BytesIO(content)) as read:
        assert read.getnames() == ["work", "work/a", "work/b", "work/b/empty", "work/b/tool"]
        assert {member.uid for member in read.getmembers()} == {1234}


def test_the_same_directory_gives_the_same_archive(tmp_path: Path) -> None:
    for name in ("z", "a", "m"):
        (tmp_path / name).write_text(name)

    with pack(tmp_path, 0) as first, pack(tmp_path, 0) as second:
        assert first.read() == second.read()


def test_files_for_an_unknown_user_may_be_written_by_everybody(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o700)
    (tmp_path / "f").write_text("x")

    with pack(tmp_path, None) as packed, tarfile.open(fileobj=packed) as archive:
        modes = {member.name: member.mode & 0o666 for member in archive.getmembers()}

    assert modes == {".": 0o666, "./d": 0o666, "./f": 0o666}


@pytest.mark.parametrize("name", ["w/../../escape", "w//etc/passwd", "w/a/../../b", "w/a\\b"])
def test_a_member_that_leaves_the_directory_is_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()

    with pytest.raises(TaskRunnerError) as caught:
        unpack(_tar(lambda archive: _file(archive, name)), root)

    assert caught.value.code == "file.path.refused"
    assert list(tmp_path.rglob("*")) == [root]


def test_links_and_devices_in_an_archive_are_passed_over(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()

    def fill(archive: tarfile.TarFile) -> None:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo("w/odd")
            member.type, member.linkname = kind, "../outside"
            archive.addfile(member)
        _file(archive, "w/odd/inside", b"content", mode=0o6755)

    names = unpack(_tar(fill), root)

    assert names == ["odd/inside"]
    assert (root / "odd" / "inside").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (FileLimits(files=2), "file.outputs.too_many"),
        (FileLimits(file_bytes=50), "file.outputs.too_large"),
        (FileLimits(total_bytes=500), "file.outputs.too_large"),
    ],
)
def test_an_archive_is_measured_while_it_is_read(tmp_path: Path, limits: FileLimits, code: str) -> None:
    def fill(archive: tarfile.TarFile) -> None:
        for number in range(9):
            _file(archive, f"w/{number}", b"x" * 100)

    with pytest.raises(TaskRunnerError) as caught:
        unpack(_tar(fill), tmp_path, limits=limits)

    assert caught.value.code == code


def test_only_what_is_wanted_counts(tmp_path: Path) -> None:
    def fill(archive: tarfile.TarFile) -> None:
        for number in range(9):
            _file(archive, f"w/{number}", b"x" * 100)

    names = unpack(_tar(fill), tmp_path, wanted=lambda name: name == "3", limits=FileLimits(total_bytes=150))

    assert names == ["3"]


def test_what_is_no_archive_says_so(tmp_path: Path) -> None:
    with pytest.raises(TaskRunnerError) as caught:
        unpack([b"this is no archive" * 100], tmp_path)

    assert caught.value.code == "file.archive.broken"


class _Doing(dict[str, bytes]):
    """Files to go first, during whose packing something happens to the others."""

    def __init__(self, happens: Callable[[], object]) -> None:
        super().__init__(first=b"x")
        self._happens = happens

    def items(self) -> Any:
        self._happens()
        return super().items()


def test_a_file_that_grows_once_it_was_measured_is_refused_all_the_same(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x")

    with pytest.raises(TaskRunnerError, match="'log'") as caught:
        pack(tmp_path, 0, FileLimits(total_bytes=100), first=_Doing(lambda: log.write_bytes(b"x" * 101)))

    assert caught.value.code == "file.inputs.too_large"


def test_a_directory_that_vanishes_once_it_was_measured_is_a_clear_failure(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    with pytest.raises(TaskRunnerError, match="while it was packed") as caught:
        pack(folder, 0, first=_Doing(folder.rmdir))

    assert (caught.value.code, caught.value.failure_reason) == ("file.inputs.changed", FailureReason.INPUT_FILES)


def test_a_file_that_ends_before_the_size_that_it_had_is_named() -> None:
    member = tarfile.TarInfo("./log")
    member.size = 3

    with (
        tarfile.open(fileobj=io.BytesIO(), mode="w") as archive,
        pytest.raises(TaskRunnerError, match=r"'\./log' of the task vanished or shrank") as caught,
    ):
        add_content(archive, member, io.BytesIO(b"xx"))

    assert (caught.value.code, caught.value.failure_reason) == ("file.inputs.changed", FailureReason.INPUT_FILES)


def test_files_that_are_too_large_are_refused_by_the_largest_before_they_are_packed(tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"x")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(5 << 30)

    with pytest.raises(TaskRunnerError, match=r"the largest is 'large' with 5368709120") as caught:
        pack(tmp_path, 0)

    assert (caught.value.code, caught.value.failure_reason) == ("file.inputs.too_large", FailureReason.INPUT_FILES)
