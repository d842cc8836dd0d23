from __future__ import annotations

import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dulwich.pack
import pytest
from dulwich.objects import Blob, ObjectID

from runner.errors import InvalidError, NotFoundError
from sync.commit_record import Author
from sync.names import check_ref, check_sha, is_safe_name
from sync.repository import GitRepository

AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ANN = Author("Ann", "ann@example.org")


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[GitRepository]:
    made = GitRepository.open_or_init(tmp_path / "flows.git")
    yield made
    made.close()


def commit(repository: GitRepository, parent: str | None, **files: bytes | None) -> str:
    changes = {path.replace("__", "/").replace("_yaml", ".yaml"): content for path, content in files.items()}
    return repository.commit_changes(parent, changes, author=ANN, message="change", at=AT)


def git(path: Path, *arguments: str, data: bytes | None = None) -> str:
    done = subprocess.run(["git", "-C", str(path), *arguments], input=data, capture_output=True, check=True)
    return done.stdout.decode().strip()


def raw_tree(path: Path, *entries: tuple[str, str, str]) -> str:
    """Write a tree that the porcelain would refuse to make."""
    body = b"".join(f"{mode} {name}\0".encode() + bytes.fromhex(sha) for mode, name, sha in entries)
    return git(path, "hash-object", "-w", "-t", "tree", "--literally", "--stdin", data=body)


def raw_commit(path: Path, tree: str) -> str:
    author = ["-c", "user.name=a", "-c", "user.email=a@b"]
    return git(path, *author, "commit-tree", tree, "-m", "raw")


def test_a_new_repository_has_its_head_on_main_and_no_commit(repository: GitRepository) -> None:
    assert repository.head("refs/heads/main") is None
    assert git(repository.path, "symbolic-ref", "HEAD") == "refs/heads/main"


def test_git_reads_what_was_committed_byte_by_byte(repository: GitRepository) -> None:
    content = b"id: a\r\n\xff\x00 no newline at the end"

    sha = commit(repository, None, flows__a_yaml=content)

    assert repository.set_head("refs/heads/main", None, sha)
    shown = subprocess.run(
        ["git", "-C", str(repository.path), "show", "main:flows/a.yaml"], capture_output=True, check=True
    )
    assert shown.stdout == content
    assert git(repository.path, "fsck", "--strict") == ""
    assert git(repository.path, "log", "-1", "--format=%an <%ae> %s", "main") == "Ann <ann@example.org> change"


def test_what_is_absent_is_neither_loose_nor_packed_by_another(repository: GitRepository) -> None:
    first = commit(repository, None, flows__a_yaml=b"a")
    repository.set_head("refs/heads/main", None, first)
    known = repository.absent([first])
    git(repository.path, "repack", "-a", "-d", "-q")  # by a program of its own, which this store has not seen
    loose = Blob.from_string(b"loose")
    repository.raw.object_store.add_object(loose)
    missing = [f"{number:040x}" for number in (7, 3)]

    found = repository.absent([missing[0], first, loose.id.decode(), missing[1], missing[0]])

    assert known == []
    assert found == missing


def test_many_objects_are_asked_for_with_one_look_at_the_packs(
    repository: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks, listed = Counter[str](), os.listdir

    def counted(path: str) -> list[str]:
        looks["at the packs"] += 1
        return listed(path)

    monkeypatch.setattr(os, "listdir", counted)

    found = repository.absent([f"{number:040x}" for number in range(500)])

    assert len(found) == 500
    assert looks["at the packs"] == 1


def test_a_commit_changes_only_the_paths_it_names(repository: GitRepository) -> None:
    first = commit(repository, None, flows__x__a_yaml=b"a", flows__b_yaml=b"b", readme=b"r")

    second = commit(repository, first, flows__x__a_yaml=None, flows__c_yaml=b"c")

    assert set(repository.listing(second).files) == {"flows/b.yaml", "flows/c.yaml", "readme"}
    assert repository.listing(second).files["flows/b.yaml"] == repository.listing(first).files["flows/b.yaml"]
    assert repository.is_ancestor(first, second)
    assert not repository.is_ancestor(second, first)


def test_a_listing_of_a_folder_that_is_not_there_is_empty(repository: GitRepository) -> None:
    sha = commit(repository, None, readme=b"r")

    listing = repository.listing(sha, "flows")

    assert listing.tree is None
    assert not listing.files


def test_of_two_moves_of_a_ref_from_one_commit_one_is_told_no(repository: GitRepository) -> None:
    base = commit(repository, None, a=b"1")
    one, two = commit(repository, base, a=b"2"), commit(repository, base, a=b"3")

    moved = [
        repository.set_head("refs/heads/main", None, base),
        repository.set_head("refs/heads/main", None, one),
        repository.set_head("refs/heads/main", base, one),
        repository.set_head("refs/heads/main", base, two),
    ]

    assert moved == [True, False, True, False]
    assert repository.head("refs/heads/main") == one


@pytest.mark.parametrize(
    ("mode", "name", "code"),
    [
        ("120000", "link.yaml", "repository.symlink.refused"),
        ("160000", "module", "repository.submodule.refused"),
        ("100644", "..", "repository.name.refused"),
        ("100644", ".git", "repository.name.refused"),
        ("100644", ".GIT ", "repository.name.refused"),
        ("100644", "a\\b.yaml", "repository.name.refused"),
        ("100644", "bad\x1b[2J.yaml", "repository.name.refused"),
    ],
)
def test_a_listing_refuses_entries_that_could_lead_elsewhere(
    repository: GitRepository, mode: str, name: str, code: str
) -> None:
    blob = git(repository.path, "hash-object", "-w", "--stdin", data=b"/etc/passwd")
    target = raw_commit(repository.path, raw_tree(repository.path)) if mode == "160000" else blob
    inner = raw_tree(repository.path, (mode, name, target), ("100644", "ok.yaml", blob))
    sha = raw_commit(repository.path, raw_tree(repository.path, ("40000", "flows", inner)))

    listing = repository.listing(sha, "flows")

    assert [problem.code for problem in listing.problems] == [code]
    assert set(listing.files) == {"flows/ok.yaml"}


def test_a_tree_with_a_missing_blob_or_an_impossible_name_is_not_accepted(repository: GitRepository) -> None:
    blob = git(repository.path, "hash-object", "-w", "--stdin", data=b"x")
    good = raw_commit(repository.path, raw_tree(repository.path, ("100644", "a", blob)))
    missing = raw_commit(repository.path, raw_tree(repository.path, ("100644", "a", "0" * 39 + "1")))
    dots = raw_commit(repository.path, raw_tree(repository.path, ("100644", "..", blob)))

    reasons = [repository.check_tree(sha) for sha in (good, missing, dots)]

    assert reasons[0] is None
    assert reasons[1] == "blob 0000000 is missing"
    assert reasons[2] == "the name '..' is not allowed in a tree"


def test_folders_nested_beyond_the_limit_are_a_problem_and_not_a_recursion_error(repository: GitRepository) -> None:
    blob = git(repository.path, "hash-object", "-w", "--stdin", data=b"x")
    tree = raw_tree(repository.path, ("100644", "a.yaml", blob))
    for _ in range(80):
        tree = raw_tree(repository.path, ("40000", "d", tree))
    sha = raw_commit(repository.path, tree)

    listing = repository.listing(sha)

    assert [problem.code for problem in listing.problems] == ["repository.depth.exceeded"]
    assert repository.check_tree(sha) == "folders are nested deeper than 64"


def test_packs_that_git_has_put_together_are_in_the_way_of_no_other(repository: GitRepository) -> None:
    first = commit(repository, None, **{f"a{number}": b"%d" % number for number in range(20)})
    git(repository.path, "update-ref", "refs/heads/main", first)
    git(repository.path, "gc", "--quiet")

    second = commit(repository, first, **{f"b{number}": b"b%d" % number for number in range(20)})

    assert len(git(repository.path, "ls-tree", "--name-only", second).splitlines()) == 40


def test_a_pack_with_a_bitmap_beside_one_without_is_no_end_of_a_fetch(repository: GitRepository) -> None:
    first = commit(repository, None, **{f"a{number}": b"%d" % number for number in range(20)})
    git(repository.path, "update-ref", "refs/heads/main", first)
    git(repository.path, "-c", "repack.writeBitmaps=true", "gc", "--quiet")
    second = commit(repository, first, **{f"b{number}": b"b%d" % number for number in range(20)})

    count, _ = repository.raw.generate_pack_data({ObjectID(first.encode())}, {ObjectID(second.encode())})

    assert list((repository.path / "objects" / "pack").glob("*.bitmap"))
    assert count == 22  # the commit, its tree, its files


def test_a_large_file_is_refused_by_its_size(repository: GitRepository) -> None:
    sha = commit(repository, None, a=b"x" * 100)

    with pytest.raises(InvalidError) as caught:
        repository.blob(repository.listing(sha).files["a"], limit=99)

    assert caught.value.code == "repository.file.large"


def test_names_that_mean_the_git_folder_are_not_safe() -> None:
    assert [
        name
        for name in (".git", ".GIT", ".git.", "git~1", "..", ".", "", "a/b", "a.yaml", "...x")
        if is_safe_name(name)
    ] == [
        "a.yaml",
        "...x",
    ]


@pytest.mark.parametrize("ref", ["main", "refs/heads/a..b", "refs/heads/", "--upload-pack=x", "refs/remotes/x/y"])
def test_a_ref_must_be_a_full_name(ref: str) -> None:
    with pytest.raises(InvalidError):
        check_ref(ref)


def test_a_commit_id_is_checked_before_it_is_looked_up(repository: GitRepository) -> None:
    with pytest.raises(InvalidError):
        check_sha("HEAD; rm -rf /")
    with pytest.raises(NotFoundError):
        repository.commit("0" * 40)


@pytest.mark.parametrize("path", ["/usr/bin:/bin", "/nowhere"])
def test_many_small_objects_become_one_pack_and_nothing_is_lost(
    repository: GitRepository, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    tip = None
    for number in range(15):
        tip = commit(repository, tip, **{f"flows__f{number}_yaml": b"id: %d" % number})
    assert tip is not None
    repository.set_head("refs/heads/main", None, tip)
    fresh = commit(repository, tip, readme=b"nothing names this commit yet")
    monkeypatch.setenv("PATH", path)

    done = repository.compact(most_loose=10)
    again = repository.compact(most_loose=10)

    assert (done, again) == (True, False)
    assert len(repository.listing(tip).files) == 15
    assert repository.check_tree(fresh) is None
    assert repository.check_history(fresh) is None


def test_the_files_of_a_large_commit_are_stored_as_one_pack(repository: GitRepository) -> None:
    files = {f"flows__f{number}_yaml": b"id: %d" % (number % 30) for number in range(40)}

    tip = commit(repository, None, **files)
    repository.set_head("refs/heads/main", None, tip)

    assert len(list((repository.path / "objects" / "pack").glob("*.pack"))) == 1
    assert git(repository.path, "fsck", "--strict") == ""
    assert git(repository.path, "ls-tree", "-r", "--name-only", "main").count("\n") == 39


@pytest.mark.parametrize("count", [1, 40])
def test_a_durable_repository_has_objects_on_the_disk_before_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    repository = GitRepository.open_or_init(tmp_path / "durable.git", durable=True)
    monkeypatch.setattr(os, "fsync", fsync)

    commit(repository, None, **{f"f{number}": b"%d" % number for number in range(count)})

    repository.close()
    objects = [path for path in synced if "/objects/" in path]
    assert len(objects) >= (3 if count == 1 else 1), synced


@pytest.mark.parametrize(("age_s", "is_moved"), [(0, False), (3_600, True)])
def test_the_lock_of_a_killed_process_is_removed_and_that_of_a_live_one_is_not(
    repository: GitRepository, age_s: int, *, is_moved: bool
) -> None:
    tip = commit(repository, None, a=b"1")
    lock = repository.path / "refs" / "heads" / "main.lock"
    lock.touch()
    os.utime(lock, (time.time() - age_s,) * 2)

    first = repository.set_head("refs/heads/main", None, tip)
    second = repository.set_head("refs/heads/main", None, tip)

    assert (first, second) == (False, is_moved)
    assert lock.exists() is not is_moved


def test_an_object_that_another_process_is_writing_is_stored_all_the_same(repository: GitRepository) -> None:
    blob = Blob.from_string(b"the same").id.decode()
    folder = repository.path / "objects" / blob[:2]
    folder.mkdir()
    (folder / f"{blob[2:]}.lock").touch()

    tip = commit(repository, None, a=b"the same")

    assert repository.blob(blob) == b"the same"
    assert repository.check_tree(tip) is None


def test_threads_that_first_read_a_pack_at_once_open_each_of_its_files_once(
    repository: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = commit(repository, None, a=b"1", b=b"2")
    repository.raw.object_store.repack()
    opened: list[str] = []
    for name in ("load_pack_index", "PackData"):
        monkeypatch.setattr(f"dulwich.pack.{name}", slow(getattr(dulwich.pack, name), opened))
    fresh = GitRepository.open(repository.path)
    together = threading.Barrier(8)

    def read() -> str:
        together.wait()
        return fresh.commit(first).message

    with ThreadPoolExecutor(8) as pool:
        messages = [each.result(20) for each in [pool.submit(read) for _ in range(8)]]

    fresh.close()
    assert messages == ["change"] * 8
    assert sorted(Path(path).suffix for path in opened) == [".idx", ".pack"]


def slow(opens: Callable[..., Any], opened: list[str]) -> Callable[..., Any]:
    """Wrap what opens a file so that whoever comes meanwhile has time to open it too."""

    def wrapped(path: str, *arguments: Any, **options: Any) -> Any:
        opened.append(path)
        time.sleep(0.02)
        return opens(path, *arguments, **options)

    return wrapped


def test_a_pack_may_keep_little_of_what_is_read_from_it(repository: GitRepository) -> None:
    files: dict[str, bytes | None] = {f"flows/f{number}.yaml": b"id: f%d" % number for number in range(20)}
    repository.commit_changes(None, files, author=ANN, message="change", at=AT)

    [pack] = repository.raw.object_store.packs

    assert pack.data._offset_cache._max_size == 1 << 20  # the library's own limit is 96 MB
