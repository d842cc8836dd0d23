"""Which commits are new, told from what git itself says."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from runner.errors import InvalidError
from sync.repository import GitRepository
from sync.signatures.history import MOST_NEW, new_commits
from tests.servers.git import git
from tests.servers.signers import run


def grown(folder: Path, shape: list[tuple[int, ...]], dates: list[int]) -> list[str]:
    """Make commits whose parents are earlier ones, by number, with one tree; return their ids."""
    tree = run("git", "hash-object", "-t", "tree", "-w", "--stdin", folder=folder, given=b"")
    made: list[str] = []
    for number, (parents, date) in enumerate(zip(shape, dates, strict=True)):
        lines = [f"tree {tree}", *(f"parent {made[parent]}" for parent in parents)]
        who = f"Ann <ann@example.org> {date} +0000"
        text = "\n".join([*lines, f"author {who}", f"committer {who}", "", str(number)])
        made.append(run("git", "hash-object", "-t", "commit", "-w", "--stdin", folder=folder, given=text.encode()))
    return made


@pytest.mark.parametrize("seed", range(4))
def test_commits_are_those_that_git_counts_from_one_to_another(
    work_tree: Any, repository: GitRepository, seed: int
) -> None:
    chance = random.Random(seed)
    parents = [chance.sample(range(max(0, each - 6), each), min(each, chance.choice((1, 1, 2)))) for each in range(25)]
    shape = [tuple(each) for each in parents]
    dates = [1_700_000_000 + number // 4 for number in range(25)]  # several in each second
    commits = grown(work_tree.path, shape, dates)
    pairs = [chance.sample(commits, 2) for _ in range(8)]

    found = [set(new_commits(repository, base, tip)) for base, tip in pairs]

    assert found == [set(git(work_tree.path, "rev-list", f"{base}..{tip}").split()) for base, tip in pairs]


def test_false_dates_never_hide_a_commit(work_tree: Any, repository: GitRepository) -> None:
    chance = random.Random(7)
    shape: list[tuple[int, ...]] = [(), (0,), (0,), (1,), (2,), (3, 4), (5,), (4,), (6, 7)]
    commits = grown(work_tree.path, shape, [chance.choice((0, 1_700_000_000, 10**17, 4_000_000_000)) for _ in shape])

    found = {(base, tip): set(new_commits(repository, base, tip)) for base in commits for tip in commits if base != tip}

    for (base, tip), fresh in found.items():
        assert fresh >= set(git(work_tree.path, "rev-list", f"{base}..{tip}").split())


def test_more_new_commits_than_can_be_verified_are_refused(work_tree: Any, repository: GitRepository) -> None:
    lines = ["commit refs/heads/main", "mark :1", "committer Ann <ann@example.org> 1700000000 +0000", "data 0", ""]
    for number in range(2, MOST_NEW + 3):
        lines += [
            "commit refs/heads/main",
            f"mark :{number}",
            f"committer Ann <ann@example.org> {1_700_000_000 + number} +0000",
            "data 0",
            f"from :{number - 1}",
            "",
        ]
    run("git", "fast-import", "--quiet", folder=work_tree.path, given="\n".join(lines).encode())
    commits = git(work_tree.path, "rev-list", "main").split()

    whole = new_commits(repository, commits[MOST_NEW], commits[0])
    with pytest.raises(InvalidError) as refused:
        new_commits(repository, commits[-1], commits[0])

    assert len(whole) == MOST_NEW
    assert refused.value.code == "signature.history.long"
