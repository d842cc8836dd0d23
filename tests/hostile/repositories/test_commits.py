"""Commits that no git wrote: their environment says so, and the others of the repository go on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from runner.settings import EnvironmentSettings, RepositorySettings
from sync.service import SyncService
from tests.servers.git import git

FLOW = "id: a\nnamespace: {name}\ntasks: [{{id: say, type: core.log.Log, message: {text}}}]\n"
WHO = "Ann <ann@example.org> 1700000000 +0000"


HEADS = {
    f"author {WHO}\ncommitter Ann <ann@example.org>\n": "repository.commit.malformed",
    f"author {WHO}\ncommitter \n": "repository.commit.malformed",
    f"author {WHO}\n": "repository.commit.malformed",
    f"committer {WHO}\n": "repository.commit.malformed",
    f"author {WHO}\ncommitter Ann <ann@example.org> soon +0000\n": "repository.commit.missing",
    f"author {WHO}\ncommitter Ann <ann@example.org> 1700000000\n": "repository.commit.missing",
}


def test_a_malformed_commit_keeps_no_other_environment_from_its_commits(
    start: Callable[..., SyncService], tmp_path: Path
) -> None:
    folder, bare = tmp_path / "work", tmp_path / "r.git"
    git(tmp_path, "init", "-q", "--bare", "-b", "main", str(bare))
    git(tmp_path, "clone", "-q", str(bare), str(folder))
    environments = [
        EnvironmentSettings(name=name, repository="r", ref=f"refs/heads/{name}", path=name, namespaces=(name,))
        for name in ("bad", "good")
    ]
    parent, _ = [_commit(folder, name, "one") for name in ("bad", "good")]
    service = start(*environments, repositories=(RepositorySettings(name="r", url=f"file://{bare}"),))
    service.reconcile_repository("r", actor="poll")
    tree = git(bare, "rev-parse", "bad^{tree}")
    seen, wanted = [], []

    for number, (head, code) in enumerate(HEADS.items()):
        git(bare, "update-ref", "refs/heads/bad", _written(bare, f"tree {tree}\nparent {parent}\n{head}\nx\n"))
        wanted.append((code, parent, _commit(folder, "good", f"text{number}")))
        found = {each.environment: each for each in service.reconcile_repository("r", actor="poll")}
        seen.append((found["bad"].code, found["bad"].active, found["good"].active))

    assert seen == wanted


def _commit(folder: Path, name: str, text: str) -> str:
    git(folder, "checkout", "-q", "-B", name)
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "a.yaml").write_text(FLOW.format(name=name, text=text))
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=Ann", "-c", "user.email=ann@example.org", "commit", "-qm", "change")
    git(folder, "push", "-q", "origin", name)
    return git(folder, "rev-parse", "HEAD")


def _written(bare: Path, content: str) -> str:
    command = ["git", "-C", str(bare), "hash-object", "-t", "commit", "-w", "--stdin", "--literally"]
    return subprocess.run(command, input=content.encode(), capture_output=True, check=True).stdout.decode().strip()
