"""The parts of a home are taken whole while others write to them."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest

from runner.home_parts import complete, stage


def git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "gc.auto=0"]
    return subprocess.run(
        ["git", *settings, *arguments], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    (home / "git").mkdir(parents=True)
    git(home / "git", "init", "-q", "--bare", "-b", "main", "flows.git")
    return home


def write_and_pack(repository: Path, begun: threading.Event, stop: threading.Event) -> None:
    """Commit, and pack refs and objects, again and again, as pushes and the server's own packing do."""
    tree = git(repository, "hash-object", "-t", "tree", "-w", "/dev/null")
    parent: list[str] = []
    number = 0
    while not stop.is_set():
        number += 1
        commit = git(repository, "commit-tree", tree, "-m", f"commit {number}", *parent)
        git(repository, "update-ref", "refs/heads/main", commit)
        parent = ["-p", commit]
        if number % 3 == 0:
            git(repository, "pack-refs", "--all")
            git(repository, "repack", "-q", "-a", "-d")
        if number == 6:
            begun.set()


def test_a_repository_that_is_written_and_packed_meanwhile_is_whole(home: Path, tmp_path: Path) -> None:
    begun, stop = threading.Event(), threading.Event()
    thread = threading.Thread(target=write_and_pack, args=(home / "git/flows.git", begun, stop))
    thread.start()
    assert begun.wait(60)

    for number in range(20):
        (tmp_path / f"copy{number}").mkdir()
        stage(home, tmp_path / f"copy{number}")
        complete(tmp_path / f"copy{number}")
    stop.set()
    thread.join(60)

    for number in range(20):
        copy = tmp_path / f"copy{number}" / "git/flows.git"
        git(copy, "fsck", "--strict", "--connectivity-only")
        assert int(git(copy, "rev-list", "--count", "main")) >= 6


def test_links_unfinished_files_and_what_is_fetched_again_are_left_out(home: Path, tmp_path: Path) -> None:
    (home / "storage/company").mkdir(parents=True)
    (home / "storage/company/tmp.lock").write_text("a stored file may have any name")
    (home / "storage/company/.incoming-1").write_text("half")
    (home / "storage/company/link").symlink_to("/etc/passwd")
    (home / "mirrors/origin.git").mkdir(parents=True)
    (home / "mirrors/origin.git/HEAD").write_text("ref")
    (home / "git/flows.git/HEAD.lock").write_text("half")
    (home / "token").write_text("secret")
    target = tmp_path / "copy"
    target.mkdir()

    stage(home, target)

    assert sorted(entry.name for entry in target.iterdir()) == ["git", "storage", "token"]
    assert [entry.name for entry in (target / "storage/company").iterdir()] == ["tmp.lock"]
    assert not (target / "git/flows.git/HEAD.lock").exists()
