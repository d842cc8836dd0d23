"""Tasks that bring flows and files from elsewhere: what they write is one commit to the server's own repository."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.settings import EnvironmentSettings
from runner.tasks.namespace import DeleteFiles, UploadFiles
from sync.origins import Origins
from sync.tasks.namespace_sync import NamespaceSync, Shelf, TenantSync
from sync.tasks.sync_files import SyncNamespaceFiles
from sync.tasks.sync_flows import SyncFlow, SyncFlows
from tests.servers.git import GitServer, git

Seed = Callable[..., str]


@pytest.fixture
def elsewhere(git_server: GitServer) -> Path:
    """Give an empty repository of somebody else's."""
    return git_server.repository("elsewhere.git")


@pytest.fixture
def url(git_server: GitServer) -> str:
    return f"{git_server.url}/elsewhere.git"


def test_flows_from_elsewhere_become_one_commit_and_are_active(
    server: Any, elsewhere: Path, url: str, seed: Seed, flow: Any
) -> None:
    files = {
        "_flows/a.yml": flow("a", "dev", "changed"),
        "_flows/b.yaml": flow("b", "dev").replace("id: b", "# kept as written\nid: b"),
        "_flows/deep/er/c.yml": flow("c", "dev.deep.er"),
        "_flows/readme.md": "no flow",
    }
    seed(elsewhere, files)
    before = server.commits()

    outputs = server.run(SyncFlows, url=url, targetNamespace="company.team", includeChildNamespaces=True)
    again = server.run(SyncFlows, url=url, targetNamespace="company.team", includeChildNamespaces=True)

    assert server.flows() == {
        "company.team.a": flow("a", "company.team", "changed"),
        "company.team.b": flow("b").replace("id: b", "# kept as written\nid: b"),
        "company.team.deep.er.c": flow("c", "company.team.deep.er"),
    }
    assert server.commits() == before + 1
    assert git(server.repository, "log", "-1", "--format=%an", "main") == "company.team.a"
    states = [(row["gitPath"], row["syncState"], row["revision"]) for row in server.rows(outputs["flows"])]
    assert states == [
        ("_flows/a.yml", "UPDATED", 2),
        ("_flows/b.yaml", "ADDED", 1),
        ("_flows/deep/er/c.yml", "ADDED", 1),
    ]
    assert {row["syncState"] for row in server.rows(again["flows"])} == {"UNCHANGED"}


def test_a_dry_run_commits_nothing(server: Any, elsewhere: Path, url: str, seed: Seed, flow: Any) -> None:
    seed(elsewhere, {"_flows/a.yml": flow("a", message="new"), "_flows/b.yml": flow("b")})
    before = server.commits()

    outputs = server.run(SyncFlows, url=url, targetNamespace="company.team", dryRun=True)

    rows = [(row["flowId"], row["syncState"], row["revision"]) for row in server.rows(outputs["flows"])]
    assert rows == [("a", "UPDATED", 2), ("b", "ADDED", 1)]
    assert (server.commits(), list(server.flows())) == (before, ["company.team.a"])


def test_delete_removes_what_is_missing_but_never_the_flow_that_runs(
    server: Any, elsewhere: Path, url: str, seed: Seed, flow: Any
) -> None:
    seed(server.repository, {f"flows/company.team/{name}.yaml": flow(name) for name in ("b", "c")})
    server.sync.reconcile_repository("r", actor="test")
    seed(elsewhere, {"_flows/b.yml": flow("b")})

    outputs = server.run(SyncFlows, url=url, targetNamespace="company.team", delete=True)

    assert list(server.flows()) == ["company.team.a", "company.team.b"]
    assert server.rows(outputs["flows"])[1:] == [
        {"syncState": "DELETED", "flowId": "c", "namespace": "company.team", "revision": 1}
    ]


def test_the_deletion_guard_holds_for_what_a_task_removes(
    server: Any, elsewhere: Path, url: str, seed: Seed, flow: Any
) -> None:
    seed(server.repository, {f"flows/company.team/f{number}.yaml": flow(f"f{number}") for number in range(12)})
    server.sync.reconcile_repository("r", actor="test")
    seed(elsewhere, {"_flows/b.yml": flow("b")})

    error = server.fail(SyncFlows, url=url, targetNamespace="company.team", delete=True)

    assert error.code == "environment.held"
    assert len(server.flows()) == 13


def test_one_invalid_flow_keeps_all_of_them_out(server: Any, elsewhere: Path, url: str, seed: Seed, flow: Any) -> None:
    seed(elsewhere, {"_flows/a.yml": flow("a", message="new"), "_flows/b.yml": "id: b\nnamespace: x\ntasks: oops\n"})

    error = server.fail(SyncFlows, url=url, targetNamespace="company.team")
    server.run(SyncFlows, url=url, targetNamespace="company.team", ignoreInvalidFlows=True)

    assert error.code == "git.flows.invalid"
    assert "_flows/b.yml: line 3" in error.message
    assert server.flows() == {"company.team.a": flow("a", message="new")}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"targetNamespace": "other"}, "task.namespace.refused"),
    ({"gitDirectory": "absent"}, "git.directory.missing"),
    ({"gitDirectory": "../x"}, "file.path.refused"),
    ({"branch": "absent"}, "git.branch.missing"),
]


def test_what_cannot_be_synchronised_says_why(server: Any, elsewhere: Path, url: str, seed: Seed, flow: Any) -> None:
    seed(elsewhere, {"_flows/a.yml": flow("a", message="new")})

    fields = [{"url": url, "targetNamespace": "company.team"} | each for each, _ in REFUSED]
    errors = [server.fail(SyncFlows, **each) for each in fields]

    assert [error.code for error in errors] == [code for _, code in REFUSED]
    assert server.flows() == {"company.team.a": flow("a")}


def test_an_empty_repository_and_a_missing_folder_that_may_be_missing_change_nothing(
    server: Any, elsewhere: Path, url: str, seed: Seed
) -> None:
    empty = server.fail(SyncFlows, url=url, targetNamespace="company.team")
    seed(elsewhere, {"x": "1"})

    outputs = server.run(SyncFlows, url=url, targetNamespace="company.team", failOnMissingDirectory=False)

    assert empty.code == "git.branch.missing"
    assert server.rows(outputs["flows"]) == []


def test_flows_behind_links_and_in_odd_encodings_are_refused(
    server: Any, elsewhere: Path, url: str, seed: Seed, tmp_path: Path
) -> None:
    seed(elsewhere, {"_flows/x": "1"})
    tree = tmp_path / "links"
    git(tmp_path, "clone", "-q", str(elsewhere), str(tree))
    (tree / "_flows/evil.yml").symlink_to("/etc/passwd")
    (tree / "_flows/latin.yml").write_bytes("id: ä".encode("latin-1"))
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "links")
    git(tree, "push", "-q", "origin", "HEAD:main")

    error = server.fail(SyncFlows, url=url, targetNamespace="company.team")

    assert "_flows/latin.yml: it is not UTF-8 text" in error.message
    assert "_flows/evil.yml: a symbolic link is not followed" in server.bench.said("WARN")


def test_one_flow_is_brought_by_its_path(server: Any, elsewhere: Path, url: str, seed: Seed, flow: Any) -> None:
    seed(elsewhere, {"x/a.yml": flow("a", "dev", "new")})

    outputs = server.run(SyncFlow, url=url, targetNamespace="company.team", flowPath="x/a.yml")
    error = server.fail(SyncFlow, url=url, targetNamespace="company.team", flowPath="x/absent.yml")

    assert outputs == {"flowId": "a", "namespace": "company.team", "revision": 2}
    assert server.flows() == {"company.team.a": flow("a", message="new")}
    assert error.code == "git.file.missing"


def test_without_a_server_no_flow_can_be_written(bench: Any, elsewhere: Path, url: str, seed: Seed, flow: Any) -> None:
    seed(elsewhere, {"_flows/a.yml": flow("a")})

    error = bench.fail(SyncFlows, url=url, targetNamespace="company.team")

    assert error.code == "store.absent"


def test_files_from_elsewhere_are_one_commit_with_what_leaves(
    server: Any, elsewhere: Path, url: str, seed: Seed
) -> None:
    files = {"_files/q.sql": "select 2", "_files/new/x.py": "x", "_files/no.log": "1", "_files/.kestraignore": "*.log"}
    seed(elsewhere, files)
    seed(server.repository, {"flows/company.team/old.txt": "old", "flows/company.team/mine.log": "mine"})
    server.sync.reconcile_repository("r", actor="test")
    before = server.commits()

    outputs = server.run(SyncNamespaceFiles, url=url, delete=True)

    assert server.commits() == before + 1
    assert git(server.repository, "show", "main:flows/company.team/q.sql") == "select 2"
    assert git(server.repository, "ls-tree", "-r", "--name-only", "main").splitlines() == [
        "flows/company.team/a.yaml",
        "flows/company.team/mine.log",
        "flows/company.team/new/x.py",
        "flows/company.team/q.sql",
    ]
    assert [(row["kestraPath"], row["syncState"]) for row in server.rows(outputs["files"])] == [
        ("/new/x.py", "ADDED"),
        ("/q.sql", "OVERWRITTEN"),
        ("/old.txt", "DELETED"),
    ]


def test_a_namespace_is_pushed_and_comes_back(server: Any, elsewhere: Path, url: str, seed: Seed, flow: Any) -> None:
    seed(elsewhere, {"company.team/flows/theirs.yaml": flow("theirs"), "README": "x"})

    pushed = server.run(NamespaceSync, url=url, branch="main", namespace="company.team")
    seed(elsewhere, {"company.team/flows/a.yaml": flow("a", message="new"), "company.team/files/q.sql": "select 3"})
    taken = server.run(NamespaceSync, url=url, branch="main", namespace="company.team", sourceOfTruth="GIT")

    assert [(row["file"], row["action"]) for row in server.rows(pushed["diff"])] == [
        ("company.team/flows/a.yaml", "ADDED"),
        ("company.team/flows/theirs.yaml", "UNCHANGED"),
        ("company.team/files/q.sql", "ADDED"),
    ]
    assert len(pushed["commitId"]) == 40
    assert [(row["key"], row["kind"], row["action"]) for row in server.rows(taken["diff"])] == [
        ("company.team/a", "FLOW", "UPDATED_KES"),
        ("company.team/theirs", "FLOW", "ADDED"),
        ("company.team/q.sql", "FILE", "UPDATED_KES"),
    ]
    assert server.flows() == {"company.team.a": flow("a", message="new"), "company.team.theirs": flow("theirs")}
    assert git(server.repository, "show", "main:flows/company.team/q.sql") == "select 3"


def test_what_the_source_lacks_is_removed_or_an_error_only_on_request(
    server: Any, elsewhere: Path, url: str, seed: Seed, flow: Any
) -> None:
    seed(elsewhere, {"company/team/flows/theirs.yaml": flow("theirs"), "company/team/files/x": "x"})
    fields = {"url": url, "branch": "main", "namespace": "company.team"}

    failed = server.fail(NamespaceSync, **fields, whenMissingInSource="FAIL")
    kept = server.run(NamespaceSync, **fields, whenMissingInSource="DELETE", protectedNamespaces=["company.team"])
    server.run(NamespaceSync, **fields, whenMissingInSource="DELETE")

    assert failed.code == "git.sync.missing"
    assert "DELETED_GIT" not in {row["action"] for row in server.rows(kept["diff"])}
    assert git(elsewhere, "ls-tree", "-r", "--name-only", "main").splitlines() == [
        "company.team/files/q.sql",
        "company.team/flows/a.yaml",
    ]


def test_a_namespace_from_git_may_lose_flows_but_not_the_one_that_runs(
    server: Any, elsewhere: Path, url: str, seed: Seed, flow: Any
) -> None:
    seed(server.repository, {"flows/company.team/b.yaml": flow("b")})
    server.sync.reconcile_repository("r", actor="test")
    seed(elsewhere, {"k/company.team/flows/c.yaml": flow("c"), "k/company.team/flows/bad.yaml": "a: ["})
    fields = {"url": url, "branch": "main", "namespace": "company.team", "sourceOfTruth": "GIT", "gitDirectory": "k"}

    invalid = server.fail(NamespaceSync, **fields, whenMissingInSource="DELETE")
    server.run(NamespaceSync, **fields, whenMissingInSource="DELETE", onInvalidSyntax="WARN")

    assert invalid.code == "git.flows.invalid"
    assert list(server.flows()) == ["company.team.a", "company.team.c"]
    assert server.bench.host.files.list("prod", server.sync.environment("prod").active, "company.team") == []


def test_a_system_flow_pushes_all_namespaces_another_one_its_own(
    server: Any, elsewhere: Path, url: str, seed: Seed, flow: Any
) -> None:
    seed(server.repository, {"flows/other/o.yaml": flow("o", "other")})
    server.sync.reconcile_repository("r", actor="test")

    own = server.run(TenantSync, url=url, branch="own")
    server.bench.namespace = "system"
    every = server.run(TenantSync, url=url, branch="main", dryRun=True)

    assert {row["key"] for row in server.rows(own["diff"])} == {"company.team/a", "company.team/q.sql"}
    assert {row["key"] for row in server.rows(every["diff"])} == {"company.team/a", "company.team/q.sql", "other/o"}
    assert git(elsewhere, "branch", "--list").split() == ["own"]


def test_flows_and_files_are_found_below_dotted_and_nested_folders() -> None:
    paths = [
        "a.b/flows/x.yaml",
        "a/b/flows/y.yml",
        "a/b/flows/deep/z.yml",
        "a.b/files/flows/q",
        "flows/top.yaml",
        "r.md",
    ]

    shelf = Shelf.of(paths)

    assert shelf.flows == {("a.b", "x"): "a.b/flows/x.yaml", ("a.b", "y"): "a/b/flows/y.yml"}
    assert shelf.files == {("a.b", "flows/q"): "a.b/files/flows/q"}


def test_a_flow_of_a_preview_commits_neither_flows_nor_files(
    server: Any, elsewhere: Path, url: str, seed: Seed, flow: Any
) -> None:
    # Its preview is gone, so that the environment of all other namespaces would take them for its own.
    server.bench.namespace = "preview.pr-7.company.team"
    files = {"_flows/a.yml": flow("a"), "_files/f": "1", f"{server.bench.namespace}/flows/a.yml": flow("a")}
    seed(elsewhere, files)
    (server.bench.path / "f").write_text("1")
    before = server.commits()
    to_here = {"url": url, "targetNamespace": server.bench.namespace}

    errors = [
        server.fail(SyncFlows, **to_here),
        server.fail(SyncFlow, **to_here, flowPath="_flows/a.yml"),
        server.fail(SyncNamespaceFiles, url=url),
        server.fail(NamespaceSync, url=url, branch="main", namespace=server.bench.namespace, sourceOfTruth="GIT"),
        server.fail(UploadFiles, files="f"),
        server.fail(DeleteFiles, files="*"),
    ]
    tried = server.run(SyncFlows, **to_here, dryRun=True)

    assert {error.code for error in errors} == {"preview.boundary"}
    assert [row["syncState"] for row in server.rows(tried["flows"])] == ["ADDED"]
    assert (server.commits(), list(server.flows())) == (before, ["company.team.a"])


def test_where_changes_are_proposed_a_task_is_refused_and_its_log_says_what_to_do(
    server: Any, elsewhere: Path, url: str, seed: Seed, flow: Any
) -> None:
    seed(elsewhere, {"_flows/b.yml": flow("b")})
    before = server.commits()
    environment = EnvironmentSettings(name="prod", repository="r", writes="propose")
    settings = server.bench.host.settings.model_copy(update={"environments": (environment,)})
    Origins(server.store, settings, settings.home).declare()

    error = server.fail(SyncFlows, url=url, targetNamespace="company.team")
    compared = server.run(SyncFlows, url=url, targetNamespace="company.team", dryRun=True)

    assert error.code == "environment.writes.elsewhere"
    assert error.message == (
        "environment prod takes changes only as proposals, which no task makes: commit them to a branch of repository "
        "r, with git.Push or by hand, and open a change request to main; or write by the API, which proposes"
    )
    assert [row["syncState"] for row in server.rows(compared["flows"])] == ["ADDED"]
    assert (server.commits(), list(server.flows())) == (before, ["company.team.a"])
