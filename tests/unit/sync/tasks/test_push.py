"""Tasks that push, against git's own HTTP backend."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from runner.plugin import Context, Outputs
from sync.tasks.clone import Clone
from sync.tasks.ignoring import ignored
from sync.tasks.push import Push
from sync.tasks.push_server import PushExecutionFiles, PushFlows, PushNamespaceFiles
from sync.tasks.pushing import Edits, PushTask, commit_url
from tests.servers.git import GitServer, git

Seed = Callable[..., str]


def tree(repository: Path, branch: str = "main") -> dict[str, str]:
    names = git(repository, "ls-tree", "-r", "--name-only", branch).splitlines()
    return {name: git(repository, "show", f"{branch}:{name}") for name in names}


def test_what_changed_since_the_clone_is_pushed_on_what_others_pushed_meanwhile(
    bench: Any, git_server: GitServer, seed: Seed
) -> None:
    repository = git_server.repository("a.git")
    seed(repository, {"a": "1", "b": "1", "gone": "1"})
    bench.run(Clone, url=f"{git_server.url}/a.git", directory="r")
    theirs = seed(repository, {"c": "theirs"})
    (bench.path / "r/a").write_text("2")
    (bench.path / "r/gone").unlink()
    (bench.path / "r/new").mkdir()
    (bench.path / "r/new/x").write_text("x")

    outputs = bench.run(
        Push,
        directory="r",
        branch="main",
        commitMessage="work of {{ flow.id }}",
        author={"name": "Ann", "email": "ann@example.org"},
    )

    assert tree(repository) == {"a": "2", "b": "1", "c": "theirs", "new/x": "x"}
    assert git(repository, "log", "-1", "--format=%H %P %an <%ae> %s") == (
        f"{outputs['commitId']} {theirs} Ann <ann@example.org> work of a"
    )
    assert outputs["commitURL"] == f"{git_server.url}/a/commit/{outputs['commitId']}"
    assert git_server.fsck("a.git") == ""


def test_a_file_that_others_changed_since_the_clone_is_a_conflict(
    bench: Any, git_server: GitServer, seed: Seed
) -> None:
    repository = git_server.repository("a.git")
    seed(repository, {"a": "1"})
    bench.run(Clone, url=f"{git_server.url}/a.git")
    theirs = seed(repository, {"a": "theirs"})
    (bench.path / "a").write_text("mine")

    error = bench.fail(Push, branch="main", commitMessage="m")

    assert error.code == "git.push.conflict"
    assert git(repository, "rev-parse", "main") == theirs


def test_nothing_is_pushed_when_nothing_changed(bench: Any, git_server: GitServer, seed: Seed) -> None:
    repository = git_server.repository("a.git")
    commit = seed(repository, {"a": "1"})
    bench.run(Clone, url=f"{git_server.url}/a.git")

    outputs = bench.run(Push, branch="main", commitMessage="m")

    assert outputs == {}
    assert git(repository, "rev-parse", "main") == commit


def test_patterns_and_ignored_files_limit_what_is_pushed(bench: Any, git_server: GitServer, seed: Seed) -> None:
    repository = git_server.repository("a.git")
    seed(repository, {"a": "1", ".gitignore": "*.pyc\nbuild/\n!keep.pyc\n"})
    bench.run(Clone, url=f"{git_server.url}/a.git")
    for name in ("out/x.txt", "out/y.pyc", "out/keep.pyc", "out/build/z", "elsewhere.txt", "note.md"):
        (bench.path / name).parent.mkdir(exist_ok=True, parents=True)
        (bench.path / name).write_text(name)
    (bench.path / "a").unlink()

    bench.run(
        Push, branch="work", commitMessage="m", addFilesPattern=["out", "*.md"], inputFiles={"out/in": "{{ 1 + 1 }}"}
    )

    assert sorted(tree(repository, "work")) == [".gitignore", "a", "note.md", "out/in", "out/keep.pyc", "out/x.txt"]
    assert git(repository, "merge-base", "work", "main") == git(repository, "rev-parse", "main")


def test_without_a_clone_the_branch_gets_the_files_of_the_directory(
    bench: Any, git_server: GitServer, seed: Seed
) -> None:
    repository = git_server.repository("a.git")
    seed(repository, {"old": "1"})
    (bench.path / "new").write_text("2")

    bench.run(Push, url=f"{git_server.url}/a.git", branch="main", commitMessage="m")

    assert tree(repository) == {"new": "2"}


def test_the_first_commit_of_an_empty_repository_can_be_pushed(bench: Any, git_server: GitServer) -> None:
    repository = git_server.repository("a.git")
    (bench.path / "new").write_text("2")

    bench.run(Push, url=f"{git_server.url}/a.git", branch="main", commitMessage="m")

    assert tree(repository) == {"new": "2"}
    assert git_server.fsck("a.git") == ""


def test_links_are_not_pushed_and_not_followed(bench: Any, git_server: GitServer, tmp_path: Path) -> None:
    repository = git_server.repository("a.git")
    (tmp_path / "secret").write_text("secret")
    (bench.path / "link").symlink_to(tmp_path / "secret")
    (bench.path / "folder").symlink_to(tmp_path)
    (bench.path / "file").write_text("x")

    bench.run(Push, url=f"{git_server.url}/a.git", branch="main", commitMessage="m")
    error = bench.fail(Push, url=f"{git_server.url}/a.git", branch="main", commitMessage="m", directory="folder")

    assert tree(repository) == {"file": "x"}
    assert error.code == "file.path.refused"


def test_a_push_that_comes_too_late_is_made_anew_on_the_earlier_one(
    bench: Any, git_server: GitServer, seed: Seed
) -> None:
    repository = git_server.repository("a.git")
    seed(repository, {"a": "1"})
    bases: list[str | None] = []

    class Late(PushTask):
        def run(self, ctx: Context) -> Outputs:
            with self.opened(ctx, self.url) as remote:

                def edit(base: str | None, _files: Mapping[str, str]) -> Edits:
                    bases.append(base)
                    if len(bases) < 3:
                        seed(repository, {f"theirs{len(bases)}": "x"})
                    return {"mine": b"x"}

                return self.outputs(
                    ctx, remote, "refs/heads/main", self.publish(ctx, remote, "refs/heads/main", edit, "m")
                )

    outputs = bench.run(Late, url=f"{git_server.url}/a.git")

    assert sorted(tree(repository)) == ["a", "mine", "theirs1", "theirs2"]
    assert len(bases) == 3
    assert git(repository, "rev-parse", "main", "main^").split() == [outputs["commitId"], bases[2]]


def test_of_pushes_at_once_none_is_lost(bench: Any, git_server: GitServer, seed: Seed) -> None:
    repository = git_server.repository("a.git")
    seed(repository, {"a": "1"})
    for number in range(4):
        (bench.path / f"{number}.txt").write_text(str(number))

    def push(number: int) -> Any:
        fields = {"files": [f"{number}.txt"], "gitDirectory": "out", "commitMessage": f"file {number}"}
        return bench.run(PushExecutionFiles, url=f"{git_server.url}/a.git", **fields)

    with ThreadPoolExecutor(4) as pool:
        outputs = list(pool.map(push, range(4)))

    assert sorted(tree(repository)) == ["a", "out/0.txt", "out/1.txt", "out/2.txt", "out/3.txt"]
    log = git(repository, "log", "--format=%H", "main").splitlines()
    assert all(each["commitId"] in log for each in outputs)
    assert git_server.fsck("a.git") == ""


def test_a_remote_that_refuses_is_named_with_its_reason(bench: Any, git_server: GitServer, seed: Seed) -> None:
    repository = git_server.repository("a.git")
    commit = seed(repository, {"a": "1"})
    hook = repository / "hooks/pre-receive"
    hook.write_text("#!/bin/sh\necho protected >&2\nexit 1\n")
    hook.chmod(0o755)
    (bench.path / "b").write_text("2")

    error = bench.fail(Push, url=f"{git_server.url}/a.git", branch="main", commitMessage="m")

    assert error.code == "repository.push.refused"
    assert "pre-receive hook declined" in str(error)
    assert git(repository, "rev-parse", "main") == commit


def test_a_wrong_password_is_told_without_showing_it(
    bench: Any, git_server: GitServer, seed: Seed, basic_header: Any
) -> None:
    seed(git_server.repository("a.git"), {"a": "1"})
    git_server.authorization = basic_header("ann", "right")

    error = bench.fail(
        Push, url=f"{git_server.url}/a.git", branch="main", commitMessage="m", username="ann", password="wr0ng-pass"
    )

    assert error.code == "repository.access.denied"
    assert "wr0ng" not in f"{error} {error.hint}"


def test_a_push_without_an_address_needs_a_clone(bench: Any) -> None:
    error = bench.fail(Push, branch="main", commitMessage="m")
    (bench.path / ".git").mkdir()
    (bench.path / ".git/config").write_text('[remote "origin"]\n\turl = /etc\n')
    local = bench.fail(Push, branch="main", commitMessage="m")

    assert error.code == "git.url.missing"
    assert local.code == "git.url.local"


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("https://github.com/a/b.git", "https://github.com/a/b/commit/c0ffee"),
        ("git@github.com:a/b.git", "https://github.com/a/b/commit/c0ffee"),
        ("ssh://git@git.example.org:2222/a/b", "https://git.example.org/a/b/commit/c0ffee"),
        ("https://bitbucket.org/a/b", "https://bitbucket.org/a/b/commits/c0ffee"),
        ("https://dev.azure.com/o/p/_git/r", "https://dev.azure.com/o/p/_git/r/commit/c0ffee?refName=refs%2Fheads%2Fm"),
    ],
)
def test_the_page_of_a_commit_is_that_of_its_forge(url: str, page: str) -> None:
    assert commit_url(url, "m", "c0ffee") == page


def test_flows_of_a_namespace_are_pushed_under_another(
    server: Any, git_server: GitServer, seed: Seed, flow: Any
) -> None:
    seed(
        server.repository,
        {"flows/company.team/deep/b.yaml": flow("b", "company.team.deep"), "flows/other/o.yaml": flow("o", "other")},
    )
    server.sync.reconcile_repository("r", actor="test")
    target = git_server.repository("backup.git")
    seed(target, {"_flows/a.yaml": "old", "_flows/gone.yml": "old", "_flows/readme.md": "kept", "README": "kept"})

    outputs = server.run(
        PushFlows,
        url=f"{git_server.url}/backup.git",
        targetNamespace="prod",
        includeChildNamespaces=True,
        authorName="Bo",
    )
    again = server.run(
        PushFlows, url=f"{git_server.url}/backup.git", targetNamespace="prod", includeChildNamespaces=True
    )

    assert tree(target) == {
        "README": "kept",
        "_flows/a.yaml": flow("a", "prod").strip(),
        "_flows/deep/b.yml": flow("b", "prod.deep").strip(),
        "_flows/readme.md": "kept",
    }
    assert git(target, "log", "-1", "--format=%an %s") == "Bo Add flows from company.team namespace"
    assert server.rows(outputs["flows"]) == [
        {"file": "_flows/a.yaml", "additions": "+3", "deletions": "-0", "changes": "0"},
        {"file": "_flows/deep/b.yml", "additions": "+4", "deletions": "-0", "changes": "0"},
        {"file": "_flows/gone.yml", "additions": "+0", "deletions": "-1", "changes": "0"},
    ]
    assert set(again) == {"flows"}
    assert server.rows(again["flows"]) == []


def test_a_dry_run_pushes_nothing_and_says_what_differs(server: Any, git_server: GitServer, seed: Seed) -> None:
    target = git_server.repository("backup.git")
    commit = seed(target, {"x": "1"})

    outputs = server.run(PushFlows, url=f"{git_server.url}/backup.git", dryRun="{{ true }}")

    assert [row["file"] for row in server.rows(outputs["flows"])] == ["_flows/a.yml"]
    assert set(outputs) == {"flows"}
    assert git(target, "rev-parse", "main") == commit


def test_only_flows_of_the_own_namespace_may_be_pushed(server: Any, git_server: GitServer) -> None:
    git_server.repository("backup.git")

    error = server.fail(PushFlows, url=f"{git_server.url}/backup.git", sourceNamespace="other")

    assert error.code == "task.namespace.refused"


def test_namespace_files_are_pushed_and_what_is_ignored_is_left_alone(
    server: Any, git_server: GitServer, seed: Seed
) -> None:
    target = git_server.repository("backup.git")
    seed(
        target, {"_files/.kestraignore": "*.log\n", "_files/x.log": "1", "_files/gone.sql": "1", "_files/gone.txt": "1"}
    )

    server.run(PushNamespaceFiles, url=f"{git_server.url}/backup.git", files="*.sql")

    assert sorted(tree(target)) == ["_files/.kestraignore", "_files/gone.txt", "_files/q.sql", "_files/x.log"]


def test_files_of_tasks_before_are_pushed_by_their_names(server: Any, git_server: GitServer, seed: Seed) -> None:
    target = git_server.repository("backup.git")
    seed(target, {"x": "1"})
    produced = server.run(PushNamespaceFiles, url=f"{git_server.url}/backup.git", branch="b")["files"]
    server.bench.variables["outputs"] = {"make": {"outputFiles": {"r/report.json": produced, "z.csv": produced}}}
    server.bench.variables["uri"] = produced

    server.run(PushExecutionFiles, url=f"{git_server.url}/backup.git", files="*.json")
    server.run(PushExecutionFiles, url=f"{git_server.url}/backup.git", filesMap={"named.txt": "{{ uri }}"})
    empty = server.fail(PushExecutionFiles, url=f"{git_server.url}/backup.git", files="*.md", errorOnMissing=True)

    assert sorted(tree(target)) == ["_outputs/named.txt", "_outputs/r/report.json", "x"]
    assert empty.code == "namespace.files.missing"


@pytest.mark.parametrize(
    ("rules", "path", "is_ignored"),
    [
        ("*.log", "a/b.log", True),
        ("*.log\n!keep.log", "a/keep.log", False),
        ("/top", "a/top", False),
        ("/top", "top/x", True),
        ("build/", "a/build/x", True),
        ("build/", "build", False),
        ("a/*.txt", "a/x.txt", True),
        ("a/*.txt", "b/a/x.txt", False),
        ("# note\n\n", "# note", False),
        ("../x", "x", False),
    ],
)
def test_lines_that_ignore_mean_what_they_mean_to_git(rules: str, path: str, is_ignored: Any) -> None:
    assert ignored(rules)(path) is is_ignored


def test_a_run_without_a_server_cannot_push_flows(bench: Any, git_server: GitServer) -> None:
    git_server.repository("a.git")

    error = bench.fail(PushFlows, url=f"{git_server.url}/a.git")

    assert error.code == "store.absent"
    assert re.match(r"this task needs a server", error.message)
