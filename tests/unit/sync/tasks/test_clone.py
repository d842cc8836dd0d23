"""`git.Clone` against git's own HTTP backend."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sync.checkout import stays_inside
from sync.tasks.clone import Clone
from tests.servers.git import GitServer, git

Seed = Callable[..., str]


def test_a_clone_is_a_work_tree_that_git_finds_clean(bench: Any, git_server: GitServer, seed: Seed) -> None:
    commit = seed(git_server.repository("a.git"), {"run.py": "print(1)\n", "data/x.csv": "1,2\n"})

    outputs = bench.run(Clone, url=f"{git_server.url}/a.git", directory="repo")

    assert outputs == {"directory": str(bench.path / "repo"), "commit": commit}
    assert bench.files("repo") == {"run.py": "print(1)\n", "data/x.csv": "1,2\n"}
    assert git(bench.path / "repo", "status", "--porcelain", "--branch") == "## main...origin/main"
    assert git(bench.path / "repo", "log", "--format=%H") == commit
    assert git(bench.path / "repo", "fsck", "--strict", "--no-dangling") == ""


def test_without_a_directory_the_files_stand_in_the_working_directory(
    bench: Any, git_server: GitServer, seed: Seed
) -> None:
    seed(git_server.repository("a.git"), {"run.py": "1"})
    (bench.path / "mine.txt").write_text("kept")

    bench.run(Clone, url=f"{git_server.url}/a.git")
    bench.run(Clone, url=f"{git_server.url}/a.git")

    assert bench.files() == {"run.py": "1", "mine.txt": "kept"}
    assert git(bench.path, "status", "--porcelain") == "?? mine.txt"


@pytest.mark.parametrize("by", ["branch", "tag", "commit", "short"])
def test_a_branch_a_tag_or_a_commit_may_be_named(bench: Any, git_server: GitServer, seed: Seed, by: str) -> None:
    repository = git_server.repository("a.git")
    old = seed(repository, {"a": "old"})
    git(repository, "tag", "-a", "v1", "-m", "first", old)
    seed(repository, {"a": "new"})
    seed(repository, {"a": "other"}, "team/x")
    named = {"branch": {"branch": "team/x"}, "tag": {"tag": "v1"}, "commit": {"commit": old}}.get(
        by, {"commit": old[:9]}
    )

    outputs = bench.run(Clone, url=f"{git_server.url}/a.git", **named)

    assert bench.files() == {"a": "other" if by == "branch" else "old"}
    assert outputs["commit"] == git(bench.path, "rev-parse", "HEAD")
    assert git(bench.path, "status", "--porcelain") == ""


def test_the_depth_says_how_much_of_the_history_comes(bench: Any, git_server: GitServer, seed: Seed) -> None:
    repository = git_server.repository("a.git")
    for number in range(4):
        seed(repository, {"a": str(number)})

    found = {}
    for depth in (1, 2, 0):
        bench.run(Clone, url=f"{git_server.url}/a.git", directory=f"d{depth}", depth=f"{{{{ {depth} }}}}")
        found[depth] = int(git(bench.path / f"d{depth}", "rev-list", "--count", "HEAD"))

    assert found == {1: 1, 2: 2, 0: 4}


def test_all_branches_come_along_on_request(bench: Any, git_server: GitServer, seed: Seed) -> None:
    repository = git_server.repository("a.git")
    seed(repository, {"a": "1"})
    seed(repository, {"a": "2"}, "other")

    bench.run(Clone, url=f"{git_server.url}/a.git", cloneAllBranches=True)

    assert git(bench.path, "branch", "-r", "--format=%(refname)").split() == [
        "refs/remotes/origin/main",
        "refs/remotes/origin/other",
    ]
    assert git(bench.path, "show", "origin/other:a") == "2"


def test_modes_and_links_come_along_but_for_links_that_lead_out(
    bench: Any, git_server: GitServer, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    git(tree, "init", "-q", "-b", "main")
    (tree / "bin").mkdir()
    (tree / "bin/go").write_text("#!/bin/sh\n")
    (tree / "bin/go").chmod(0o755)
    for name, target in {
        "bin/up": "../data",
        "shadow": "/etc/shadow",
        "out": "../../x",
        "bin/sly": "up/../../y",
    }.items():
        (tree / name).symlink_to(target)
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "links")
    git(tree, "push", "-q", str(git_server.repository("a.git")), "HEAD:refs/heads/main")

    bench.run(Clone, url=f"{git_server.url}/a.git")

    assert stat.S_IMODE((bench.path / "bin/go").stat().st_mode) == 0o755
    assert str((bench.path / "bin/up").readlink()) == "../data"
    assert [(bench.path / name).is_symlink() for name in ("shadow", "out", "bin/sly")] == [False] * 3
    assert "the link shadow leads out of the repository" in bench.said("WARN")
    assert git(bench.path, "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("path", "target", "is_inside"),
    [
        ("a", "b", True),
        ("a/b/c", "../../d", True),
        ("a", "..", False),
        ("a/b", "../..", False),
        ("a", "/etc", False),
        ("a", "b/../../c", False),
        ("a/b", "./../c", True),
        ("a", "b\x1bc", False),
    ],
)
def test_a_link_may_lead_to_places_of_its_own_repository_only(path: str, target: str, is_inside: Any) -> None:
    assert stays_inside(path, target) is is_inside


@pytest.mark.parametrize("name", ["..", ".git", "GIT~1", "a\\b"])
def test_a_tree_with_a_name_that_means_another_place_is_refused(
    bench: Any, git_server: GitServer, seed: Seed, name: str
) -> None:
    repository = git_server.repository("a.git")
    seed(repository, {"a": "1"})
    blob = git(repository, "rev-parse", "main:a")
    inner = _object(repository, "tree", b"100644 x\0" + bytes.fromhex(blob))
    root = _object(repository, "tree", b"40000 " + name.encode() + b"\0" + bytes.fromhex(inner))
    git(repository, "update-ref", "refs/heads/main", git(repository, "commit-tree", root, "-m", "sly"))

    error = bench.fail(Clone, url=f"{git_server.url}/a.git")

    assert error.code == "repository.name.refused"
    assert bench.files() == {}


def test_a_file_is_never_written_through_a_link_of_the_same_tree(
    bench: Any, git_server: GitServer, seed: Seed, tmp_path: Path
) -> None:
    repository = git_server.repository("a.git")
    seed(repository, {"a": str(tmp_path)})
    blob = bytes.fromhex(git(repository, "rev-parse", "main:a"))
    inner = bytes.fromhex(_object(repository, "tree", b"100644 caught\0" + blob))
    root = _object(repository, "tree", b"120000 a\0" + blob + b"40000 a\0" + inner)
    git(repository, "update-ref", "refs/heads/main", git(repository, "commit-tree", root, "-m", "sly"))

    bench.run(Clone, url=f"{git_server.url}/a.git")

    assert not (tmp_path / "caught").exists()
    assert (bench.path / "a/caught").is_file()


def test_a_link_that_a_body_left_in_the_directory_is_not_followed(
    bench: Any, git_server: GitServer, seed: Seed, tmp_path: Path
) -> None:
    seed(git_server.repository("a.git"), {"a": "1"})
    target = tmp_path / "elsewhere"
    target.mkdir()
    (bench.path / "repo").symlink_to(target)

    error = bench.fail(Clone, url=f"{git_server.url}/a.git", directory="repo")

    assert error.code == "file.path.refused"
    assert list(target.iterdir()) == []


def test_files_of_submodules_come_along_and_credentials_stay_with_their_host(
    bench: Any, git_server: GitServer, tmp_path: Path, seed: Seed
) -> None:
    seed(git_server.repository("lib.git"), {"lib.py": "x = 1\n"})
    git_server.repository("a.git")
    tree = tmp_path / "tree"
    git(tmp_path, "clone", "-q", f"{git_server.url}/a.git", str(tree))
    git(tree, "submodule", "--quiet", "add", "../lib.git", "vendor/lib")
    git(tree, "commit", "-q", "-m", "with a submodule")
    git(tree, "push", "-q", "origin", "HEAD:refs/heads/main")

    bench.run(Clone, url=f"{git_server.url}/a.git", directory="r", cloneSubmodules=True)

    assert bench.files("r")["vendor/lib/lib.py"] == "x = 1\n"


def test_a_password_is_sent_and_never_shown(bench: Any, git_server: GitServer, seed: Seed, basic_header: Any) -> None:
    seed(git_server.repository("a.git"), {"a": "1"})
    git_server.authorization = basic_header("ann", "s3cret-token")
    url = f"{git_server.url}/a.git"

    bench.run(Clone, url=url, username="ann", password="s3cret-token")
    error = bench.fail(Clone, url=url, username="ann", password="wr0ng-token", directory="b")

    assert bench.files() == {"a": "1"}
    assert (error.code, "wr0ng" in str(error)) == ("repository.access.denied", False)
    assert bench.host.masker.mask("s3cret-token wr0ng-token").count("*") > 0
    assert "s3cret" not in (bench.path / ".git/config").read_text()
    assert list((bench.host.settings.work_root).iterdir()) == []


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"branch": "absent"}, "git.branch.missing"),
    ({"tag": "absent"}, "git.branch.missing"),
    ({"commit": "deadbeef"}, "git.commit.missing"),
    ({"commit": "d" * 40}, "git.commit.missing"),
    ({"branch": "a..b"}, "repository.ref.invalid"),
    ({"depth": "many"}, "task.property.invalid"),
    ({"depth": -1}, "task.property.invalid"),
    ({"directory": "../out"}, "file.path.refused"),
    ({"directory": "/abs"}, "file.path.refused"),
    ({"gitConfig": {"core": "x"}}, "task.property.invalid"),
    ({"url": "file:///etc"}, "git.url.local"),
    ({"url": "/etc"}, "git.url.local"),
    ({"url": "https://ann:pw@example.org/a.git"}, "repository.url.invalid"),
    ({"url": "ext::sh -c id"}, "repository.url.invalid"),
    ({"url": "http://169.254.169.254/a.git"}, "egress.address.refused"),
    ({"url": "http://nowhere.invalid/a.git"}, "egress.host.unknown"),
    ({"url": "ssh://git@169.254.169.254/a.git"}, "egress.address.refused"),
    ({"url": "http://127.0.0.1:9/a.git"}, "repository.unreachable"),
]


def test_what_cannot_be_cloned_says_why(bench: Any, git_server: GitServer, seed: Seed) -> None:
    seed(git_server.repository("a.git"), {"a": "1"})

    errors = [bench.fail(Clone, **{"url": f"{git_server.url}/a.git"} | fields) for fields, _ in REFUSED]

    assert [error.code for error in errors] == [code for _, code in REFUSED]
    assert "ann:pw" not in "".join(map(str, errors))
    assert bench.files() == {}


def test_a_private_address_is_refused_where_the_settings_say_so(bench: Any, git_server: GitServer, seed: Seed) -> None:
    seed(git_server.repository("a.git"), {"a": "1"})
    bench.host = replace(bench.host, settings=bench.host.settings.model_copy(update={"allow_private_addresses": False}))

    error = bench.fail(Clone, url=f"{git_server.url}/a.git")

    assert error.code == "egress.address.refused"
    assert git_server.requests == []


def test_an_empty_repository_has_nothing_to_clone(bench: Any, git_server: GitServer) -> None:
    git_server.repository("a.git")

    error = bench.fail(Clone, url=f"{git_server.url}/a.git")

    assert error.code == "git.branch.missing"


def test_a_repository_larger_than_the_limit_is_not_fetched(bench: Any, git_server: GitServer, seed: Seed) -> None:
    noise = subprocess.run(["head", "-c", "1500000", "/dev/urandom"], capture_output=True, check=True).stdout.hex()
    seed(git_server.repository("a.git"), {"big": noise})

    error = bench.fail(Clone, url=f"{git_server.url}/a.git")

    assert error.code == "repository.budget.exceeded"
    assert bench.files() == {}
    assert list(bench.host.settings.work_root.iterdir()) == []


def _object(repository: Path, kind: str, content: bytes) -> str:
    command = ["git", "hash-object", "-t", kind, "-w", "--literally", "--stdin"]
    return (
        subprocess.run(command, cwd=repository, input=content, capture_output=True, check=True).stdout.decode().strip()
    )
